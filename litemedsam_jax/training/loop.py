"""The training loop, for fine-tuning and distillation alike: what differs comes in as functions."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import grain
import jax
import numpy as np
from tqdm import tqdm

from litemedsam_jax.training.checkpoints import Checkpoints
from litemedsam_jax.training.config import TrainingConfig
from litemedsam_jax.training.data import Batch
from litemedsam_jax.training.devices import is_main
from litemedsam_jax.training.reporting import Report
from litemedsam_jax.training.steps import TrainState
from litemedsam_jax.weights.errors import CheckpointError


class NotFiniteError(RuntimeError):
    """The loss or its gradient became NaN or infinite; the message names the batch's cases."""


@dataclass
class Progress:
    """What the host knows of a run; part of every checkpoint."""

    step: int = 0
    samples_seen: int = 0  # over all hosts: the data iterator's state
    data: str = ""  # fingerprint of the training slices
    best_score: float | None = None
    best_step: int = 0
    epochs_since_best: int = 0
    loss_sum: float = 0.0  # of the running epoch
    loss_count: int = 0

    @classmethod
    def from_checkpoint(cls, stored: dict[str, Any]) -> "Progress":
        """The progress that a checkpoint has stored.

        Raises:
            CheckpointError: its fields are not those of this version.
        """
        if stored.keys() != {one.name for one in fields(cls)}:
            raise CheckpointError(
                "the checkpoint was written by another version of LiteMedSAM-JAX, whose runs this "
                "one cannot resume; start a new run from its model.safetensors "
                "(-pretrained_checkpoint)"
            )
        return cls(**stored)


@dataclass(frozen=True)
class TrainingRun:
    """The parts of a run that stay the same throughout."""

    config: TrainingConfig
    step: Callable[[TrainState, Batch], tuple[TrainState, Any]]
    batches: grain.DatasetIterator[Batch]
    # (state, epoch) -> values to report; the score among them under "score", if any
    validate: Callable[[TrainState, int], dict[str, float]]
    export: Callable[[TrainState], None]  # writes model.safetensors
    learning_rate: Callable[[TrainState], float]
    checkpoints: Checkpoints
    report: Report | None  # of the main process alone
    global_batch: int
    steps_per_epoch: int
    target: float | None = None  # stop once the validation score is reached (--overfit)

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.config.epochs * self.steps_per_epoch

    def close(self) -> None:
        """Ends the data's worker processes and the report."""
        self.batches.close()
        if self.report is not None:
            self.report.close()


@dataclass
class Outcome:
    """How a run ended: "done", "stopped" (SIGTERM), "early" or "target"."""

    state: TrainState
    reason: str
    scores: dict[str, float] = field(default_factory=dict)


def train(
    run: TrainingRun, state: TrainState, progress: Progress, stop_requested: Callable[[int], bool]
) -> Outcome:
    """Runs the remaining steps.

    Args:
        run: what stays the same throughout.
        state: after `progress.step` steps.
        progress: counted on in place.
        stop_requested: (step) -> whether to save and leave after it; `termination` yields one.

    Returns:
        The last state, why it is the last, and the last validation's values.

    Raises:
        NotFiniteError: the loss or its gradient is not finite.
        SaveError: a checkpoint could not be written.
    """
    scores: dict[str, float] = {}
    reason = "done"
    with _bar(run, progress) as bar:
        if progress.step == 0:
            scores = _end_epoch(run, state, progress)  # what training starts from
        guard = Guard(run, progress)
        while progress.step < run.total_steps:
            batch = next(run.batches)
            state, metrics = run.step(state, batch)
            progress.step += 1
            progress.samples_seen += run.global_batch
            guard.watch(metrics, batch["name"], state, bar)
            at_end = progress.step % run.steps_per_epoch == 0
            if at_end:
                guard.flush(state)
                scores = _end_epoch(run, state, progress)
                reason = _reason_to_stop(run, progress, scores)
                bar.reset()
                guard.start_clock()  # validation is not training speed
            elif run.config.save_every and progress.step % run.config.save_every == 0:
                guard.flush(state)
                run.checkpoints.save(progress.step, state, asdict(progress))
            if stop_requested(progress.step):
                reason = "stopped"
            if reason != "done":
                break
    guard.flush(state)
    run.checkpoints.save(progress.step, state, asdict(progress))
    run.checkpoints.finish()
    return Outcome(state, reason, scores)


