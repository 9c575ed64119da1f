"""`litemedsam adapt`: better masks on one's own kind of image, from a few labelled cases."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litemedsam_jax.commands import training_command as shared
from litemedsam_jax.commands.field_flags import add_flags, from_flags

if TYPE_CHECKING:
    from litemedsam_jax.adaptation.adapt import Adaptation, Adapter
    from litemedsam_jax.adaptation.cases import LabelledCase
    from litemedsam_jax.config import ModelConfig
    from litemedsam_jax.training.config import TrainingConfig

DESCRIPTION = """\
Learns from labelled cases: prompt encoder and mask decoder train, the image encoder stays.

  litemedsam adapt -i images -l labels -o my.safetensors
  python infer.py --weights my.safetensors -i new_images --boxes boxes -o masks --strategy best

Images are npz cases, NIfTI and other volumes, DICOM series or 2D images; a label map is named as
its image. Cases are held out in turn: what a decoder gains on cases that it did not learn from says
whether learning pays, and how far to go. The result learns from all, holds on to what the weights
knew, and is blended with them so that other kinds of images (--anchor) lose half a point of DSC at
most. Steps of --postprocess are tried too, with and without learning; the last line says what to
use. Where no gain is sure no file is written. Every slice is encoded once: repeat the command and
it goes on from the embeddings that are there.

  litemedsam adapt -i images -l labels --estimate      what is to be gained; writes no weights

