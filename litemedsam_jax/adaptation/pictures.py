"""Held-out cases before and after learning, beside the truth."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from litemedsam_jax.adaptation.cases import LabelledCase
from litemedsam_jax.drawing import overlay, page
from litemedsam_jax.imaging.boxes import boxes_of_labels
from litemedsam_jax.imaging.postprocess import parse, postprocess

MOST = 6  # cases


def shown_slice(case: LabelledCase) -> int | None:
    """The slice of a volume with the most labelled pixels; None for an image."""
    return int((case.gts > 0).sum((1, 2)).argmax()) if case.is_volume else None


def draw_held_out(
    path: Path,
    cases: Sequence[LabelledCase],
    masks: Mapping[str, Mapping[float, np.ndarray]],
    share: float,
    step: str = "",
) -> None:
    """Writes one image: a row a case, with its masks before, after, and the true ones.

    Args:
        path: of the PNG.
        cases: all that were held out; the first `MOST` are drawn.
        masks: case -> share of what was learned -> labels (H, W) of its shown slice; 0: before.
        share: that is taken.
        step: of `--postprocess`, taken on the slice; "": none.
    """
    rows = []
    for case in cases[:MOST]:
        z = shown_slice(case)
        image, gts = (case.image, case.gts) if z is None else (case.image[z], case.gts[z])
        boxes, labels = boxes_of_labels(gts)
        by_label = np.full((int(labels.max()), 4), np.nan)
        by_label[labels - 1] = boxes
        before, after = masks[case.name][0.0], masks[case.name][share]
        if step:
            after = postprocess(after, parse(step))
        tiles = overlay.panels(
            image, by_label, {"before": before, "after": after, "ground truth": gts}
        )
        rows.append(page.titled(case.name if z is None else f"{case.name}, slice {z}", tiles))
    overlay.write_image(path, page.below(rows))
