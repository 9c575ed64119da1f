"""From one image and its mask to a training npz and a challenge case."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from litemedsam_jax.imaging import file_kinds, masks
from litemedsam_jax.imaging.boxes import Jitter, boxes_of_labels, objects_of
from litemedsam_jax.imaging.case import is_constant
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.geometry import Geometry, geometry_arrays
from litemedsam_jax.imaging.intensity import FILL_NAN_ADVICE, IntensityOptions, to_uint8
from litemedsam_jax.imaging.labels import absent_labels, outside_message, voxels_outside
from litemedsam_jax.imaging.npz import write_npz
from litemedsam_jax.preparation.pairs import Source

# By a DICOM file's own word; its values are no Hounsfield units.
_NOT_WINDOWED = ("MR", "PT", "NM", "US", "CR", "DX", "MG", "XA", "RF")


@dataclass(frozen=True)
class PrepareOptions:
    """What to write and how masks are cleaned; the command's help explains each."""

    output: Path
    modality: str = "CT"
    anatomy: str = "Abd"
    prefix: str | None = None  # None: <modality>_<anatomy>_
    training: bool = True
    cases: bool = False
    save_nii: bool = False
    slices: Literal["range", "labelled", "all"] = "range"
    min_voxels: int = 100
    min_pixels: int = 10
    keep_labels: Sequence[int] = ()
    remove_labels: Sequence[int] = ()
    split_label: int | None = None
    boxes_per: Literal["label", "component"] = "label"
    jitter: Jitter | None = None
    mask_grid: str = "exact"
    fill_outlines: bool = False
    intensity: IntensityOptions | None = field(default_factory=IntensityOptions)

    @property
    def group(self) -> str:
        """The sub-folder of training npz."""
        return f"{self.modality}_{self.anatomy}"

    @property
    def name_prefix(self) -> str:
        """What precedes a case's own name."""
        return f"{self.group}_" if self.prefix is None else self.prefix


@dataclass(frozen=True)
class Task:
    """One case and the part of the training data it goes to."""

    source: Source
    part: Literal["train", "test"]


@dataclass(frozen=True)
class Prepared:
    """What became of a case.

    Attributes:
        left_out: why nothing was written; None: it was.
        notes: what a user must know of it.
    """

    left_out: str | None = None
    notes: tuple[str, ...] = ()


def prepare_volume(task: Task, options: PrepareOptions) -> Prepared:
    """Writes one volume's case and training npz.

    Source: the reference's `pre_CT_MR.py`.

    Args:
        task: the image, its mask, and where its training npz goes.
        options: what to write, and how masks are cleaned.

    Raises:
        CaseError: the image or its mask cannot be used. OSError.
    """
    from litemedsam_jax.imaging import volumes

    image_path, mask_path = task.source.image, task.source.masks[0]
    if file_kinds.kind_of(image_path) == "image_2d":
        raise CaseError("is a 2D image; `litemedsam prepare images` takes it", image_path)
    labels = volumes.read_labels(mask_path)
    volume = volumes.read_volume(image_path)
    windowed = options.intensity is None or options.intensity.windowed
    if windowed and volume.modality in _NOT_WINDOWED:
        raise CaseError(
            f"is {volume.modality} by its own header and cannot be windowed as CT; give "
            f"-modality {volume.modality}",
            image_path,
        )
    gts = volumes.place_labels(
        labels, volume.geometry, mask_path, options.mask_grid, volumes.MASK_GRID_ADVICE
    )
    notes = [f"{image_path}: {note}" for note in volume.notes]
    if options.mask_grid != "index":
        outside = voxels_outside(labels.array, labels.geometry, volume.geometry)
        if outside:
            notes.append(f"{mask_path}: {outside_message(outside)}; they were left out")
    notes += _absent_notes(gts, options)
    gts = _cleaned(gts, options)
    if not gts.any():
        return Prepared(_nothing_left(options, "--min-voxels-3d, --min-pixels-2d"), tuple(notes))
    try:
        colour = volume.array.ndim == 4
        imgs = (
            volume.array
            if colour
            else to_uint8(volume.array, options.intensity or IntensityOptions(), FILL_NAN_ADVICE)
        )
    except ValueError as error:
        raise CaseError(str(error), image_path) from None
    if is_constant(imgs):
        notes.append(f"the image is {imgs.flat[0]} everywhere; check the window and the file")
    name = f"{options.name_prefix}{task.source.case}"
    if options.cases:
        _write_case(options, f"3DBox_{name}", imgs, gts, geometry_arrays(volume.geometry))
    if options.training:
        _write_training_volume(options, task.part, name, imgs, gts, volume.geometry)
    return Prepared(notes=tuple(notes))


