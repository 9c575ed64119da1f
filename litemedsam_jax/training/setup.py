"""Assembles a run: data, start, compiled step, folders; then the loop."""

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np

from litemedsam_jax.files import remove_stale
from litemedsam_jax.training import data as pipeline
from litemedsam_jax.training import devices, reporting
from litemedsam_jax.training.catalog import Catalog, DataError, open_catalog, split_by_case
from litemedsam_jax.training.checkpoints import Checkpoints
from litemedsam_jax.training.config import DataConfig, TrainingConfig
from litemedsam_jax.training.config_file import resume_notes, write_config
from litemedsam_jax.training.dry_run import print_plan
from litemedsam_jax.training.loop import (
    NotFiniteError,
    Outcome,
    Progress,
    TrainingRun,
    termination,
    train,
)
from litemedsam_jax.training.optimizer import learning_rate, make_optimizer, plateau_factor
from litemedsam_jax.training.steps import LossFunction, TrainState, init_state, make_step
from litemedsam_jax.weights import safetensors_file
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.state_dict import to_state_dict
from litemedsam_jax.weights.torch_file import write_torch_file
from litemedsam_jax.weights.tree import flatten

TARGET_DSC = 0.95  # of --overfit


@dataclass(frozen=True)
class TrainingTask:
    """What fine-tuning or distillation brings to a run.

    Attributes:
        variables: the network's collections to start from.
        counters: torch's BatchNorm counters that belong to them.
        transform: slice to sample.
        loss: (config, axis of devices) -> loss function.
        prepare: a batch as it comes from the pipeline -> one as the loss takes it.
        validate: (state, epoch) -> values, the score among them; None: no validation data.
        output: name of the weights file in the work folder; "": none is written.
        steps: compiled already by runs that differ in data and folder alone; gets this run's.
    """

    variables: dict[str, Any]
    counters: dict[str, int]
    transform: Any
    loss: Callable[[TrainingConfig, str], LossFunction]
    prepare: Callable[[Any], Any]
    validate: Callable[[TrainState, int], dict[str, float]] | None
    output: str
    steps: dict[str, devices.DeviceFunction] = field(default_factory=dict)


def open_data(config: DataConfig, all_slices: bool = False) -> tuple[Catalog, Catalog | None]:
    """Training and validation slices.

    Args:
        config: the sources, and what of them is held out.
        all_slices: also those without objects.

    Returns:
        Both catalogs; the second is None without validation.

    Raises:
        DataError: unusable data, or a case in both.
    """
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


def run_training(
    config: TrainingConfig,
    task: TrainingTask,
    catalog: Catalog,
    *,
    resume: bool,
    dry_run: bool = False,
) -> Outcome | None:
    """Trains.

    Args:
        config: the run.
        task: what is trained, and how it is validated.
        catalog: slices to train on.
        resume: go on from the newest checkpoint of the work folder, which must have one.
        dry_run: print the plan and one step's time instead.

    Returns:
        How it ended; None after a dry run.

    Raises:
        CheckpointError: no checkpoint to resume from, or one too many, or of another set-up.
        DataError: unusable data.
        NotFiniteError: the loss or its gradient is not finite.
        SaveError: a checkpoint could not be written.
    """
    samples = config.data.batch_size * config.optimizer.accumulate * jax.device_count()
    per_epoch = config.steps_per_epoch or math.ceil(len(catalog) / samples)
    optimizer = make_optimizer(config, task.variables["params"], per_epoch)
    state = init_state(task.variables, optimizer, ema=bool(config.optimizer.ema_decay))
    key = str((replace(config, work_dir=""), per_epoch))
    if key not in task.steps:
        task.steps[key] = devices.DeviceFunction(
            make_step(config, task.loss(config, devices.AXIS), optimizer, devices.AXIS),
            mapped_output=False,
            donate=True,
            precision=config.dtype,
        )
    step = task.steps[key]
    batches = partial(_batches, config, task, catalog, samples)
    if dry_run:
        with closing(batches(0)) as stream:
            first = next(stream)
        placed = task.prepare(_on_devices(config, first))
        plan = {"names": first["name"], "samples": samples, "steps_per_epoch": per_epoch}
        print_plan(config, state, step, placed, **plan)
        return None
    with termination() as stop_requested:
        checkpoints = Checkpoints(_checkpoint_folder(config, resume), config.keep)
        progress = Progress(data=catalog.fingerprint())
        if resume:
            state, progress = _resumed(config, checkpoints, state, progress)
        stream = batches(progress.samples_seen)
        run = _training_run(config, task, step, stream, checkpoints, samples, per_epoch)
        run = replace(run, report=_report(config, progress.step if resume else None))
        try:
            return train(run, state, progress, stop_requested)
        except NotFiniteError:
            checkpoints.finish()  # what was on its way to the disk is still good
            raise
        finally:
            run.close()


