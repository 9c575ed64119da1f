"""What the options that both stages share become: a configuration, hosts, an exit status."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from litemedsam_jax.config import (
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    TrainingConfig,
    lite_medsam,
)


def work_dir(args: argparse.Namespace) -> Path:
    """The run's folder; --resume may name it."""
    if args.resume and args.resume != "auto":
        return Path(args.resume)
    return args.work_dir / args.task_name if args.task_name else args.work_dir


def data_config(args: argparse.Namespace, **more: Any) -> DataConfig:
    return DataConfig(
        sources=tuple(args.data_root),
        val_sources=tuple(args.val_dir),
        val_fraction=args.val_fraction,
        val_slices=args.val_slices,
        batch_size=args.batch_size,
        workers=args.num_workers,
        flips=args.data_aug,
        balance=args.balance,
        overfit=args.overfit,
        seed=args.seed,
        **more,
    )


def optimizer_config(args: argparse.Namespace, **more: Any) -> OptimizerConfig:
    return OptimizerConfig(
        learning_rate=args.learning_rate,
        weight_decay=args.weight_decay,
        warmup_steps=args.warmup_steps,
        layer_decay=args.layer_decay,
        clip_norm=args.clip_norm,
        accumulate=args.accumulate,
        ema_decay=args.ema,
        **more,
    )


def training_config(
    args: argparse.Namespace,
    stage: str,
    model: ModelConfig,
    data: DataConfig,
    optimizer: OptimizerConfig,
    loss: LossConfig | None = None,
) -> TrainingConfig:
    epochs, steps = (40, 25) if args.overfit else (args.usual_epochs, 0)
    return TrainingConfig(
        stage=stage,
        work_dir=str(work_dir(args)),
        model=model,
        data=data,
        optimizer=optimizer,
        loss=loss or LossConfig(),
        dtype=args.precision,
        remat=args.remat,
        early_stop=args.early_stop,
        save_every=args.save_every,
        keep=args.keep,
        log_every=args.log_every,
        save_pth=args.save_pth,
        epochs=args.num_epochs or epochs,
        steps_per_epoch=args.steps_per_epoch or steps,
    )


def starting_point(args: argparse.Namespace, path: Path | None, read: Callable[..., Any]) -> Any:
    """What `read` (of initial_weights) makes of a checkpoint, or of none (--from-scratch)."""
    if args.from_scratch:
        return read(None, lite_medsam(), args.seed)
    return read(path, None, args.seed)


def train(args: argparse.Namespace, config: TrainingConfig, stage: Any, catalog: Any) -> Any:
    """Runs a stage as the options say; how it ended (loop.Result), None after --dry-run."""
    from litemedsam_jax.training.setup import holds_run, run_stage

    resume = args.resume is not None
    if args.resume == "auto":
        resume = holds_run(work_dir(args))
    return run_stage(config, stage, catalog, resume=resume, dry_run=args.dry_run)


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
    from litemedsam_jax.training.devices import Hosts, LaunchError, launch
    from litemedsam_jax.training.loop import NotFiniteError

    known = (OSError, ValueError, LaunchError, SaveError, NotFiniteError)
    try:
        launch(Hosts(args.world_size, args.node_rank, args.init_method), args.device)
        return body(args)
    except known as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def conclude(args: argparse.Namespace, result: Any, output: str) -> int:
    """Says how a run ended; the exit status (143 after SIGTERM, as of a terminated process)."""
    from litemedsam_jax.training.devices import say

    if result is None:
        return 0
    if result.reason == "stopped":
        say(f"stopped as asked, at step {int(result.state.step)}; continue with --resume")
        return 143
    endings = {
        "early": "stopped early: no better score",
        "target": "reached the aim",
        "done": "done",
    }
    say(f"{endings[result.reason]}; weights: {work_dir(args) / output}")
    return 0
