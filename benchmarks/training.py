"""Training throughput: seconds a step here and in the torch oracle, and the data pipeline's.

  python benchmarks/training.py                     both frameworks, CPU or GPU as they find it
  python benchmarks/training.py --threads 1         on one core each
  python benchmarks/training.py --cached --batch 8  the decoder alone, on cached embeddings: `adapt`
  python benchmarks/training.py --only data -data_root data/npy --workers 0 1 2 4

Each framework has a process of its own, on the same made-up batch with the published weights:
forward, loss, backward, AdamW. They take two steps in turn, so that a busy machine hurts both; the
second is timed. Processor time (user and system) is given beside the time on the clock. torch's
threads wait by spinning: on a busy machine compare processor time with --threads 1. Memory is the
process's peak on CPUs, the device allocator's peak on GPUs.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # the oracle lives in the tests


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", choices=("jax", "torch", "data"), help="default: jax and torch")
    add("--batch", type=int, default=1)
    add("--steps", type=int, default=5, help="timed pairs of steps, after two")
    add("--precision", choices=("float32", "bfloat16"), default="float32", help="of jax")
    add("--remat", action="store_true", help="of jax")
    add("--cached", action="store_true", help="frozen encoder, embeddings instead of images")
    add("--threads", type=int, help="cores of each process; default: all")
    add("--keep-memory", action="store_true", help="let torch's allocator keep freed memory too")
    add("-data_root", nargs="+", default=["data/npy"], help="for --only data")
    add("--workers", type=int, nargs="+", default=[0, 1, 2], help="for --only data")
    args = parser.parse_args()
    if args.only == "data":
        time_data(args)
    elif args.only:
        serve(args)
    else:
        compare(args)


def compare(args: argparse.Namespace) -> None:
    """Both, a step each in turn, and the quotients of the pairs."""
    with Runner("torch", args) as torch, Runner("jax", args) as jax:
        pairs = [(torch.second_step(), jax.second_step()) for _ in range(1 + args.steps)][1:]
        for runner, steps in zip((torch, jax), zip(*pairs, strict=True), strict=True):
            print(runner.text_of(steps))
    for name in ("seconds", "processor"):
        ratios = [ours[name] / theirs[name] for theirs, ours in pairs]
        low, high, middle = min(ratios), max(ratios), np.median(ratios)
        print(f"{name}, jax / torch: {middle:.2f} ({low:.2f} to {high:.2f}), {len(pairs)} pairs")


class Runner:
    """A framework's process, which takes a step when told."""

    def __init__(self, name: str, args: argparse.Namespace):
        self.name = name
        self.precision = args.precision if name == "jax" else "float32"
        self.batch = args.batch
        command = [sys.executable, __file__, "--only", name, "--batch", str(args.batch)]
        command += ["--precision", args.precision] + ["--remat"] * args.remat
        command += ["--cached"] * args.cached
        environment = dict(os.environ)
        if args.threads:
            command += ["--threads", str(args.threads)]
            environment["OMP_NUM_THREADS"] = str(args.threads)
        if name == "jax":
            from litemedsam_jax import process

            environment.setdefault("GLIBC_TUNABLES", process.TRAINING_PAGES)  # as train.py does
        if args.keep_memory and name == "torch":
            environment |= {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0"}
            environment["MALLOC_TRIM_THRESHOLD_"] = str(2**63)
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=environment
        )

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_) -> None:
        self._process.stdin.close()
        self._process.wait()

    def step(self) -> dict:
        """Seconds, processor seconds, peak memory so far, device."""
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        sys.exit(f"{self.name} failed (status {self._process.wait()})")

    def second_step(self) -> dict:
        """The second of two steps in a row, as in training: while the other framework was at work,
        some virtual machines have taken back the memory that a first one touches."""
        self.step()
        return self.step()

    def text_of(self, steps: Sequence[dict]) -> str:
        """One line of result."""
        seconds = [step["seconds"] for step in steps]
        processor = np.median([step["processor"] for step in steps])
        return (
            f"{self.name:5s} on {steps[-1]['device']}: {np.median(seconds):.2f} s a step (fastest "
            f"{min(seconds):.2f}), {processor:.2f} s of processor time, batch {self.batch}, "
            f"{self.precision}, peak {steps[-1]['peak_mib']:.0f} MiB"
        )


def serve(args: argparse.Namespace) -> None:
    """Takes a step for each line of the input, and says how it went in one of JSON."""
    if args.threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    run, description = {"jax": ready_jax, "torch": ready_torch}[args.only](args)
    for _ in sys.stdin:
        began, processor = time.perf_counter(), time.process_time()
        run()
        took = {
            "seconds": time.perf_counter() - began,
            "processor": time.process_time() - processor,
        }
        print(json.dumps({**took, **description()}), flush=True)


def made_up_batch(size: int, cached: bool) -> dict[str, np.ndarray]:
    """Noise, a rectangle, its box."""
    image = np.random.default_rng(0).random((size, 256, 256, 3), np.float32)
    mask = np.zeros((size, 256, 256), np.uint8)
    mask[:, 60:140, 80:180] = 1
    box = np.tile(np.array([78, 57, 183, 142], np.float32), (size, 1))
    if not cached:
        return {"image": image, "mask": mask, "box": box}
    embedding = np.random.default_rng(0).normal(0, 0.5, (size, 64, 64, 256)).astype(np.float16)
    return {"embedding": embedding, "mask": mask, "box": box}