def _training_run(
    config: TrainingConfig,
    task: TrainingTask,
    step: devices.DeviceFunction,
    batches: grain.DatasetIterator[pipeline.Batch],
    checkpoints: Checkpoints,
    samples: int,
    steps_per_epoch: int,
) -> TrainingRun:
    """The parts of the loop, without a report."""
    schedule = learning_rate(config, steps_per_epoch)
    return TrainingRun(
        config=config,
        step=lambda state, batch: step(state, task.prepare(_on_devices(config, batch))),
        batches=batches,
        validate=task.validate or (lambda state, epoch: {}),
        export=partial(export, config, task),
        learning_rate=lambda state: float(schedule(state.step)) * plateau_factor(state.opt_state),
        checkpoints=checkpoints,
        report=None,
        global_batch=samples,
        steps_per_epoch=steps_per_epoch,
        target=TARGET_DSC if config.data.overfit and config.stage == "finetune" else None,
    )


def export(config: TrainingConfig, task: TrainingTask, state: TrainState) -> None:
    """Writes the weights for inference: safetensors, and .pth if asked for.

    Args:
        config: the run, whose work folder gets them.
        task: names the file, and has the counters of the start.
        state: whose averaged parameters are taken where there are any.
    """
    # Every host fetches (a collective where arrays are spread); one writes.
    variables = devices.fetch(state.variables())
    if not task.output or not devices.is_main():
        return
    seen = int(state.step) * config.optimizer.accumulate
    counters = {key: count + seen for key, count in task.counters.items()}
    path = Path(config.work_dir) / task.output
    safetensors_file.save(path, variables, config.model, counters)
    if config.save_pth:
        tensors = to_state_dict(flatten(variables), config.model, counters)
        write_torch_file(path.with_suffix(".pth"), tensors)


def holds_run(folder: Path) -> bool:
    """Whether a work folder has a complete checkpoint to resume from."""
    path = folder / "checkpoints"
    return path.is_dir() and any(child.name.isdigit() for child in path.iterdir())


def _report(config: TrainingConfig, resumed_at: int | None) -> reporting.Report | None:
    """Opens the work folder's report, after what killed runs have left; of the main host alone."""
    if not devices.is_main():
        return None
    folder = Path(config.work_dir)
    for place in (folder, folder / "predictions"):
        remove_stale(place)
    write_config(folder, config)
    return reporting.Report(folder, resumed_at)


def _on_devices(config: TrainingConfig, batch: pipeline.Batch) -> dict[str, Any]:
    return pipeline.with_devices(batch, jax.local_device_count(), config.optimizer.accumulate)


def _batches(
    config: TrainingConfig, task: TrainingTask, catalog: Catalog, samples: int, samples_seen: int
) -> grain.DatasetIterator[pipeline.Batch]:
    return pipeline.training_batches(
        catalog,
        task.transform,
        config.data,
        samples,
        samples_seen=samples_seen,
        sharding=devices.sharding(),
    )


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
    config: TrainingConfig, checkpoints: Checkpoints, state: TrainState, fresh: Progress
) -> tuple[TrainState, Progress]:
    notes = resume_notes(Path(config.work_dir), config)
    state, saved = checkpoints.restore(state)
    progress = Progress.from_checkpoint(saved)
    devices.say(f"resumed at step {progress.step}, after {progress.samples_seen} samples")
    for note in notes:
        devices.say(note)
    if progress.data != fresh.data:
        devices.say("note: the training slices are not those of the checkpoint; going on with them")
        progress = replace(progress, data=fresh.data)
    return state, progress
