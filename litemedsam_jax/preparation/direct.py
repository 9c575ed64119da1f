"""Segmenting files as they are found: image files and boxes in, label files of their kind out.

SimpleITK and Pillow are imported only for the files that need them.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from litemedsam_jax.files import replacing
from litemedsam_jax.preparation import naming
from litemedsam_jax.preparation.geometry import Geometry
from litemedsam_jax.preparation.intensity import IntensityOptions

# What people put at the end of an image's name and leave out of its mask's, or exchange.
_IMAGE_ENDINGS = ("_0000", "_image", "_img", "_images")
_MASK_ENDINGS = ("", "_mask", "_masks", "_label", "_labels", "_seg", "_gt", "_boxes")


@dataclass(frozen=True)
class BoxSource:
    """Where boxes come from.

    path: a JSON or CSV file, a label file, or a folder with one such file a case, named as the case
    (an ending like `_0000` or `_image` left out, `_mask`, `_label`, `_seg`, `_gt` or `_boxes` put
    in). units: of JSON and CSV that do not tell: `voxel`, `mm` (LPS) or `mm-ras`. mask_grid: see
    `volumes.place_labels`.
    """

    path: Path
    units: str | None = None
    mask_grid: str = "exact"


@dataclass(frozen=True)
class FileCase:
    """A case read from an image file.

    imgs: uint8 (H, W, 3) for pictures, (D, H, W) or (D, H, W, 3) for volumes. boxes: (N, 4) or
    (N, 6), inclusive voxel indices, as given (neither ordered nor clipped). labels: the label that
    each box's mask should bear, 1 ... N unless the boxes came from a label file. spacing: x, y, z
    in mm, None for pictures.
    """

    path: Path
    name: str
    imgs: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    geometry: Geometry | None = None
    intensity: IntensityOptions = field(default_factory=IntensityOptions)

    @property
    def spacing(self) -> np.ndarray | None:
        return None if self.geometry is None else np.array(self.geometry.spacing)


def read_case_from_file(
    path: str | Path, boxes: BoxSource, intensity: IntensityOptions | None = None
) -> FileCase:
    """Reads an image file (or a DICOM folder) and its boxes as arrays that can be segmented.

    intensity: how values become 0-255; for pictures None leaves 8-bit values as they are, for
    volumes it is CT's abdominal window. Raises ValueError or FileNotFoundError, told for people.
    """
    path = Path(path)
    kind = naming.kind_of(path)
    name = naming.stem_of(path)
    found = find_boxes(path, boxes.path)
    if kind == "picture":
        from litemedsam_jax.preparation import images

        imgs = images.read_picture(path, intensity)
        prompts, labels = _prompts(found, name, boxes, imgs.shape[:2], None)
        if prompts.shape[1] != 4:
            raise ValueError(f"{found}: a picture's boxes have 4 numbers, these have 6")
        return FileCase(path, name, imgs, prompts, labels)
    if kind not in ("volume", "dicom"):
        raise ValueError(f"{path}: is no image file; expected one of {', '.join(naming.SUFFIXES)}")
    from litemedsam_jax.preparation import intensity as grey
    from litemedsam_jax.preparation import volumes

    volume = volumes.read_volume(path)
    options = intensity or IntensityOptions()
    try:
        imgs = volume.array if volume.array.ndim == 4 else grey.to_uint8(volume.array, options)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    prompts, labels = _prompts(found, name, boxes, imgs.shape[:3], volume.geometry)
    return FileCase(path, name, imgs, _with_slices(prompts, imgs), labels, volume.geometry, options)


def output_path(case: FileCase, folder: str | Path) -> Path:
    """Where a case's labels go: the input's name and kind; PNG for pictures, NIfTI for DICOM."""
    if case.geometry is None:
        return Path(folder) / f"{case.name}.png"
    suffix = naming.suffix_of(case.path)
    # Headers with the data in a second file become one file; DICOM itself is --dicom-seg's.
    one_file = {".nhdr": ".nrrd", ".mhd": ".mha", ".dcm": ".nii.gz", "": ".nii.gz"}
    return Path(folder) / f"{case.name}{one_file.get(suffix, suffix)}"


def write_labels_like(case: FileCase, labels: np.ndarray, folder: str | Path) -> Path:
    """Writes labels (H, W) or (D, H, W) on the input's exact grid, in its kind; returns the path.

    Box numbers become the labels that the boxes came from (`case.labels`).
    """
    own = np.concatenate([[0], case.labels])
    wide = int(own.max()) > 255
    renamed = own.astype(np.uint16 if wide else np.uint8)[labels]
    path = output_path(case, folder)
    if case.geometry is None:
        from litemedsam_jax.preparation import images

        with replacing(path) as beside:
            beside.write_bytes(images.encode_labels(renamed).tobytes())
    else:
        from litemedsam_jax.preparation import volumes

        volumes.write_volume(path, renamed, case.geometry)
    return path


def find_boxes(image: Path, source: Path) -> Path:
    """The file that holds an image's boxes: `source`, or the one in it that is named like it."""
    if not source.exists():
        raise FileNotFoundError(f"{source}: there is no such file or folder of boxes")
    if source.is_file() or naming.kind_of(source) == "dicom":
        return source
    stem = naming.stem_of(image)
    stems = [stem] + [stem.removesuffix(e) for e in _IMAGE_ENDINGS if stem.endswith(e)]
    wanted = {s + ending for s in stems for ending in _MASK_ENDINGS}
    suffixes = (".json", ".csv", *naming.VOLUME_SUFFIXES, *naming.PICTURE_SUFFIXES)
    fitting = sorted(
        file
        for file in source.iterdir()
        for suffix in suffixes
        if file.name.lower().endswith(suffix)
        and file.name[: -len(suffix)] in wanted
        and file.resolve() != image.resolve()
    )
    if len(fitting) != 1:
        names = ", ".join(file.name for file in fitting) or "none"
        raise ValueError(
            f"{image}: {source} should hold one file of boxes or labels for it, such as "
            f"{stem}.json or {stems[-1]}_mask.nii.gz; found {names}"
        )
    return fitting[0]


