"""`litemedsam adapt`: better masks on one's own kind of image, from a few labelled cases."""

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litemedsam_jax.commands import training_command as shared
from litemedsam_jax.commands.field_flags import add_flags, from_flags

if TYPE_CHECKING:
    from litemedsam_jax.adaptation.adapt import Adaptation
    from litemedsam_jax.config import ModelConfig
    from litemedsam_jax.training.config import TrainingConfig

DESCRIPTION = """\
Learns from labelled cases: prompt encoder and mask decoder train, the image encoder stays.

  litemedsam adapt -i images -l labels -o my.safetensors
  python infer.py --weights my.safetensors -i new_images --boxes boxes -o masks --strategy best

Images are npz cases, NIfTI and other volumes, DICOM series or 2D images; a label map is named as
its image. Some cases are held out; the result is what segments them best with --strategy, blended
with the start so that other kinds of images (--anchor) lose half a point of DSC at most. Where
nothing is gained no file is written. Every slice is encoded once: repeat the command and it goes on
from the embeddings that are there.

Exit status: 0 done; 1 an error, in one line, or nothing gained; 2 wrong arguments; 143 SIGTERM.
"""
DEFAULTS: dict[str, Any] = {
    "batch_size": 8,
    "workers": 0,
    "prompts": "use",
    "flips": False,
    "learning_rate": 1e-4,
    "schedule": "constant",
    "warmup_steps": 10,
    "freeze": ("encoder",),
    "epochs": 10,
    "steps_per_epoch": 20,
    "early_stop": 3,
    "val_fraction": 0.25,
}
# What of training's options can be changed here.
_FLAGS = (
    "val_fraction", "batch_size", "prompts", "flips", "seed", "learning_rate", "warmup_steps",
    "epochs", "steps_per_epoch", "early_stop",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    from litemedsam_jax.training.config import DataConfig, OptimizerConfig, TrainingConfig

    add = parser.add_argument
    add("-i", "--images", type=Path, required=True, metavar="DIR", help="images to learn from")
    add("-l", "--labels", type=Path, required=True, metavar="DIR", help="their label maps")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="weights, .safetensors")
    add("--weights", type=Path, metavar="FILE", help="to start from (default: the published ones)")
    add(
        "--strategy",
        default="best",
        metavar="NAME",
        help="with which held-out cases are segmented: the one of later use (default: best)",
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
    classes = (DataConfig, OptimizerConfig, TrainingConfig)
    add_flags(parser, "adapt", *classes, defaults=DEFAULTS, only=_FLAGS)


def run(args: argparse.Namespace) -> int:
    """Adapts; returns the exit status."""
    args.resume = args.world_size = args.node_rank = None
    args.init_method = "env://"
    return shared.run_guarded(args, _adapt)


def _adapt(args: argparse.Namespace) -> int:
    from litemedsam_jax.adaptation import adapt
    from litemedsam_jax.adaptation.cases import read_cases
    from litemedsam_jax.inference.strategies import parse
    from litemedsam_jax.training import finetune
    from litemedsam_jax.training.devices import say
    from litemedsam_jax.training.initial_weights import whole_model

    parse(args.strategy)
    _check_output(args)
    cases = read_cases(args.images, args.labels)
    variables, model, counters = whole_model(args.weights, None, 0)
    finetune.check_trainable(model)
    config = _config(args, model)
    fraction, seed = config.data.val_fraction, config.data.seed
    training, validation = adapt.split_cases(cases, fraction, seed)
    anchor = []
    if (args.anchor / "imgs").is_dir() and (args.anchor / "gts").is_dir():
        anchor = read_cases(args.anchor / "imgs", args.anchor / "gts", skip_unlabelled=True)
    else:
        say(f"note: {args.anchor} has no imgs/ and gts/ (--anchor): what other kinds lose is open")
    if args.embedding_cache is None:
        args.embedding_cache = Path(config.work_dir) / "embeddings"
    embeddings, encode = shared.open_cache(args, variables, model)
    start = adapt.Start(variables, counters, encode, embeddings)
    # A run of seconds to minutes starts anew; what takes long, the embeddings, is kept.
    shutil.rmtree(Path(config.work_dir) / "checkpoints", ignore_errors=True)
    adaptation = adapt.adapt(config, start, training, validation, anchor, strategy=args.strategy)
    return _conclude(args, config, adaptation, counters)


def _check_output(args: argparse.Namespace) -> None:
    if args.output.suffix != ".safetensors":
        raise ValueError(f"-o {args.output}: expected a name that ends in .safetensors")
    if args.weights is not None and args.output.resolve() == args.weights.resolve():
        raise ValueError(f"-o {args.output}: would replace the weights to start from")


def _config(args: argparse.Namespace, model: "ModelConfig") -> "TrainingConfig":
    from litemedsam_jax.training.config import DataConfig, OptimizerConfig, TrainingConfig

    return from_flags(
        TrainingConfig,
        args,
        defaults=DEFAULTS,
        stage="finetune",
        model=model,
        work_dir=f"{args.output.with_suffix('')}.run",
        data=from_flags(DataConfig, args, defaults=DEFAULTS, sources=(str(args.images),)),
        optimizer=from_flags(OptimizerConfig, args, defaults=DEFAULTS),
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

    if adaptation.outcome.reason == "stopped":
        say("stopped by SIGTERM; nothing was written, the embeddings stay for the next time")
        return 143
    print(record.table(adaptation))
    if not adaptation.blend:
        say(
            "nothing gained on the held-out cases: keep the weights you have, or label more cases "
            f"(curves: {config.work_dir}/curves.png)"
        )
        return 1
    metadata = record.metadata_of(adaptation, args.strategy)
    variables = adaptation.variables
    safetensors_file.save(args.output, variables, config.model, counters, metadata)
    say(f"{record.summary(adaptation, args.strategy)}; weights: {args.output}")
    return 0
