"""An image of any kind, opened to be looked at and worked on: its own values, its grid."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from litemedsam_jax.imaging import file_kinds
from litemedsam_jax.imaging.box_source import find_boxes
from litemedsam_jax.imaging.case import make_case
from litemedsam_jax.imaging.geometry import Geometry, geometry_of
from litemedsam_jax.imaging.image_case import grey_levels, guess_intensity
from litemedsam_jax.imaging.intensity import IntensityOptions
from litemedsam_jax.imaging.npz import read_npz, read_object_array

if TYPE_CHECKING:
    from litemedsam_jax.imaging.volumes import Volume

_GEOMETRY = ("spacing", "origin", "direction")


@dataclass(frozen=True)
class OpenedImage:
    """An image as its file has it.

    Attributes:
        path: The file, or the folder of a DICOM series.
        kind: `npz`, `image_2d`, `volume` or `dicom`.
        values: (D, H, W) or (D, H, W, 3); a 2D image is one slice.
        flat: Whether it is a 2D image.
        geometry: The grid onto which labels are written; None for 2D images and npz.
        spacing: Of x, y, z in mm; None where the file says nothing of it.
        direction: Nine numbers, the directions of x, y, z in the patient (LPS); None: unknown.
        boxes: (N, 4) or (N, 6), an npz's own.
        labels: (D, H, W), an npz's own ground truth.
        volume: As it was read; None for 2D images and npz.
        notes: What was assumed when it was read, for people.
    """

    path: Path
    kind: str
    values: np.ndarray
    flat: bool
    geometry: Geometry | None = None
    spacing: tuple[float, float, float] | None = None
    direction: tuple[float, ...] | None = None
    boxes: np.ndarray | None = None
    labels: np.ndarray | None = None
    volume: "Volume | None" = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        depth, height, width = self.values.shape[:3]
        return depth, height, width

    @property
    def is_ct(self) -> bool:
        """Whether the values are taken for Hounsfield units."""
        if self.volume is None or self.values.ndim != 3:
            return False
        return guess_intensity(self.volume, IntensityOptions("auto"))[0].modality == "CT"

    def network_image(self) -> np.ndarray:
        """(D, H, W) or (D, H, W, 3), 0 to 255, as `litemedsam segment` gives it to the network.

        Raises:
            ValueError: The values hold NaN or infinities.
        """
        if self.volume is None:
            return self.values
        return grey_levels(self.volume, self.path, IntensityOptions("auto"))[0]


def import_readers(paths: Sequence[Path]) -> None:
    """Imports what opening these images will need, up to half a second; missing extras are left."""
    kinds = {file_kinds.kind_of(path) for path in paths}
    nifti_there = any(file_kinds.suffix_of(path) in file_kinds.NIFTI_SUFFIXES for path in paths)
    with suppress(ImportError):
        if "image_2d" in kinds:
            from litemedsam_jax.imaging import images_2d  # noqa: F401
        if kinds & {"volume", "dicom"}:
            from litemedsam_jax.imaging import volumes  # noqa: F401
        if nifti_there:
            from litemedsam_jax.imaging import nifti  # noqa: F401
        if "dicom" in kinds:
            from litemedsam_jax.imaging import dicom  # noqa: F401


def open_image(path: Path) -> OpenedImage:
    """Reads an image file, an npz or a DICOM series, without boxes.

    Raises:
        ValueError: It cannot be read, in a sentence for people. OSError: neither can the disk.
    """
    kind = file_kinds.kind_of(path)
    if kind == "npz":
        return _open_npz(path)
    if kind == "image_2d":
        from litemedsam_jax.imaging import images_2d

        notes: list[str] = []
        values = images_2d.read_image(path, notes=notes)[None]
        return OpenedImage(path, kind, values, flat=True, notes=tuple(notes))
    if kind is None:
        raise ValueError(
            f"{path}: is no image; expected one of {', '.join(file_kinds.SUFFIXES)} or a folder "
            "with a DICOM series"
        )
    from litemedsam_jax.imaging import volumes

    volume = volumes.read_volume(path)
    grid = volume.geometry
    direction = None if grid.flat else grid.direction
    return OpenedImage(
        path, kind, volume.array, grid.flat, grid, grid.spacing, direction, volume=volume,
        notes=volume.notes,
    )  # fmt: skip


def labels_beside(path: Path, folder: Path) -> Path | None:
    """The one label file in a folder that is named as an image's mask; None: none, or several."""
    try:
        boxes_file = find_boxes(path, folder)
    except (ValueError, OSError):
        return None
    if file_kinds.stem_of(boxes_file) == file_kinds.stem_of(path):
        return None  # two images of one name, in two formats
    return boxes_file if file_kinds.kind_of(boxes_file) in ("image_2d", "volume") else None


def read_labels_for(image: OpenedImage, path: Path) -> np.ndarray:
    """The labels (D, H, W) of a label file, brought onto an image's grid.

    Raises:
        ValueError: They do not fit it.
    """
    if path.suffix.lower() == ".npz":
        labels = read_npz(path, ("segs",))["segs"]
        labels = labels[None] if labels.ndim == 2 else labels
        labels = labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)
    elif image.geometry is None:
        from litemedsam_jax.imaging import label_images

        labels = label_images.read_mask(path)[None]
    else:
        from litemedsam_jax.imaging import volumes

        labels = volumes.place_labels(volumes.read_labels(path), image.geometry, path)
    if labels.shape != image.shape:
        raise ValueError(
            f"{path}: the masks have shape {labels.shape} and the image {image.shape}; give masks "
            "that were drawn on this image"
        )
    return labels


def _open_npz(path: Path) -> OpenedImage:
    # Boxes as dictionaries (CVPR 2025) are prompts, not arrays.
    drawn = read_object_array(path, "boxes") is not None
    arrays = read_npz(
        path, ("imgs",), ("gts", *_GEOMETRY) if drawn else ("boxes", "gts", *_GEOMETRY)
    )
    values, boxes = arrays["imgs"], arrays.get("boxes")
    flat = values.ndim == 2 or (values.ndim == 3 and values.shape[-1] == 3)
    if boxes is not None and boxes.size:
        flat = boxes.shape[-1] == 4
        case = make_case(path.stem, values, boxes=boxes)
    else:
        shape = values.shape[: 2 if flat else 3]
        case = make_case(path.stem, values, gts=np.zeros(shape, np.uint8))
    image = case.image[None] if flat else case.image
    labels = arrays.get("gts")
    if labels is not None and flat:
        labels = labels[None]
    if labels is not None and labels.shape != image.shape[:3]:
        labels = None
    opened = OpenedImage(path, "npz", image, flat, boxes=case.boxes, labels=labels)
    if flat or "spacing" not in arrays:
        return opened
    grid = geometry_of(arrays, image.shape)
    direction = grid.direction if "direction" in arrays else None
    return replace(opened, spacing=grid.spacing, direction=direction)
