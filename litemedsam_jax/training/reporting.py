"""What a run leaves in its work folder besides checkpoints: numbers, curves, pictures, weights."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from litemedsam_jax.drawing import overlay, page
from litemedsam_jax.files import replacing
from litemedsam_jax.training.validation import CasePrediction


class Report:
    """`metrics.jsonl` (a line a record), TensorBoard events, and the curves drawn from them.

    Args:
        folder: the work folder.
        resumed_at: records of later steps, of a run that was killed after them, are dropped;
            None: a new run, which starts the file anew.
    """

    def __init__(self, folder: Path, resumed_at: int | None):
        from tensorboardX import SummaryWriter

        self.folder = folder
        self._path = folder / "metrics.jsonl"
        kept: list[dict] = []
        if resumed_at is not None and self._path.is_file():
            kept = [row for row in read_records(self._path) if row["step"] <= resumed_at]
        with replacing(self._path) as beside:
            beside.write_text("".join(json.dumps(row) + "\n" for row in kept))
        purge = None if resumed_at is None else resumed_at + 1
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=purge)

    def add(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Appends a record, `kind` being "step" or "epoch"; NaN becomes null."""
        numbers = {k: v if math.isfinite(v) else None for k, v in values.items()}
        with self._path.open("a") as file:
            file.write(json.dumps({"kind": kind, "step": step, **numbers}) + "\n")
        for name, value in values.items():
            if numbers[name] is None:
                continue
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def draw(self) -> None:
        """Writes `curves.png` of all records so far."""
        draw_curves(self.folder / "curves.png", read_records(self._path))

    def close(self) -> None:
        """Ends the TensorBoard file."""
        self._board.close()


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl; a line that a kill cut short ends it."""
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def draw_curves(path: Path, records: list[dict[str, Any]]) -> None:
    """Training loss, learning rate and validation scores over the steps, as PNG."""
    from matplotlib.figure import Figure  # not pyplot: no window system, no global state

    panels = {
        "loss": ("loss", "dice", "bce", "iou"),
        "validation": ("dsc", "nsd", "val_loss"),
        "learning rate": ("learning_rate",),
    }
    figure = Figure((12, 3.6), dpi=120, layout="constrained")
    for axis, (title, names) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for name in names:
            points = [
                (row["step"], row[name])
                for row in records
                if row.get(name) is not None and (row["kind"] == "epoch" or title != "validation")
            ]
            steps_only = [row for row in records if row["kind"] == "step" and name in row]
            if title == "loss" and steps_only:
                points = [(row["step"], row[name]) for row in steps_only]
            if points:
                axis.plot(*zip(*points, strict=True), label=name, marker=".", linewidth=1)
        axis.set_title(title)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(fontsize=8)
    with replacing(path) as beside:
        figure.savefig(beside)


def draw_predictions(path: Path, predictions: Mapping[str, CasePrediction]) -> None:
    """Image, prediction and ground truth of each case's middle slice, one below the other."""
    rows = []
    for case, prediction in sorted(predictions.items()):
        position = sorted(prediction.slices)[len(prediction.slices) // 2]
        one, seg = prediction.slices[position], prediction.segs[position]
        masks: dict[str, np.ndarray | None] = {"prediction": seg, "ground truth": one.gts}
        tile = overlay.panels(one.image, _by_label(one, prediction.boxes[position]), masks)
        title = case if one.entry.position is None else f"{case}, slice {position}"
        rows.append(page.titled(title, tile))
    if rows:
        overlay.write_image(path, page.below(rows))


def draw_samples(path: Path, batch: Mapping[str, np.ndarray]) -> None:
    """What the network is shown: image, mask and box of each sample of a batch."""
    tiles = []
    for row in range(len(batch["image"])):
        mask = batch["mask"][row] if "mask" in batch else None
        boxes = batch["box"][row][None] if "box" in batch else None
        image = (batch["image"][row] * 255).astype(np.uint8)
        picture = overlay.overlay(image, mask, boxes, size=(384, 384))
        tiles.append(page.titled(str(batch["name"][row]), picture))
    rows = [page.beside(tiles[i : i + 4]) for i in range(0, len(tiles), 4)]
    overlay.write_image(path, page.below(rows))


def _by_label(one, boxes: list[np.ndarray]) -> np.ndarray:
    """Boxes in rows 1, 2, ... of their labels, for the colours; rows of NaN between."""
    rows = np.full((max(one.entry.labels), 4), np.nan)
    for label, box in zip(one.entry.labels, boxes, strict=True):
        rows[label - 1] = box
    return rows
