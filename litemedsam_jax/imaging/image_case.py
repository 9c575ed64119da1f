"""Any image file and its boxes as a case that can be segmented.

SimpleITK and Pillow are imported only for the files that need them.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from litemedsam_jax.imaging import box_source, file_kinds
from litemedsam_jax.imaging.case import Case, make_case
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.geometry import Geometry
from litemedsam_jax.imaging.intensity import (
    FILL_NAN_ADVICE,
    IntensityOptions,
    guess_modality,
    to_uint8,
)
from litemedsam_jax.imaging.slice_prompt import SlicePrompt

if TYPE_CHECKING:
    from litemedsam_jax.imaging.volumes import Volume


@dataclass(frozen=True)
class FileOptions:
    """How image files become cases.

    boxes: a JSON or CSV file, a label file, or a folder with one such file a case, named as the
    case (an ending like `_0000` or `_image` left out, `_mask`, `_label`, `_seg`, `_gt` or `_boxes`
    put in). units: of JSON and CSV that do not tell: `voxel`, `mm` (LPS) or `mm-ras`. mask_grid:
    see `volumes.place_labels`. boxes_per: of a label file, a box a `label` or a `component`.
    labels: of a label file, those to box; none: all.
    intensity: of volumes; the modality `auto` is told from the values. dicom_seg: also write masks
    of a DICOM series as a DICOM SEG object.
    """

    boxes: Path
    units: str | None = None
    mask_grid: str = "exact"
    boxes_per: str = "label"
    labels: tuple[int, ...] = ()
    intensity: IntensityOptions = field(default_factory=lambda: IntensityOptions("auto"))
    dicom_seg: bool = False


@dataclass(frozen=True)
class ImageCase:
    """An image file and its boxes, read and checked.

    Attributes:
        path: The image file, or the folder of a DICOM series.
        case: What is segmented.
        labels: (N,) the label of each box's mask, 1 ... N unless the boxes came from a label file.
        geometry: The volume's grid, onto which masks are written; None for 2D images.
    """

    path: Path
    case: Case
    labels: np.ndarray
    geometry: Geometry | None = None


@dataclass(frozen=True)
class _Prompts:
    """Boxes (N, 4) or (N, 6), or boxes on slices; each one's label; what a user must know."""

    boxes: np.ndarray
    labels: np.ndarray
    notes: tuple[str, ...] = ()
    drawn: tuple[SlicePrompt, ...] = ()


def read_image_case(path: str | Path, options: FileOptions | None) -> ImageCase:
    """Reads an image file (or a DICOM folder) and its boxes.

    Args:
        path: A 2D image, a volume, or the folder of a DICOM series.
        options: Where its boxes are; None: nobody said.

    Raises:
        CaseError: Anything about the file or its boxes that does not fit.
        FileNotFoundError: One of them is missing.
    """
    path = Path(path)
    if options is None:
        raise CaseError(
            "an image file needs boxes: --boxes FILE or DIR (JSON, CSV or a mask to take them from)"
        )
    try:
        return _read(path, options)
    except ValueError as error:
        about = str(error)
        own = about.startswith(f"{path}: ")  # then the message may be as long as one may be
        raise CaseError(about.removeprefix(f"{path}: "), path if own else None) from error
    except ModuleNotFoundError as error:
        raise CaseError(
            f"{path.name} needs the package {error.name}: pip install 'litemedsam-jax[tools]'"
        ) from error


def _read(path: Path, options: FileOptions) -> ImageCase:
    kind = file_kinds.kind_of(path)
    name = file_kinds.stem_of(path)
    if kind not in ("image_2d", "volume", "dicom"):
        raise ValueError(
            f"{path}: is no image file; expected one of {', '.join(file_kinds.SUFFIXES)}"
        )
    source = box_source.find_boxes(path, options.boxes)
    return (_read_2d if kind == "image_2d" else _read_volume)(path, name, source, options)


