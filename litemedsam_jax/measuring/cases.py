"""Masks in files, with their images: read, measured, told as rows and as JSON."""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from litemedsam_jax.files import replacing
from litemedsam_jax.imaging import file_kinds
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.measuring.labels import PERCENTILES, LabelMeasurement, measure_labels

_IMAGE_ENDINGS = ("_0000", "_image", "_images", "_img")
_MASK_ENDINGS = ("_mask", "_masks", "_labels", "_label", "_seg", "_gt")
_AXES = "zyx"


@dataclass(frozen=True)
class MeasuredCase:
    """A case's masks, its image, and what was measured.

    Attributes:
        name: of the case.
        labels: (D, H, W).
        values: (D, H, W) or (D, H, W, 3), the image's; None: there is no image.
        spacing: x, y, z in mm, or None.
        measurements: one a label.
        notes: what a reader of the numbers must know.
    """

    name: str
    labels: np.ndarray
    values: np.ndarray | None
    spacing: tuple[float, float, float] | None
    measurements: list[LabelMeasurement]
    notes: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """Of lengths."""
        return "pixel" if self.spacing is None else "mm"


def find_image(mask: Path, images: Path) -> Path:
    """The image of a mask: `images` itself, or the one in it of the same case.

    Raises:
        CaseError: there is none, or there are several.
    """
    if images.is_file() or file_kinds.kind_of(images) == "dicom":
        return images
    wanted = _key(mask)
    fitting = [
        path
        for path in file_kinds.cases_in(images)
        if _key(path) == wanted and path.resolve() != mask.resolve()
    ]
    if len(fitting) != 1:
        names = ", ".join(path.name for path in fitting) or "none"
        raise CaseError(f"{images} should hold one image for it; found {names}", mask)
    return fitting[0]


def measure_case(mask: Path, image: Path | None) -> MeasuredCase:
    """Reads masks and their image, and measures every label.

    Raises:
        CaseError: one of the files cannot be used, or they do not fit. OSError.
    """
    from litemedsam_jax.imaging.opened_image import open_image, read_labels_for

    name = file_kinds.stem_of(mask)
    if image is None:
        return _without_image(name, mask)
    try:
        opened = open_image(image)
        labels = read_labels_for(opened, mask)
    except ValueError as error:
        raise CaseError(str(error)) from error
    values = opened.values
    notes = opened.notes
    if values.ndim == 4:
        notes = (*notes, "the image is in colour: intensities were not measured")
    elif not np.isfinite(values[labels > 0]).all():
        raise CaseError("the image holds NaN or infinity under the masks", image)
    if opened.spacing is None:
        notes = (*notes, "the image has no spacing: lengths are in pixels")
    measured = measure_labels(
        labels, values, opened.spacing, None if opened.flat else opened.geometry, opened.direction
    )
    return MeasuredCase(name, labels, values, opened.spacing, measured, notes)


def _without_image(name: str, mask: Path) -> MeasuredCase:
    if file_kinds.kind_of(mask) in ("npz", "image_2d"):
        raise CaseError("its image is needed for the spacing; give it by --images", mask)
    from litemedsam_jax.imaging import volumes

    try:
        volume = volumes.read_labels(mask)
    except ValueError as error:
        raise CaseError(str(error)) from error
    grid = volume.geometry
    measured = measure_labels(volume.array, None, grid.spacing, grid, grid.direction)
    return MeasuredCase(name, volume.array, None, grid.spacing, measured)


def _key(path: Path) -> str:
    stem = file_kinds.stem_of(path)
    for ending in (*_IMAGE_ENDINGS, *_MASK_ENDINGS):
        if stem.endswith(ending):
            return stem.removesuffix(ending)
    return stem


def as_record(case: MeasuredCase, one: LabelMeasurement) -> dict[str, Any]:
    """One label as names and numbers, for CSV and JSON alike; lengths in `unit`."""
    axial = one.axial
    record: dict[str, Any] = {
        "case": case.name,
        "label": one.label,
        "voxels": one.voxels,
        "volume_ml": one.ml,
        "parts": one.parts,
        "unit": case.unit,
        "longest_axial": axial.longest.mm,
        "perpendicular_axial": axial.perpendicular.mm,
        "axial_slice": axial.index,
        "axial_axis": _AXES[axial.axis],
        **_ends("longest", axial.longest.ends),
        **_ends("perpendicular", axial.perpendicular.ends),
        "largest_3d": one.largest.mm,
    }
    names = ("x_min", "y_min", "z_min", "x_max", "y_max", "z_max")
    record |= dict(zip(names, one.box, strict=True))
    record |= {f"centroid_{axis}": v for axis, v in zip("xyz", one.centroid, strict=True)}
    place = one.centroid_mm or (None, None, None)
    record |= {f"centroid_{axis}_mm": v for axis, v in zip("xyz", place, strict=True)}
    image_values = one.intensities
    for name, attribute in (("mean", "mean"), ("sd", "sd"), ("min", "minimum"), ("max", "maximum")):
        record[name] = None if image_values is None else getattr(image_values, attribute)
    for k, percent in enumerate(PERCENTILES):
        record[f"p{percent}"] = None if image_values is None else image_values.percentiles[k]
    return record


def _ends(name: str, ends: np.ndarray) -> dict[str, float]:
    """Columns and rows of the slice, in voxel indices."""
    keys = ("column_1", "row_1", "column_2", "row_2")
    return {f"{name}_{key}": float(value) for key, value in zip(keys, ends.ravel(), strict=True)}


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes measurements as JSON (a list of objects) or, by any other suffix, as CSV.

    Raises:
        OSError: it cannot be written.
    """
    rows = [{key: _rounded(value) for key, value in record.items()} for record in records]
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as stream:
        if path.suffix.lower() == ".json":
            json.dump(rows, stream, indent=1)
            return
        writer = csv.DictWriter(stream, list(rows[0]) if rows else ["case"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