Exit status: 0 done; 1 an error, in one line, or no sure gain; 2 wrong arguments; 143 SIGTERM.
"""
DEFAULTS: dict[str, Any] = {
    "batch_size": 8,
    "workers": 0,
    "prompts": "use",
    "flips": False,
    "learning_rate": 1e-4,
    "schedule": "cosine",
    "warmup_steps": 10,
    "freeze": ("encoder",),
    "clip_norm": 1.0,
    "epochs": 1,
}
FOLDS = 3
# What of training's options can be changed here.
_FLAGS = (
    "batch_size", "prompts", "flips", "seed", "learning_rate", "warmup_steps", "steps_per_epoch",
    "anchor_weight",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    from litemedsam_jax.training.config import (
        DataConfig,
        LossConfig,
        OptimizerConfig,
        TrainingConfig,
    )

    add = parser.add_argument
    add("-i", "--images", type=Path, required=True, metavar="DIR", help="images to learn from")
    add("-l", "--labels", type=Path, required=True, metavar="DIR", help="their label maps")
    add("-o", "--output", type=Path, metavar="FILE", help="weights, .safetensors")
    add("--labelled-only", action="store_true", help="leave images without labels out")
    add(
        "--estimate",
        action="store_true",
        help="hold out one case after the other, say what is gained, write no weights",
    )
    add(
        "--folds",
        type=int,
        default=FOLDS,
        metavar="N",
        help=f"groups of cases that are held out in turn (default: {FOLDS})",
    )
    add("--weights", type=Path, metavar="FILE", help="to start from (default: the published ones)")
    add(
        "--strategy",
        default="best",
        metavar="NAME",
        help="with which held-out cases are segmented: the one of later use; slice: volumes from "
        "one box on one slice of each object, propagated (default: best)",
    )
    add(
        "--anchor",
        type=Path,
        default=Path("demo"),
        metavar="DIR",
        help="cases of other kinds (imgs/ and gts/ of npz) that must not become worse; "
        "(default: demo, where there is such a folder)",
    )
    add(
        "--embedding-cache",
        type=Path,
        metavar="DIR",
        help="where embeddings are kept, 2 MiB a slice (default: beside the output)",
    )
    add(
        "--cache-limit",
        type=float,
        default=20.0,
        metavar="GIB",
        help="most that they may take (default: 20)",
    )
    add("-device", "--device", metavar="NAME", help="cpu, gpu or tpu (default: the best there is)")
    classes = (DataConfig, LossConfig, OptimizerConfig, TrainingConfig)
    add_flags(parser, "adapt", *classes, defaults=DEFAULTS, only=_FLAGS)


def run(args: argparse.Namespace) -> int:
    """Adapts; returns the exit status."""
    args.resume = args.world_size = args.node_rank = None
    args.init_method = "env://"
    return shared.run_guarded(args, _adapt)


def _adapt(args: argparse.Namespace) -> int:
    from litemedsam_jax.adaptation.adapt import Adapter, Start, Stopped, adapt
    from litemedsam_jax.adaptation.cases import read_cases
    from litemedsam_jax.inference.strategies import parse
    from litemedsam_jax.training import finetune
    from litemedsam_jax.training.devices import say
    from litemedsam_jax.training.initial_weights import whole_model
    from litemedsam_jax.weights.adaptation_note import FROM_SLICE

    if args.strategy != FROM_SLICE:
        parse(args.strategy)
    _check_output(args)
    cases = read_cases(args.images, args.labels, args.labelled_only)
    variables, model, counters = whole_model(args.weights, None, 0)
    finetune.check_trainable(model)
    config = _config(args, model)
    if args.embedding_cache is None:
        args.embedding_cache = Path(config.work_dir) / "embeddings"
    embeddings, engine = shared.open_cache(args, variables, model)
    start = Start(variables, counters, engine, embeddings)
    adapter = Adapter(config, start, _anchor_cases(args), args.strategy)
    try:
        if args.estimate:
            return _estimate(args, adapter, cases)
        adaptation = adapt(adapter, cases, args.folds)
        _draw(config, cases, adapter, adaptation)
        return _conclude(args, config, adaptation, counters)
    except Stopped:
        say("stopped by SIGTERM; nothing was written, the embeddings stay for the next time")
        return 143


def _draw(
    config: "TrainingConfig",
    cases: "Sequence[LabelledCase]",
    adapter: "Adapter",
    adaptation: "Adaptation",
) -> None:
    from litemedsam_jax.adaptation.pictures import draw_held_out
    from litemedsam_jax.training.devices import say

    share, step = adaptation.estimate.blend, adaptation.estimate.step
    if share or step:
        path = Path(config.work_dir) / "held_out.png"
        draw_held_out(path, cases, adapter.pictured, share, step)
        say(f"held-out cases before and after: {path}")


def _anchor_cases(args: argparse.Namespace) -> "list[LabelledCase]":
    from litemedsam_jax.adaptation.cases import read_cases
    from litemedsam_jax.training.devices import say

    if (args.anchor / "imgs").is_dir() and (args.anchor / "gts").is_dir():
        return read_cases(args.anchor / "imgs", args.anchor / "gts", skip_unlabelled=True)
    say(
        f"note: {args.anchor} has no imgs/ and gts/ (--anchor): only your own images, with boxes "
        "elsewhere, keep what was known; what other kinds lose is not measured"
    )
    return []


def _estimate(args: argparse.Namespace, adapter: "Adapter", cases: "Sequence[LabelledCase]") -> int:
    from litemedsam_jax.adaptation import record
    from litemedsam_jax.adaptation.adapt import expectation
    from litemedsam_jax.training.devices import say

    expected = expectation(adapter, cases, len(cases))
    print(record.blend_table(expected))
    print(record.table(expected))
    if not expected.blend and not expected.estimate.step:
        say("no sure gain on held-out cases: keep the weights you have, or label more cases")
        return 1
    say(f"{record.summary(expected, args.strategy)}; to get them: the same with -o, no --estimate")
    return 0


def _check_output(args: argparse.Namespace) -> None:
    if args.output is None:
        if not args.estimate:
            raise ValueError("-o FILE.safetensors is missing (only --estimate writes no weights)")
        args.output = Path("adapt.safetensors")  # names the folder of embeddings and curves
    if args.output.suffix != ".safetensors":
        raise ValueError(f"-o {args.output}: expected a name that ends in .safetensors")
    if args.weights is not None and args.output.resolve() == args.weights.resolve():
        raise ValueError(f"-o {args.output}: would replace the weights to start from")


def _config(args: argparse.Namespace, model: "ModelConfig") -> "TrainingConfig":
    from litemedsam_jax.training.config import (
        DataConfig,
        LossConfig,
        OptimizerConfig,
        TrainingConfig,
    )

    return from_flags(
        TrainingConfig,
        args,
        defaults=DEFAULTS,
        stage="finetune",
        model=model,
        work_dir=f"{args.output.with_suffix('')}.run",
        data=from_flags(DataConfig, args, defaults=DEFAULTS, sources=(str(args.images),)),
        optimizer=from_flags(OptimizerConfig, args, defaults=DEFAULTS),
        loss=from_flags(LossConfig, args, defaults=DEFAULTS),
    )


def _conclude(
    args: argparse.Namespace,
    config: "TrainingConfig",
    adaptation: "Adaptation",
    counters: dict[str, int],
) -> int:
    from litemedsam_jax.adaptation import record
    from litemedsam_jax.training.devices import say
    from litemedsam_jax.weights import safetensors_file

    print(record.blend_table(adaptation))
    print(record.table(adaptation))
    if not adaptation.blend and not adaptation.estimate.step:
        why = "other kinds would lose too much" if adaptation.anchor_after else "no sure gain"
        say(f"{why}: keep the weights you have, or label more cases (curves: {config.work_dir})")
        return 1
    metadata = record.metadata_of(adaptation, args.strategy)
    variables = adaptation.variables
    safetensors_file.save(args.output, variables, config.model, counters, metadata)
    say(f"{record.summary(adaptation, args.strategy)}; weights: {args.output}")
    return 0
