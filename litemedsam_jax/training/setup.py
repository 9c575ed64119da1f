"""Puts a run together: data, start, programs, folders; then the loop."""

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from litemedsam_jax.config import DataConfig, TrainingConfig
from litemedsam_jax.files import remove_stale
from litemedsam_jax.training import data as pipeline
from litemedsam_jax.training import devices, reporting
from litemedsam_jax.training.catalog import Catalog, DataError, open_catalog, split_by_case
from litemedsam_jax.training.checkpoints import Checkpoints
from litemedsam_jax.training.loop import NotFiniteError, Progress, Result, Run, termination, train
from litemedsam_jax.training.optimizer import learning_rate, make_optimizer, plateau_factor, trains
from litemedsam_jax.training.steps import LossFunction, TrainState, init_state, make_step
from litemedsam_jax.weights import store, torch_checkpoint
from litemedsam_jax.weights.errors import CheckpointError

TARGET_DSC = 0.95  # of --overfit


@dataclass(frozen=True)
class Stage:
    """What one of the two stages brings to a run.

    Attributes:
        variables: to start from. counters: torch's BatchNorm counters that belong to them.
        transform: slice to sample. loss: (config, axis) -> loss function.
        prepare: a batch as it comes from the pipeline -> one as the loss wants it.
        validate: (state, epoch) -> values, the score among them; None: no validation data.
        output: the weights file in the work folder.
    """

    variables: dict[str, Any]
    counters: dict[str, int]
    transform: Any
    loss: Callable[[TrainingConfig, str], LossFunction]
    prepare: Callable[[Any], Any]
    validate: Callable[[TrainState, int], dict[str, float]] | None
    output: str


def open_data(config: DataConfig, all_slices: bool = False) -> tuple[Catalog, Catalog | None]:
    """Training and validation slices. Raises sources.DataError."""
    catalog = open_catalog(config.sources, all_slices)
    devices.say(f"data: {catalog.describe()}")
    if config.overfit:
        chosen = np.linspace(0, len(catalog) - 1, min(config.overfit, len(catalog)))
        few = catalog.subset([int(i) for i in chosen.round()])
        return few, few
    if config.val_sources:
        validation = open_catalog(config.val_sources, all_slices)
        shared = {e.case for e in catalog.entries} & {e.case for e in validation.entries}
        if shared:
            raise DataError(
                f"{len(shared)} cases are in the training and the validation data, such as "
                f"{sorted(shared)[0]}; scores on them would mean nothing"
            )
        return catalog, validation
    if not config.val_fraction:
        return catalog, None
    return split_by_case(catalog, config.val_fraction, config.seed)


def run_stage(
    config: TrainingConfig, stage: Stage, catalog: Catalog, *, resume: bool, dry_run: bool = False
) -> Result | None:
    """Trains; returns how it ended, or None after a dry run.

    Raises:
        CheckpointError, DataError, loop.NotFiniteError, checkpoints.SaveError.
    """
    samples = config.data.batch_size * config.optimizer.accumulate * jax.device_count()
    per_epoch = config.steps_per_epoch or math.ceil(len(catalog) / samples)
    optimizer = make_optimizer(config, stage.variables["params"], per_epoch)
    state = init_state(stage.variables, optimizer, ema=bool(config.optimizer.ema_decay))
    step = make_step(config, stage.loss(config, devices.AXIS), optimizer, devices.AXIS)
    program = devices.Program(step, mapped_output=False, donate=True)
    start = partial(_batches, config, stage, catalog, samples)
    if dry_run:
        with closing(start(0)) as batches:
            _dry_run(config, stage, state, program, next(batches), samples, per_epoch)
        return None
    with termination() as stop_requested:
        checkpoints = Checkpoints(_checkpoint_folder(config, resume), config.keep)
        progress = Progress(data=catalog.fingerprint())
        if resume:
            state, progress = _resumed(checkpoints, state, progress)
        schedule = learning_rate(config, per_epoch)
        run = Run(
            config=config,
            step=lambda s, batch: program(s, stage.prepare(_on_devices(config, batch))),
            validate=stage.validate or (lambda s, epoch: {}),
            export=partial(export, config, stage),
            learning_rate=lambda s: float(schedule(s.step)) * plateau_factor(s.opt_state),
            checkpoints=checkpoints,
            report=_report(config, progress.step if resume else None),
            batches=start(progress.consumed),  # starts the workers, hence last
            global_batch=samples,
            steps_per_epoch=per_epoch,
            target=TARGET_DSC if config.data.overfit and config.stage == "finetune" else None,
        )
        try:
            return train(run, state, progress, stop_requested)
        except NotFiniteError:
            checkpoints.finish()  # what was on its way to the disk is still good
            raise
        finally:
            run.close()