def prepare_image(task: Task, options: PrepareOptions) -> Prepared:
    """Writes one 2D image's case and training npz.

    Source: the reference's `pre_grey_rgb.py`.

    Args:
        task: the image, its mask, and where its training npz goes.
        options: what to write, and how masks are cleaned.

    Raises:
        CaseError: the image or its mask cannot be used. OSError.
    """
    from litemedsam_jax.imaging import images_2d, label_images

    files = task.source.masks
    notes: list[str] = []
    imgs = images_2d.read_image(task.source.image, options.intensity, notes)
    if len(files) > 1:
        gts = label_images.merge_masks(files, notes)
    else:
        gts = label_images.read_mask(files[0], fill_outlines=options.fill_outlines, notes=notes)
    images_2d.check_same_size(gts, imgs.shape, files[0], task.source.image)
    notes += _absent_notes(gts, options)
    gts = _cleaned(gts, options)
    if not gts.any():
        return Prepared(_nothing_left(options, "--min-pixels-2d"), tuple(notes))
    if is_constant(imgs):
        notes.append(f"the image is {imgs.flat[0]} everywhere; check the window and the file")
    name = f"{options.name_prefix}{task.source.case}"
    if options.cases:
        _write_case(options, f"2DBox_{name}", imgs, gts, {})
    if options.training:
        write_npz(_training_path(options, task.part, name), imgs=imgs, gts=gts)
    return Prepared(notes=tuple(notes))


def _absent_notes(gts: np.ndarray, options: PrepareOptions) -> list[str]:
    """A note for each option that names labels which the mask does not hold."""
    named = {
        "--keep-labels": options.keep_labels,
        "--remove-labels": options.remove_labels,
        "--split-instances": () if options.split_label is None else (options.split_label,),
    }
    present = ", ".join(map(str, np.unique(gts[gts > 0]).tolist()[:8])) or "none"
    return [
        f"the mask holds no label {', '.join(map(str, absent))} of {option} (it has: {present})"
        for option, labels in named.items()
        if (absent := absent_labels(gts, labels))
    ]


def _nothing_left(options: PrepareOptions, thresholds: str) -> str:
    chosen = [
        option
        for option, labels in (
            ("--keep-labels", options.keep_labels),
            ("--remove-labels", options.remove_labels),
        )
        if labels
    ]
    return f"no label is left, left out (see {', '.join([thresholds, *chosen])})"


def _cleaned(gts: np.ndarray, options: PrepareOptions) -> np.ndarray:
    if options.keep_labels:
        gts = masks.keep_labels(gts, options.keep_labels)
    if options.remove_labels:
        gts = masks.drop_labels(gts, options.remove_labels)
    if options.split_label is not None:
        gts = masks.split_instances(gts, options.split_label)
    gts = masks.remove_dust(gts, options.min_voxels, options.min_pixels)
    return gts.astype(np.uint8) if gts.max(initial=0) < 256 else gts


def _write_case(
    options: PrepareOptions, name: str, imgs: np.ndarray, gts: np.ndarray, extra: dict
) -> None:
    """`imgs/` and `gts/` as the challenge lays them out; label k belongs to box k."""
    objects, owners = objects_of(gts, options.boxes_per)
    boxes, numbers = boxes_of_labels(objects, options.jitter)
    labels = owners[numbers - 1]
    # Boxes are counted without gaps, so that mask k of box k is label k of the truth.
    order = np.zeros(int(numbers[-1]) + 1, np.uint8 if len(numbers) < 256 else np.uint16)
    order[numbers] = np.arange(1, len(numbers) + 1)
    renumbered = order[objects]
    write_npz(
        options.output / "imgs" / f"{name}.npz", imgs=imgs, boxes=boxes, labels=labels, **extra
    )
    write_npz(options.output / "gts" / f"{name}.npz", gts=renumbered, labels=labels, **extra)


def _write_training_volume(
    options: PrepareOptions,
    part: str,
    name: str,
    imgs: np.ndarray,
    gts: np.ndarray,
    geometry: Geometry,
) -> None:
    kept = _kept_slices(gts, options.slices)
    imgs, gts = imgs[kept], gts[kept]
    depth, first = len(kept), float(kept[0])
    origin = tuple(geometry.to_points(np.array([[0.0, 0.0, first]]))[0].tolist())
    size = (*geometry.size[:2], depth)
    cropped = Geometry(size, geometry.spacing, origin, geometry.direction)
    path = _training_path(options, part, name)
    write_npz(path, imgs=imgs, gts=gts, **geometry_arrays(cropped))
    if options.save_nii:
        from litemedsam_jax.imaging import volumes

        for kind, array in (("img", imgs), ("gt", gts)):
            volumes.write_volume(path.with_name(f"{name}_{kind}.nii.gz"), array, cropped)


def _kept_slices(gts: np.ndarray, which: str) -> np.ndarray:
    labelled = np.flatnonzero([s.any() for s in gts])
    if which == "all":
        return np.arange(len(gts))
    if which == "range":
        return np.arange(labelled[0], labelled[-1] + 1)
    return labelled


def _training_path(options: PrepareOptions, part: str, name: str) -> Path:
    return options.output / f"MedSAM_{part}" / options.group / f"{name}.npz"