def _end_epoch(run: TrainingRun, state: TrainState, progress: Progress) -> dict[str, float]:
    """Validates, compares with the best, exports, saves, reports. Epoch 0 is the start itself."""
    epoch = progress.step // run.steps_per_epoch
    validation = run.validate(state, epoch)
    score = validation.pop("score", None)
    better = score is not None and (progress.best_score is None or score > progress.best_score)
    if better:
        progress.best_score, progress.best_step = score, progress.step
    progress.epochs_since_best = 0 if better else progress.epochs_since_best + 1
    values = {
        "epoch": epoch,
        "loss": progress.loss_sum / progress.loss_count if progress.loss_count else math.nan,
        "learning_rate": run.learning_rate(state),
        **validation,
    }
    progress.loss_sum, progress.loss_count = 0.0, 0
    run.checkpoints.save(progress.step, state, asdict(progress), score)
    if better or score is None:
        run.export(state)
    if run.report is not None:
        run.report.add("epoch", progress.step, values)
        run.report.draw()
        shown = ", ".join(
            f"{name} {value:.4g}"
            for name, value in values.items()
            if "/" not in name and not math.isnan(value)
        )
        if progress.step or validation or score is not None:  # else there is nothing to say yet
            tqdm.write(shown + (" (best so far)" if better else ""))
    return values if score is None else {**values, "score": score}


def _reason_to_stop(run: TrainingRun, progress: Progress, scores: dict[str, float]) -> str:
    if run.target is not None and scores.get("score", -np.inf) >= run.target:
        return "target"
    if 0 < run.config.early_stop <= progress.epochs_since_best:
        return "early"
    return "done"


class Guard:
    """Reads each step's metrics one step late, so that the device never waits for the host.

    A step that was not finite has left the state as it was (steps.make_step), so nothing is lost
    by seeing it late; no checkpoint is written before all steps were read.
    """

    def __init__(self, run: TrainingRun, progress: Progress):
        self._run, self._progress = run, progress
        self._pending: tuple[int, Any, np.ndarray, float] | None = None
        self.start_clock()

    def start_clock(self) -> None:
        """Counts steps and time for the reported speed anew."""
        self._restart_clock(time.monotonic())

    def _restart_clock(self, now: float) -> None:
        self._since, self._timed = now, 0

    def watch(self, metrics: Any, names: np.ndarray, state: TrainState, bar: tqdm) -> None:
        """Keeps a step's metrics and reads those of the step before. Raises NotFiniteError.

        Args:
            metrics: of the step just started, on the device.
            names: of its samples, for the message.
            state: after it, for the learning rate.
            bar: shows the loss.
        """
        self._read(bar, state)
        self._pending = (self._progress.step, metrics, names, time.monotonic())

    def flush(self, state: TrainState) -> None:
        """Reads what is still unread. Raises NotFiniteError."""
        self._read(None, state)

    def _read(self, bar: tqdm | None, state: TrainState) -> None:
        if self._pending is None:
            return
        step, metrics, names, when = self._pending
        self._pending = None
        values = {name: float(value) for name, value in metrics.items()}
        if not values.pop("finite"):
            raise NotFiniteError(
                f"step {step}: the loss is {values['loss']:.4g} and its gradient's norm "
                f"{values['gradient_norm']:.4g}. The batch: {', '.join(map(str, names))}. "
                "The weights are as before this step and no checkpoint was overwritten. Look at "
                "these cases, or try a smaller -lr or --clip-norm 1"
            )
        self._progress.loss_sum += values["loss"]
        self._progress.loss_count += 1
        if bar is not None:
            bar.set_postfix(loss=f"{values['loss']:.4f}", refresh=False)
            bar.update(self._run.global_batch)
        self._timed += 1
        if self._run.report is not None and step % self._run.config.log_every == 0:
            speed = self._run.global_batch * self._timed / max(when - self._since, 1e-9)
            self._restart_clock(when)
            rate = self._run.learning_rate(state)
            values.update(learning_rate=rate, samples_per_second=speed)
            self._run.report.add("step", step, values)


def _bar(run: TrainingRun, progress: Progress) -> tqdm:
    samples = run.steps_per_epoch * run.global_batch
    done = progress.step % run.steps_per_epoch * run.global_batch
    return tqdm(total=samples, initial=done, unit=" samples", disable=not is_main() or None)


@contextmanager
def termination() -> Iterator[Callable[[int], bool]]:
    """Whether SIGTERM has asked the run to end: (step) -> bool, the same on every host.

    Entered before anything is read: a signal while the run starts ends it after its first step.
    """
    if jax.process_count() > 1:
        # JAX's own service hears the signal on any host and names a step that all have in common.
        from jax.experimental import multihost_utils

        yield multihost_utils.reached_preemption_sync_point
        return
    asked = False

    def note(*_) -> None:
        nonlocal asked
        asked = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda step: asked
    finally:
        signal.signal(signal.SIGTERM, before)