def _prompts(
    found: Path,
    name: str,
    source: BoxSource,
    shape: tuple[int, ...],
    geometry: Geometry | None,
) -> tuple[np.ndarray, np.ndarray]:
    from litemedsam_jax.preparation import boxes as box_files

    if found.suffix.lower() in (".json", ".csv"):
        rows = box_files.read_boxes(found, name, geometry, source.units)
        return rows, np.arange(1, len(rows) + 1)
    if geometry is None:
        from litemedsam_jax.preparation import images

        mask = images.read_mask(found)
    else:
        from litemedsam_jax.preparation import volumes

        mask = volumes.place_labels(volumes.read_labels(found), geometry, found, source.mask_grid)
    if mask.shape != shape:
        raise ValueError(
            f"{found}: the mask is {mask.shape[1]}x{mask.shape[0]} and its image "
            f"{shape[1]}x{shape[0]} pixels; give the mask that was drawn on this image"
        )
    boxes, labels = box_files.boxes_of_labels(mask)
    if not len(boxes):
        raise ValueError(f"{found}: the mask is empty, so it gives no box")
    return boxes, labels


def _with_slices(boxes: np.ndarray, imgs: np.ndarray) -> np.ndarray:
    """A volume of one slice may have a picture's boxes."""
    if boxes.shape[1] == 6:
        return boxes
    if len(imgs) > 1:
        raise ValueError("a volume's boxes have 6 numbers (with z_min and z_max), these have 4")
    flat = np.zeros((len(boxes), 1))
    return np.concatenate([boxes[:, :2], flat, boxes[:, 2:], flat], axis=1)
