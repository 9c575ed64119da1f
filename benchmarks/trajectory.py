"""Losses of a fine-tuning, step by step, to compare precisions: the same samples in the same order.

  python benchmarks/trajectory.py run float32.jsonl
  python benchmarks/trajectory.py run control.jsonl --perturb 1e-6     how far rounding alone leads
  python benchmarks/trajectory.py run bfloat16.jsonl --precision bfloat16
  python benchmarks/trajectory.py compare float32.jsonl control.jsonl bfloat16.jsonl

The published weights, AdamW and augmentation with their defaults, slices of a folder of cases. A
run that was stopped goes on from its newest state (FILE.npz, written every 20 steps).
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this copy of the package
_SAVED_EVERY = 20
_SLICES = 8  # of a case


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    add = (one := commands.add_parser("run")).add_argument
    add("output", type=Path, help="JSON lines: step, loss and its terms, norm of the gradient")
    add("--precision", choices=("float32", "bfloat16"), default="float32")
    add("--perturb", type=float, default=0.0, help="relative noise in the weights, rms")
    add("--steps", type=int, default=200)
    add("--batch", type=int, default=2)
    add("--cases", type=Path, default=Path("demo"), help="folder with imgs/ and gts/")
    add("--threads", type=int, help="default: all cores")
    one.set_defaults(command=run)
    add = (two := commands.add_parser("compare")).add_argument
    add("files", type=Path, nargs="+", help="the first is what the others are compared with")
    add("--window", type=int, default=50)
    two.set_defaults(command=compare)
    args = parser.parse_args()
    args.command(args)


def run(args: argparse.Namespace) -> None:
    """Trains, and adds a line to the output for each step."""
    from litemedsam_jax import process
    from litemedsam_jax.engine import cores

    process.apply(process.ProcessNeeds(tunables=process.TRAINING_PAGES))  # as train.py has it
    if args.threads:
        cores.limit(args.threads)
    import jax

    from litemedsam_jax.config import lite_medsam
    from litemedsam_jax.training.config import DataConfig, TrainingConfig
    from litemedsam_jax.training.samples import FinetuneSample

    data = DataConfig(("-",), batch_size=args.batch)
    config = TrainingConfig("finetune", lite_medsam(), data, dtype=args.precision)
    step, state = _training(config, args.perturb)
    saved = args.output.with_suffix(".npz")
    first, state = _restored(saved, state)
    lines = args.output.read_text().splitlines()[:first] if first else []
    args.output.write_text("".join(f"{line}\n" for line in lines))
    samples = list(_slices(args.cases))
    make = FinetuneSample(data, config.model.image_encoder.image_size)
    print(f"{len(samples)} slices, from step {first} on", flush=True)
    with args.output.open("a") as output:
        for number in range(first, args.steps):
            random = np.random.default_rng((7, number))
            chosen = [samples[k] for k in random.integers(len(samples), size=args.batch)]
            made = [make.random_map(one, random) for one in chosen]
            batch = {key: np.stack([one[key] for one in made])[None, None] for key in made[0]}
            del batch["name"]
            began = time.perf_counter()
            state, metrics = step(state, batch)
            values = {key: float(value) for key, value in metrics.items()}
            values |= {"step": number, "seconds": round(time.perf_counter() - began, 2)}
            output.write(json.dumps(values) + "\n")
            output.flush()
            if (number + 1) % _SAVED_EVERY == 0:
                arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
                np.savez(saved, np.array(number + 1), *arrays)


def _training(config, perturb: float):
    """The step as training runs it, and the state before the first."""
    import jax
    from training import step_and_state

    from litemedsam_jax.training import devices, initial_weights
    from litemedsam_jax.weights import default_weights

    devices.launch(devices.Hosts())
    variables, _, _ = initial_weights.whole_model(default_weights.find(), None, 0)
    random = np.random.default_rng(0)
    variables["params"] = jax.tree.map(
        lambda p: p * (1 + perturb * random.normal(size=p.shape)).astype(np.float32),
        variables["params"],
    )
    return step_and_state(config, variables)


def _restored(saved: Path, state):
    """The step to go on with, and the state before it."""
    import jax

    if not saved.exists():
        return 0, state
    with np.load(saved) as arrays:
        number, *leaves = (arrays[name] for name in arrays.files)
    return int(number), jax.tree.unflatten(jax.tree.structure(state), leaves)


def _slices(cases: Path) -> Iterator:
    """Slices with objects, at most `_SLICES` of a case, from its first to its last."""
    from litemedsam_jax.preparation.training_set import read_slices
    from litemedsam_jax.training.catalog import Slice

    for truth in sorted((cases / "gts").glob("*.npz")):
        slices = [one for one in read_slices(cases / "imgs" / truth.name, truth) if one[0].labels]
        picked = np.linspace(0, len(slices) - 1, min(len(slices), _SLICES)).round().astype(int)
        yield from (Slice(*slices[k]) for k in picked)


def compare(args: argparse.Namespace) -> None:
    """Prints mean losses of windows, and how far the others are from the first."""
    runs = [[json.loads(line)["loss"] for line in file.open()] for file in args.files]
    steps = min(map(len, runs))
    losses = np.array([one[:steps] for one in runs])
    starts = range(0, steps, args.window)
    windows = [(f"{k} to {min(k + args.window, steps) - 1}", k, k + args.window) for k in starts]
    for name, first, end in [*windows, ("all", 0, steps)]:
        means = losses[:, first:end].mean(1)
        others = (f"{mean:.4f} ({mean / means[0] - 1:+.1%})" for mean in means[1:])
        print(f"{name:12s} {means[0]:.4f}", *others, sep="  ")
    for file, one in zip(args.files[1:], losses[1:], strict=True):
        apart = np.abs(one / losses[0] - 1)
        print(f"{file.stem}: single steps differ by {np.median(apart):.1%} in the median")


if __name__ == "__main__":
    main()
