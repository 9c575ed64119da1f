"""The measured diameters drawn on their slices."""

from pathlib import Path

import cv2
import numpy as np

from litemedsam_jax.drawing import page
from litemedsam_jax.drawing.overlay import colour, overlay, write_image
from litemedsam_jax.measuring.cases import MeasuredCase
from litemedsam_jax.measuring.labels import LabelMeasurement

_SIDE = 480  # pixels, the longer one of a drawn slice
_LARGEST = 16  # labels drawn: an image of hundreds helps nobody


def write_diameters(path: Path, case: MeasuredCase) -> None:
    """Writes an image (PNG, JPEG) with the slice of each label's longest axial diameter.

    The longest diameter and its perpendicular are drawn as lines; slices are as stored.

    Raises:
        OSError: it cannot be written.
    """
    largest = sorted(case.measurements, key=lambda one: -one.voxels)[:_LARGEST]
    tiles = [_tile(case, one) for one in sorted(largest, key=lambda one: one.label)]
    if tiles:
        rows = [page.beside(tiles[k : k + 4]) for k in range(0, len(tiles), 4)]
        write_image(path, page.below(rows))


def _tile(case: MeasuredCase, one: LabelMeasurement) -> np.ndarray:
    axial = one.axial
    labels = np.moveaxis(case.labels, axial.axis, 0)[axial.index]
    image = np.zeros(labels.shape, np.uint8)
    if case.values is not None:
        image = _grey(np.moveaxis(case.values, axial.axis, 0)[axial.index])
    steps = np.delete(np.array(case.spacing or (1, 1, 1))[::-1], axial.axis)[::-1]
    extent = np.array(labels.shape[::-1]) * steps
    size = np.maximum(1, np.round(extent / extent.max() * _SIDE).astype(int))
    only = np.where(labels == one.label, labels, 0)
    canvas = overlay(image, only, size=(int(size[0]), int(size[1])))
    scale = size / labels.shape[::-1]
    for line, thickness in ((axial.longest, 2), (axial.perpendicular, 1)):
        first, last = (np.round((end + 0.5) * scale).astype(int).tolist() for end in line.ends)
        cv2.line(canvas, first, last, (255, 255, 255), thickness + 2, cv2.LINE_AA)
        cv2.line(canvas, first, last, colour(one.label), thickness, cv2.LINE_AA)
    unit = case.unit
    return page.titled(
        f"{one.label}: {axial.longest.mm:.1f} x {axial.perpendicular.mm:.1f} {unit}, "
        f"slice {axial.index}",
        canvas,
    )


def _grey(section: np.ndarray) -> np.ndarray:
    """A slice of any values as 0 to 255, between its 1st and 99th percentile."""
    if section.ndim == 3 or section.dtype == np.uint8:
        return section
    low, high = np.percentile(section, (1, 99))
    scaled = (section.astype(np.float32) - low) / max(float(high - low), 1e-6)
    return (np.clip(scaled, 0, 1) * 255).astype(np.uint8)