def step_and_state(config, variables: dict) -> tuple[Callable, Any]:
    """The step as the loop runs it, (state, batch) -> (state, metrics), and its first state."""
    from litemedsam_jax.training import devices, optimizer, steps

    made = optimizer.make_optimizer(config, variables["params"], 100)
    step = steps.make_step(config, steps.finetune_loss(config, devices.AXIS), made, devices.AXIS)
    program = devices.DeviceFunction(step, mapped_output=False, donate=True, precision=config.dtype)
    return program, steps.init_state(variables, made, ema=False)


def ready_jax(args: argparse.Namespace) -> tuple[Callable, Callable]:
    """This project's step; and device and memory."""
    import jax

    from litemedsam_jax.config import lite_medsam
    from litemedsam_jax.training import devices, initial_weights
    from litemedsam_jax.training.config import DataConfig, OptimizerConfig, TrainingConfig
    from litemedsam_jax.training.decoding import decoder_variables
    from litemedsam_jax.weights import default_weights

    devices.launch(devices.Hosts())
    data = DataConfig(("-",), batch_size=args.batch)
    frozen = OptimizerConfig(freeze=("encoder",) if args.cached else ())
    config = TrainingConfig(
        "finetune", lite_medsam(), data, frozen, dtype=args.precision, remat=args.remat
    )
    variables, _, _ = initial_weights.whole_model(default_weights.find(), None, 0)
    if args.cached:  # as `adapt` has it: what does not train takes no part
        variables = decoder_variables(variables)
    program, state = step_and_state(config, variables)
    batch = {
        name: array[None, None] for name, array in made_up_batch(args.batch, args.cached).items()
    }

    def run() -> None:
        nonlocal state
        state, metrics = program(state, batch)
        float(metrics["loss"])

    def description() -> dict:
        device = jax.devices()[0]
        peak = (device.memory_stats() or {}).get("peak_bytes_in_use", 0) / 2**20
        return {"device": device.device_kind, "peak_mib": peak or peak_of_process()}

    return run, description


def ready_torch(args: argparse.Namespace) -> tuple[Callable, Callable]:
    """The reference's step: float32, no autocast, AdamW; and device and memory."""
    import torch

    from tests import oracle
    from tests.support.oracle_wheels import published_checkpoint

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = oracle.lite_medsam(published_checkpoint()).requires_grad_(True).train()
    model.to(device)
    trained = [model.prompt_encoder, model.mask_decoder] if args.cached else [model]
    parameters = [one for part in trained for one in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=5e-5, weight_decay=0.01)
    batch = made_up_batch(args.batch, args.cached)
    seen = batch["embedding" if args.cached else "image"]
    image = torch.from_numpy(np.moveaxis(seen, -1, 1).copy()).to(device)
    if args.cached:
        model.image_encoder.requires_grad_(False)
    mask = torch.from_numpy(batch["mask"])[:, None].float().to(device)
    box = torch.from_numpy(batch["box"])[:, None].to(device)

    def run() -> None:
        sparse, dense = model.prompt_encoder(points=None, boxes=box, masks=None)
        logits, iou = model.mask_decoder(
            image_embeddings=image.float() if args.cached else model.image_encoder(image),
            image_pe=model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        p = torch.sigmoid(logits)
        overlap, total = (p * mask).sum((1, 2, 3)), (p**2 + mask**2).sum((1, 2, 3))
        dice = (1 - (2 * overlap + 1e-5) / (total + 1e-5)).mean()
        bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, mask)
        loss = dice + bce + ((iou - 0.5) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    def description() -> dict:
        if device == "cpu":
            return {"device": device, "peak_mib": peak_of_process()}
        peak = torch.cuda.max_memory_allocated() / 2**20
        return {"device": torch.cuda.get_device_name(), "peak_mib": peak}

    return run, description


def time_data(args: argparse.Namespace) -> None:
    """Samples a second of the input pipeline, by number of workers."""
    from litemedsam_jax.training.catalog import open_catalog
    from litemedsam_jax.training.config import DataConfig
    from litemedsam_jax.training.data import training_batches
    from litemedsam_jax.training.samples import FinetuneSample

    catalog = open_catalog(args.data_root)
    print(catalog.describe())
    for workers in args.workers:
        data = DataConfig(tuple(args.data_root), workers=workers)
        batches = training_batches(catalog, FinetuneSample(data, 256), data, 8)
        for _ in range(4):  # until the workers have started
            next(batches)
        began, processor = time.perf_counter(), time.process_time()
        count = 50
        for _ in range(count):
            next(batches)
        speed = 8 * count / (time.perf_counter() - began)
        if workers:
            detail = f"{speed / workers:.0f} a worker"
        else:  # all in this process
            detail = f"{8 * count / (time.process_time() - processor):.0f} per processor second"
        print(f"{workers} workers: {speed:.0f} samples/s ({detail})", flush=True)
        batches.close()


def peak_of_process() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