def _report(config: TrainingConfig, resumed_at: int | None) -> reporting.Report | None:
    """Opens the work folder's report, after what killed runs have left; of the main host alone."""
    if not devices.is_main():
        return None
    folder = Path(config.work_dir)
    for place in (folder, folder / "predictions"):
        remove_stale(place)
    reporting.write_config(folder, config)
    return reporting.Report(folder, resumed_at)


def export(config: TrainingConfig, stage: Stage, state: TrainState) -> None:
    """Writes the weights for inference: safetensors, and .pth if asked for."""
    # Every host fetches (a collective where arrays are spread); one writes.
    variables = devices.fetch(state.variables())
    if not devices.is_main():
        return
    seen = int(state.step) * config.optimizer.accumulate
    counters = {key: count + seen for key, count in stage.counters.items()}
    path = Path(config.work_dir) / stage.output
    store.save(path, variables, config.model, torch_checkpoint.counters_to_text(counters))
    if config.save_pth:
        _write_pth(path.with_suffix(".pth"), variables, config, counters)


def _write_pth(path: Path, variables: Any, config: TrainingConfig, counters) -> None:
    import torch

    from litemedsam_jax.files import replacing

    arrays = torch_checkpoint.to_state_dict(store.flatten(variables), config.model, counters)
    with replacing(path) as beside:
        torch.save({name: torch.from_numpy(a.copy()) for name, a in arrays.items()}, beside)


def _on_devices(config: TrainingConfig, batch: pipeline.Batch) -> dict[str, Any]:
    return pipeline.with_devices(batch, jax.local_device_count(), config.optimizer.accumulate)


def _batches(config: TrainingConfig, stage: Stage, catalog: Catalog, samples: int, consumed: int):
    return pipeline.training_batches(
        catalog,
        stage.transform,
        config.data,
        samples,
        consumed=consumed,
        sharding=devices.sharding(),
    )


def holds_run(folder: Path) -> bool:
    """Whether a work folder has a complete checkpoint to resume from."""
    path = folder / "checkpoints"
    return path.is_dir() and any(child.name.isdigit() for child in path.iterdir())


def _checkpoint_folder(config: TrainingConfig, resume: bool) -> Path:
    folder = Path(config.work_dir)
    there = holds_run(folder)
    if there and not resume:
        raise CheckpointError(
            f"{folder}: holds a run already. Continue it with --resume, or give another -work_dir."
        )
    if resume and not there:
        raise CheckpointError(
            f"{folder}: has no checkpoint to resume. Leave --resume out, or give --resume auto, "
            "which starts the run where nothing was saved yet."
        )
    return folder / "checkpoints"


def _resumed(
    checkpoints: Checkpoints, state: TrainState, fresh: Progress
) -> tuple[TrainState, Progress]:
    state, saved = checkpoints.restore(state)
    progress = Progress(**saved)
    devices.say(f"resumed at step {progress.step}, after {progress.consumed} samples")
    if progress.data != fresh.data:
        devices.say("note: the training slices are not those of the checkpoint; going on with them")
        progress = replace(progress, data=fresh.data)
    return state, progress


def _dry_run(
    config: TrainingConfig, stage: Stage, state, program, batch, samples: int, per_epoch: int
) -> None:
    """Prints model, data and memory plan, and one step's time."""
    flat = store.flatten(state.params)
    total = sum(math.prod(leaf.shape) for leaf in flat.values())
    trained = sum(
        math.prod(leaf.shape) for path, leaf in flat.items() if trains(path, config.optimizer)
    )
    placed = stage.prepare(_on_devices(config, batch))
    began = time.monotonic()
    plan = program.compiled(state, placed).memory_analysis()
    compiled = time.monotonic() - began
    seconds = []
    for _ in range(2):  # the first one may still load and page
        began = time.monotonic()
        state, metrics = program(state, placed)
        jax.block_until_ready(state)
        seconds.append(time.monotonic() - began)
    mib = 1 / 2**20
    print(
        f"model    {config.model.name}, {total:,} parameters, {trained:,} of them trained, "
        f"{config.dtype}\n"
        f"devices  {jax.device_count()} x {jax.devices()[0].device_kind}, "
        f"{jax.process_count()} processes\n"
        f"data     {samples} samples a step, {per_epoch} steps an epoch, {config.epochs} epochs; "
        f"first: {', '.join(map(str, batch['name'][:3]))}\n"
        f"memory   per device: state {plan.argument_size_in_bytes * mib:.0f} MiB with the batch, "
        f"activations {plan.temp_size_in_bytes * mib:.0f} MiB\n"
        f"step     {seconds[-1]:.2f} s ({samples / seconds[-1]:.2f} samples/s), compiled in "
        f"{compiled:.0f} s; loss {float(metrics['loss']):.4f}"
    )
