"""Checkpoints of a run (Orbax): written in the background, the newest few and the best are kept."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from litemedsam_jax.training.devices import fetch, is_main, say, wait_for_hosts
from litemedsam_jax.training.steps import TrainState
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.tree import flatten, unflatten


class SaveError(RuntimeError):
    """A checkpoint that could not be written; the ones before it are as they were."""


class Checkpoints:
    """The checkpoints of one work folder.

    A checkpoint is complete or absent: Orbax writes beside and renames. Its `state` item is the
    TrainState as flat arrays, its `progress` item a JSON of what the host knows (samples seen, best
    score, ...).
    """

    def __init__(self, folder: Path, keep: int):
        self.folder = folder.absolute()
        keep_latest = managers.LatestN(keep)
        keep_best = managers.BestN(
            get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False
        )
        options = ocp.CheckpointManagerOptions(
            best_fn=_score,  # without it no metrics are written
            preservation_policy=managers.AnyPreservationPolicy([keep_latest, keep_best]),
            cleanup_tmp_directories=True,
        )
        handlers = {
            "state": ocp.StandardCheckpointHandler(),
            "progress": ocp.JsonCheckpointHandler(),
        }
        self._manager = ocp.CheckpointManager(self.folder, item_handlers=handlers, options=options)

    def save(
        self, step: int, state: TrainState, progress: dict[str, Any], score: float | None = None
    ) -> None:
        """Starts writing; an error of this or of the checkpoint before it is raised.

        Args:
            step: its number; a step that is there already is not written again.
            state: to write, fetched from the devices first.
            progress: as JSON beside it.
            score: by which the best one is kept, higher is better; None: not among the best.

        Raises:
            SaveError: the disk is full, or the like.
        """
        if step in self._manager.all_steps():
            return
        # A copy on the host: the next step reuses the device's memory.
        arrays = fetch(_to_flat(state))
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(arrays), progress=ocp.args.JsonSave(progress)
        )
        metrics = None if score is None else {"score": float(score)}
        try:
            self._manager.save(step, args=items, metrics=metrics)
        except Exception as error:
            raise self._explained(error) from error

    def finish(self) -> None:
        """Waits until all is on the disk. Raises SaveError where it could not be written."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._explained(error) from error

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The newest checkpoint that can be read, and its progress.

        One that cannot is moved aside with a message, and the one before it is tried.

        Args:
            like: a state of the same shapes.

        Raises:
            CheckpointError: there is none, or none is intact, or they are of another set-up.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        if not steps:
            raise CheckpointError(
                f"{self.folder}: no checkpoint to resume from. Start the run without --resume."
            )
        for step in steps:
            try:
                return self._read(step, like)
            except CheckpointError:
                raise
            except Exception as error:  # whatever half a file provokes in the libraries
                reason = _first_line(error)
                say(f"{self.folder / str(step)}: damaged, taking the one before: {reason}")
                self._set_aside(step)
        raise CheckpointError(f"{self.folder}: none of its {len(steps)} checkpoints is intact.")

    def _read(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        expected = _to_flat(jax.eval_shape(lambda: like))
        directory = self.folder / str(step)
        self._check_layout(step, expected)
        progress = json.loads((directory / "progress" / "metadata").read_text())
        target = {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in expected.items()}
        items = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        restored = self._manager.restore(step, args=items)["state"]
        return _from_flat(restored, like), progress

    def _check_layout(self, step: int, expected: dict[str, Any]) -> None:
        stored = self._manager.item_metadata(step)["state"]
        tree = getattr(stored, "tree", stored)
        shapes = {name: (tuple(leaf.shape), leaf.dtype) for name, leaf in tree.items()}
        wanted = {name: (tuple(leaf.shape), leaf.dtype) for name, leaf in expected.items()}
        if shapes != wanted:
            odd = sorted(
                name for name in {*shapes, *wanted} if shapes.get(name) != wanted.get(name)
            )
            raise CheckpointError(
                f"{self.folder / str(step)}: of another set-up, it differs in {len(odd)} arrays "
                f"({', '.join(odd[:3])}, ...). Resume with the options that the run was started "
                "with (config.json has them)."
            )

    def _set_aside(self, step: int) -> None:
        wait_for_hosts(f"damaged {step}")
        if is_main():
            damaged = self.folder.with_name(f"{self.folder.name}-damaged") / str(step)
            shutil.rmtree(damaged, ignore_errors=True)
            damaged.parent.mkdir(exist_ok=True)
            (self.folder / str(step)).rename(damaged)
        wait_for_hosts(f"set aside {step}")
        self._manager.reload()

    def _explained(self, error: Exception) -> SaveError:
        newest = self._manager.latest_step()
        intact = f"the last one, of step {newest}, is intact" if newest else "none was written yet"
        return SaveError(
            f"{self.folder}: the checkpoint could not be written ({_first_line(error)}); {intact}. "
            "Make room on the disk, then continue with --resume."
        )


def _score(metrics: dict[str, float]) -> float:
    return metrics["score"]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _to_flat(state: TrainState) -> dict[str, Any]:
    """Path -> array; optimizer states, tuples of all kinds, by their leaves' numbers."""
    flat = {"step": state.step}
    for name in ("params", "batch_stats", "buffers", "ema_params"):
        flat.update(flatten(getattr(state, name), f"{name}/"))
    leaves = jax.tree_util.tree_leaves_with_path(state.opt_state)
    flat.update({f"opt_state{jax.tree_util.keystr(path)}": leaf for path, leaf in leaves})
    return flat


def _from_flat(flat: dict[str, Any], like: TrainState) -> TrainState:
    trees = unflatten(
        {name: value for name, value in flat.items() if not name.startswith("opt_state")}
    )
    paths, structure = jax.tree_util.tree_flatten_with_path(like.opt_state)
    leaves = [flat[f"opt_state{jax.tree_util.keystr(path)}"] for path, _ in paths]
    return TrainState(
        trees["step"],
        trees["params"],
        trees.get("batch_stats", {}),
        trees.get("buffers", {}),
        jax.tree_util.tree_unflatten(structure, leaves),
        trees.get("ema_params", {}),
    )