def _read_2d(path: Path, name: str, source: Path, options: FileOptions) -> ImageCase:
    from litemedsam_jax.imaging import images_2d

    notes: list[str] = []
    image = images_2d.read_image(path, notes=notes)
    prompts = _prompts(source, path, options, image.shape[:2], None)
    if prompts.drawn:
        raise ValueError(f"{source}: boxes on slices are for volumes; {path.name} is a 2D image")
    if prompts.boxes.shape[1] != 4:
        raise ValueError(f"{source}: a 2D image's boxes have 4 numbers (without z), these have 6")
    case = make_case(name, image, boxes=prompts.boxes)
    case = replace(case, warnings=(*notes, *prompts.notes, *case.warnings))
    return ImageCase(path, case, prompts.labels)


def _read_volume(path: Path, name: str, source: Path, options: FileOptions) -> ImageCase:
    from litemedsam_jax.imaging import volumes

    volume = volumes.read_volume(path)
    image, notes = grey_levels(volume, path, options.intensity, FILL_NAN_ADVICE)
    geometry = volume.geometry
    prompts = _prompts(source, path, options, image.shape[:3], geometry)
    if prompts.drawn:
        return _drawn_case(path, name, image, prompts, geometry, (*volume.notes, *notes))
    boxes = prompts.boxes
    flat = len(image) == 1 and (geometry.flat or boxes.shape[1] == 4)
    if flat:  # a 2D image, whatever its file is
        image, boxes = image[0], boxes[:, [0, 1, 3, 4]] if boxes.shape[1] == 6 else boxes
    elif boxes.shape[1] == 4:
        raise ValueError(
            f"{source}: a volume's boxes have 6 numbers (with z_min and z_max), these have 4"
        )
    case = make_case(name, image, None if flat else np.array(geometry.spacing), boxes=boxes)
    case = replace(
        case,
        warnings=(*volume.notes, *notes, *prompts.notes, *case.warnings),
        direction=None if flat else np.array(geometry.direction),
    )
    return ImageCase(path, case, prompts.labels, geometry)


def _drawn_case(
    path: Path,
    name: str,
    image: np.ndarray,
    prompts: _Prompts,
    geometry: Geometry,
    notes: tuple[str, ...],
) -> ImageCase:
    """A volume with boxes on single slices."""
    case = make_case(name, image, np.array(geometry.spacing), slice_prompts=prompts.drawn)
    warnings = (*notes, *prompts.notes, *case.warnings)
    case = replace(case, warnings=warnings, direction=np.array(geometry.direction))
    return ImageCase(path, case, prompts.labels, geometry)


def _prompts(
    source: Path,
    path: Path,
    options: FileOptions,
    shape: tuple[int, ...],
    geometry: Geometry | None,
) -> _Prompts:
    if source.suffix.lower() in (".json", ".csv"):
        from litemedsam_jax.imaging import box_files

        size = shape if geometry is None else None
        name = file_kinds.stem_of(path)
        rows = box_files.read_prompts(source, name, geometry, options.units, size)
        if isinstance(rows, list):
            labels = np.array([prompt.label for prompt in rows])
            # Masks are numbered 1 ... N, and get their labels when they are written.
            drawn = tuple(replace(prompt, label=k) for k, prompt in enumerate(rows, start=1))
            return _Prompts(np.zeros((0, 6)), labels, drawn=drawn)
        return _Prompts(rows, np.arange(1, len(rows) + 1))
    if file_kinds.kind_of(source) is None:
        raise ValueError(
            f"{source}: is no file of boxes; expected JSON, CSV, or a mask (PNG, NIfTI, NRRD, ...)"
        )
    maps, notes = _label_maps(source, geometry, options)
    if geometry is None:
        from litemedsam_jax.imaging import images_2d

        images_2d.check_same_size(maps[0], shape, source, path)
    return _boxes_of_masks(maps, notes, source, options)


