"""What a label map says of each label: volume, diameters, place, intensities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from litemedsam_jax.imaging.geometry import Geometry
from litemedsam_jax.measuring.diameters import Diameter, longest, outline, perpendicular

PERCENTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class AxialDiameters:
    """RECIST 1.1's pair: the longest diameter in any axial slice and its perpendicular there.

    Attributes:
        axis: of the array (0, 1, 2), across which the axial slices lie.
        index: the slice.
        longest: in mm; ends in columns and rows of the slice.
        perpendicular: the longest at a right angle to it, in the same slice and part.
    """

    axis: int
    index: int
    longest: Diameter
    perpendicular: Diameter


@dataclass(frozen=True)
class Intensities:
    """Of the image's own values (HU, SUV, ... as stored) under a label.

    `sd` is the sample's (n - 1), as SimpleITK has it; `percentiles` are those of `PERCENTILES`.
    """

    mean: float
    sd: float
    minimum: float
    maximum: float
    percentiles: tuple[float, ...]


@dataclass(frozen=True)
class LabelMeasurement:
    """One label of a case.

    Attributes:
        label: its number.
        voxels: how many (pixels of a 2D image).
        ml: their volume; None where there is no spacing.
        parts: connected ones (diagonals connect).
        box: x_min, y_min, z_min, x_max, y_max, z_max, inclusive voxel indices.
        centroid: x, y, z in voxel indices.
        centroid_mm: x, y, z in the patient (LPS); None where the file does not say where it lies.
        axial: diameters in the axial plane.
        largest: the largest diameter in space.
        intensities: None where there is no image, or one in colour.
    """

    label: int
    voxels: int
    ml: float | None
    parts: int
    box: tuple[int, ...]
    centroid: tuple[float, float, float]
    centroid_mm: tuple[float, float, float] | None
    axial: AxialDiameters
    largest: Diameter
    intensities: Intensities | None


def measure_labels(
    labels: np.ndarray,
    values: np.ndarray | None = None,
    spacing: Sequence[float] | None = None,
    geometry: Geometry | None = None,
    direction: Sequence[float] | None = None,
    first: tuple[int, int, int] = (0, 0, 0),
) -> list[LabelMeasurement]:
    """Measures every label.

    Args:
        labels: (D, H, W), 0 is background; a 2D image is one slice.
        values: (D, H, W), the image's own values.
        spacing: x, y, z in mm; None: lengths are in voxels, and there is no volume.
        geometry: where the grid lies; None where the file does not say.
        direction: nine numbers, of x, y, z in the patient; None: slices along z are axial.
        first: z, y, x in the image of the first voxel of `labels`, where they are a part of it.

    Returns:
        The labels that are there, ascending.
    """
    from scipy import ndimage

    steps = np.ones(3) if spacing is None else np.asarray(spacing, np.float64)
    axis = axial_axis(direction)
    measured = []
    for label, where in enumerate(ndimage.find_objects(labels), start=1):
        if where is None:
            continue
        mask = labels[where] == label
        part = None if values is None or values.ndim != 3 else values[where]
        corner = np.array([one.start for one in where]) + first
        measured.append(_measure(label, mask, part, corner, steps, spacing, geometry, axis))
    return measured


def axial_axis(direction: Sequence[float] | None) -> int:
    """The array's axis (0, 1, 2) that runs most along the patient's long axis."""
    if direction is None:
        return 0
    return 2 - int(np.abs(np.reshape(np.asarray(direction), (3, 3))[2]).argmax())


def _measure(
    label: int,
    mask: np.ndarray,
    values: np.ndarray | None,
    corner: np.ndarray,
    steps: np.ndarray,
    spacing: Sequence[float] | None,
    geometry: Geometry | None,
    axis: int,
) -> LabelMeasurement:
    from litemedsam_jax.imaging.masks import components

    voxels = int(mask.sum())
    centroid = (np.argwhere(mask).mean(axis=0) + corner)[::-1]
    centroid_mm = None if geometry is None else geometry.to_points(centroid[None])[0]
    low, high = corner[::-1], (corner + mask.shape)[::-1] - 1
    space = longest(outline(mask), steps)
    return LabelMeasurement(
        label,
        voxels,
        None if spacing is None else voxels * float(np.prod(steps)) / 1000,
        int(components(mask).max()),
        tuple(int(one) for one in (*low, *high)),
        _three(centroid),
        None if centroid_mm is None else _three(centroid_mm),
        _axial(mask, corner, steps, axis),
        Diameter(space.mm, space.ends + corner[::-1]),
        None if values is None else _intensities(values[mask]),
    )


def _three(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(one) for one in values)
    return x, y, z


def _axial(mask: np.ndarray, corner: np.ndarray, steps: np.ndarray, axis: int) -> AxialDiameters:
    """Over the slices' connected parts: a diameter between two lesions is none."""
    from litemedsam_jax.imaging.masks import components

    plane = np.delete(steps[::-1], axis)[::-1]  # columns, rows
    offset = np.delete(corner, axis)[::-1]
    best: AxialDiameters | None = None
    for index, section in enumerate(np.moveaxis(mask, axis, 0)):
        parts = components(section)
        for part in range(1, int(parts.max(initial=0)) + 1):
            points = outline(parts == part)
            extent = np.ptp(points, axis=0) * plane
            if best is not None and np.hypot(*extent) <= best.longest.mm:
                continue
            line = longest(points, plane)
            if best is None or line.mm > best.longest.mm:
                across = perpendicular(points, plane, line)
                best = AxialDiameters(
                    axis,
                    index + int(corner[axis]),
                    Diameter(line.mm, line.ends + offset),
                    Diameter(across.mm, across.ends + offset),
                )
    assert best is not None  # a label that is there has a slice
    return best


def _intensities(values: np.ndarray) -> Intensities:
    values = values.astype(np.float64)
    return Intensities(
        float(values.mean()),
        float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        float(values.min()),
        float(values.max()),
        tuple(float(one) for one in np.percentile(values, PERCENTILES)),
    )
