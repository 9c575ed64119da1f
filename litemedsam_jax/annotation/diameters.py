"""RECIST's diameters of each label of a document."""

from typing import Any

import numpy as np

from litemedsam_jax.annotation.document import Document
from litemedsam_jax.imaging.opened_image import OpenedImage
from litemedsam_jax.measuring.labels import LabelMeasurement, measure_labels


def drawn_part(document: Document) -> tuple[np.ndarray, tuple[int, int, int]]:
    """A copy of the part of the label map that holds labels, and its first z, y, x."""
    voxels = document.voxels
    planes = [z for z, plane in enumerate(voxels) if plane.any()]
    if not planes:
        return np.zeros((0, 0, 0), voxels.dtype), (0, 0, 0)
    part = voxels[planes[0] : planes[-1] + 1]
    covered = np.any(part, axis=0)
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    part = part[:, top : int(rows[-1]) + 1, left : int(columns[-1]) + 1].copy()
    return part, (planes[0], top, left)


def measure(
    image: OpenedImage, part: np.ndarray, first: tuple[int, int, int]
) -> list[LabelMeasurement]:
    """Measures the labels of a part of an image's label map; see `drawn_part`."""
    if not part.size:
        return []
    return measure_labels(part, None, image.spacing, None, image.direction, first)


def diameters_json(image: OpenedImage, measured: LabelMeasurement) -> dict[str, Any]:
    """A label's diameters as JSON holds them, with a `text` for people.

    `lines` are x1, y1, x2, y2 in the voxels of the slice, at their middles.
    """
    axial = measured.axial
    lines = axial.longest, axial.perpendicular
    unit = unit_of(image)
    return {
        "label": measured.label,
        "axis": axial.axis,
        "slice": axial.index,
        "lengths": [line.mm for line in lines],
        "lines": [line.ends.ravel().tolist() for line in lines],
        "unit": unit,
        "text": f"{lines[0].mm:.1f} \u00d7 {lines[1].mm:.1f} {unit}",
    }


def unit_of(image: OpenedImage) -> str:
    """Of lengths: `pixel` where the spacing is unknown."""
    return "pixel" if image.spacing is None else "mm"