def _label_maps(
    source: Path, geometry: Geometry | None, options: FileOptions
) -> tuple[list[np.ndarray], list[str]]:
    """Labels on the image's grid, segments that overlap apart; what has no place on it."""
    if geometry is None:
        from litemedsam_jax.imaging import label_images

        notes: list[str] = []
        return [label_images.read_mask(source, notes=notes)], notes
    if file_kinds.kind_of(source) == "image_2d":
        return _label_image_of_slice(source, geometry)
    from litemedsam_jax.imaging import volumes
    from litemedsam_jax.imaging.labels import outside_message, voxels_outside

    layers = volumes.read_label_layers(source)
    how, advice = options.mask_grid, volumes.MASK_GRID_ADVICE
    maps = [volumes.place_labels(one, geometry, source, how, advice) for one in layers]
    outside: dict[int, int] = {}
    if how != "index":
        for layer in layers:
            outside |= voxels_outside(layer.array, layer.geometry, geometry)
    return maps, [f"{source}: {outside_message(outside)}"] if outside else []


def _label_image_of_slice(source: Path, geometry: Geometry) -> tuple[list[np.ndarray], list[str]]:
    """A 2D mask of a file that holds one slice (an X-ray in DICOM)."""
    from litemedsam_jax.imaging import label_images

    notes: list[str] = []
    mask = label_images.read_mask(source, notes=notes)
    width, height, depth = geometry.size
    if depth > 1 or mask.shape != (height, width):
        raise ValueError(
            f"{source}: the mask is {mask.shape[1]}x{mask.shape[0]} pixels and its image "
            f"{width}x{height}x{depth}; give the mask that was drawn on this image"
        )
    return [mask[None]], notes


def _boxes_of_masks(
    maps: list[np.ndarray], notes: list[str], source: Path, options: FileOptions
) -> _Prompts:
    from litemedsam_jax.imaging.boxes import boxes_of_labels, objects_of

    held = sorted({int(label) for mask in maps for label in np.unique(mask) if label})
    present = ", ".join(map(str, held[:8])) or "none, it is empty"
    if options.labels:
        from litemedsam_jax.imaging.masks import keep_labels

        if absent := sorted(set(options.labels) - set(held)):
            named = ", ".join(map(str, absent))
            notes.append(f"{source}: holds no label {named} of --labels (it has: {present})")
        maps = [keep_labels(mask, options.labels) for mask in maps]
    boxes, labels = [], []
    for mask in maps:
        objects, owners = objects_of(mask, options.boxes_per)
        rows, numbers = boxes_of_labels(objects)
        boxes.append(rows)
        labels.append(owners[numbers - 1])
    if not sum(map(len, boxes)):
        raise ValueError(
            f"{source}: the mask holds no label to box (it has: {present}); expected at least one"
            f"{' of those that --labels names' if options.labels else ''}"
        )
    return _Prompts(np.concatenate(boxes), np.concatenate(labels), tuple(notes))


def grey_levels(
    volume: "Volume", path: Path, options: IntensityOptions, advice: str = ""
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The volume as uint8, and what was guessed for it; advice: see `to_uint8`."""
    array = volume.array
    bytes_of_2d = volume.geometry.flat and array.dtype == np.uint8
    if array.ndim == 4 or (bytes_of_2d and options.modality == "auto"):
        return array, ()
    notes: tuple[str, ...] = ()
    if options.modality == "auto":
        options, notes = guess_intensity(volume, options)
    try:
        return to_uint8(array, options, advice), notes
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def guess_intensity(
    volume: "Volume", options: IntensityOptions
) -> tuple[IntensityOptions, tuple[str, ...]]:
    """The window of a volume: by its file's word, where it has none by its values."""
    said = volume.modality if volume.modality not in ("OT", "SC", "SEG") else None
    options, note = guess_modality(volume.array, options, said)
    return options, (note,)
