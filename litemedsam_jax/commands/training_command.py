"""What `finetune` and `distill` share: flags of a run, resuming, known errors, exit statuses."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from litemedsam_jax.commands.field_flags import add_flags, from_flags
from litemedsam_jax.config import ModelConfig, lite_medsam
from litemedsam_jax.training.config import (
    DataConfig,
    Hosts,
    LossConfig,
    OptimizerConfig,
    TrainingConfig,
)

if TYPE_CHECKING:
    from litemedsam_jax.engine.engine import Engine
    from litemedsam_jax.training.catalog import Catalog
    from litemedsam_jax.training.embedding_files import EmbeddingFiles
    from litemedsam_jax.training.loop import Outcome
    from litemedsam_jax.training.setup import TrainingTask

# Defaults of --overfit, where neither epochs nor steps are given.
_OVERFIT = {"epochs": 40, "steps_per_epoch": 25}


def add_shared(parser: argparse.ArgumentParser, command: str, defaults: Mapping[str, Any]) -> None:
    """Adds the flags of a run of training.

    Args:
        parser: the command's.
        command: "finetune" or "distill".
        defaults: by field name, where they are not those of `training.config`.
    """
    classes = (DataConfig, LossConfig, OptimizerConfig, TrainingConfig, Hosts)
    add_flags(parser, command, *classes, defaults=defaults)
    add = parser.add_argument_group("start, resume, check").add_argument
    add("-task_name", "--task-name", metavar="NAME", help="a folder of this name in -work_dir")
    add(
        "-resume",
        "--resume",
        nargs="?",
        const="",
        metavar="DIR",
        help="continue the run in the work folder (or in DIR) exactly where it was saved last; "
        "auto: or start it, where nothing was saved yet",
    )
    add("--from-scratch", action="store_true", help="start at random, not from a checkpoint")
    add(
        "--dry-run",
        action="store_true",
        help="print model, data and memory plan and one step's time, train nothing",
    )
    add(
        "-device",
        "--device",
        metavar="NAME",
        help="cpu, gpu (or cuda:0) or tpu (default: the best there is; all its devices)",
    )
    add("-bucket_cap_mb", "--bucket_cap_mb", help=argparse.SUPPRESS)  # PyTorch's; means nothing


def training_config(
    args: argparse.Namespace, stage: str, model: ModelConfig, defaults: Mapping[str, Any]
) -> TrainingConfig:
    """The run that a command line asks for.

    Args:
        args: of a parser that `add_shared` has filled.
        stage: "finetune" or "distill".
        model: the network.
        defaults: those given to `add_shared`.
    """
    if args.overfit:
        defaults = {**defaults, **_OVERFIT}
    return from_flags(
        TrainingConfig,
        args,
        defaults=defaults,
        stage=stage,
        model=model,
        work_dir=str(work_dir(args, defaults)),
        data=from_flags(DataConfig, args, defaults=defaults),
        optimizer=from_flags(OptimizerConfig, args, defaults=defaults),
        loss=from_flags(LossConfig, args, defaults=defaults),
    )


def work_dir(args: argparse.Namespace, defaults: Mapping[str, Any]) -> Path:
    """The run's folder; --resume may name it."""
    if args.resume and args.resume != "auto":
        return Path(args.resume)
    folder = Path(args.work_dir or defaults["work_dir"])
    return folder / args.task_name if args.task_name else folder


def starting_point(args: argparse.Namespace, path: Path | None, read: Callable[..., Any]) -> Any:
    """What `read` (of initial_weights) makes of a checkpoint, or of none (--from-scratch)."""
    seed = DataConfig().seed if args.seed is None else args.seed
    if args.from_scratch:
        return read(None, lite_medsam(), seed)
    return read(path, None, seed)


def open_cache(
    args: argparse.Namespace, variables: dict[str, Any], model: ModelConfig
) -> "tuple[EmbeddingFiles, Engine]":
    """The cache of --embedding-cache, and inference's engine, whose encoder fills it.

    Args:
        args: with `embedding_cache` and `cache_limit` (GiB).
        variables: nested, as training starts from them.
        model: their architecture.
    """
    from litemedsam_jax.engine.engine import Engine
    from litemedsam_jax.training.devices import platform
    from litemedsam_jax.training.embedding_files import EmbeddingFiles, encoder_digest
    from litemedsam_jax.weights.tree import flatten

    flat = {name: np.asarray(value) for name, value in flatten(variables).items()}
    encoder = model.image_encoder
    shape = (encoder.grid_size, encoder.grid_size, encoder.out_dim)
    limit = int(args.cache_limit * 2**30)
    cache = EmbeddingFiles(args.embedding_cache, encoder_digest(flat), shape, limit)
    return cache, Engine(flat, model, platform())


def train(
    args: argparse.Namespace, config: TrainingConfig, task: "TrainingTask", catalog: "Catalog"
) -> "Outcome | None":
    """Trains as the flags say; returns how it ended, None after --dry-run."""
    from litemedsam_jax.engine import precision
    from litemedsam_jax.training import devices
    from litemedsam_jax.training.setup import holds_run, run_training

    note = precision.choose(config.dtype, devices.platform()).note
    if note:
        devices.say(note)
    resume = args.resume is not None
    if args.resume == "auto":
        resume = holds_run(Path(config.work_dir))
    return run_training(config, task, catalog, resume=resume, dry_run=args.dry_run)


def run_guarded(args: argparse.Namespace, body: Callable[[argparse.Namespace], int]) -> int:
    """Joins the hosts, runs, and turns the known errors into one line and exit status 1."""
    if args.resume and args.resume != "auto" and not Path(args.resume).is_dir():
        hint = ", or start from a checkpoint file with -pretrained_checkpoint"
        print(f"error: -resume {args.resume}: expected a work folder{hint}", file=sys.stderr)
        return 2
    # Orbax and grain log what nobody asked for.
    from absl import logging

    logging.set_verbosity(logging.ERROR)
    from litemedsam_jax.training.checkpoints import SaveError
    from litemedsam_jax.training.devices import LaunchError, launch
    from litemedsam_jax.training.loop import NotFiniteError

    known = (OSError, ValueError, LaunchError, SaveError, NotFiniteError)
    try:
        launch(from_flags(Hosts, args), args.device)
        return body(args)
    except known as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def conclude(config: TrainingConfig, outcome: "Outcome | None", output: str) -> int:
    """Prints how a run ended; the exit status (143 after SIGTERM, as of a terminated process)."""
    from litemedsam_jax.training.devices import say

    if outcome is None:
        return 0
    if outcome.reason == "stopped":
        say(f"stopped by SIGTERM at step {int(outcome.state.step)}; continue with --resume")
        return 143
    endings = {
        "early": "stopped early: no better score",
        "target": "reached the target score",
        "done": "done",
    }
    say(f"{endings[outcome.reason]}; weights: {Path(config.work_dir) / output}")
    return 0
