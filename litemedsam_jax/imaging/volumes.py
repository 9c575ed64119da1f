"""Volumes as SimpleITK reads them: NIfTI, NRRD, MHA/MHD, DICOM; label volumes on their grids."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from litemedsam_jax.files import replacing
from litemedsam_jax.imaging import file_kinds, itk_files
from litemedsam_jax.imaging.geometry import SAME_PLACE, Geometry

# For commands that have the option.
MASK_GRID_ADVICE = (
    "; --mask-grid resample takes the nearest labels, --mask-grid index ignores the headers"
)


@dataclass(frozen=True)
class Volume:
    """Values with their place.

    Attributes:
        array: (D, H, W), or (D, H, W, 3) for colour, in the file's values.
        geometry: Where it lies.
        modality: What a DICOM file says: CT, MR, ...; None where nothing is said.
        notes: What its reader should know.
    """

    array: np.ndarray
    geometry: Geometry
    modality: str | None = None
    notes: tuple[str, ...] = ()


def read_volume(path: str | Path) -> Volume:
    """Reads a volume file, a DICOM series (its folder), or one DICOM file.

    A two-dimensional file becomes one slice; NaN and infinities stay.

    Raises:
        ValueError: It is not one grey or RGB volume; the message says what to do.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    if file_kinds.kind_of(path) == "dicom":
        from litemedsam_jax.imaging import dicom

        image = dicom.read_dicom(path)
        return Volume(image.array, image.geometry, image.modality, image.notes)
    if file_kinds.suffix_of(path) in file_kinds.NIFTI_SUFFIXES:
        from litemedsam_jax.imaging import nifti

        volume = nifti.read_nifti(path)
        return Volume(volume.array, volume.geometry, notes=volume.notes)
    return _as_volume(itk_files.read_image(path), path)


def read_labels(path: str | Path) -> Volume:
    """Reads a label volume; integral float values become integers.

    A DICOM SEG object and Slicer's .seg.nrrd of several layers become one label map.

    Raises:
        ValueError: It is no label map, or its segments overlap.
    """
    layers = read_label_layers(path)
    merged = layers[0]
    for layer in layers[1:]:
        both = int(((merged.array > 0) & (layer.array > 0)).sum())
        if both:
            raise ValueError(
                f"{path}: its segments overlap in {both} voxels, and a label map holds one label a "
                "voxel; write the segments you mean to a file of their own"
            )
        merged = replace(merged, array=np.maximum(merged.array, layer.array))
    return merged


def read_label_layers(path: str | Path) -> list[Volume]:
    """Reads a label file as label maps without overlap inside: segments that overlap lie apart.

    Raises:
        ValueError: It is no label map.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    if file_kinds.kind_of(path) == "dicom" and path.is_file():
        from litemedsam_jax.imaging import dicom_seg

        if dicom_seg.is_segmentation(path):
            arrays, geometry = dicom_seg.read_segments(path)
            return [Volume(array, geometry) for array in arrays]
    if path.name.lower().endswith((".nrrd", ".nhdr")):
        image = itk_files.read_image(path)
        if image.GetNumberOfComponentsPerPixel() > 1 or itk_files.has_segments(image):
            arrays = itk_files.segment_layers(image, path)
            geometry = _geometry_of(image)
            return [Volume(array, geometry) for array in arrays]
        volume = _as_volume(image, path)
    else:
        volume = read_volume(path)
    return [replace(volume, array=_whole_labels(volume.array, path))]


def _whole_labels(array: np.ndarray, path: Path) -> np.ndarray:
    if array.ndim == 4:
        raise ValueError(f"{path}: a mask in colour; expected one number per voxel")
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            whole = np.round(array)
        if not np.isfinite(array).all() or np.abs(array - whole).max(initial=0) > 1e-3:
            raise ValueError(
                f"{path}: holds fractions or NaN, so it is no label map; write whole numbers, 0 "
                "where there is nothing"
            )
        array = whole
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < 0 or high > 65535:
        raise ValueError(f"{path}: holds labels {low} to {high}; expected 0 to 65535")
    return array.astype(np.uint8 if high < 256 else np.uint16)


def place_labels(
    labels: Volume, target: Geometry, path: str | Path, how: str = "exact", advice: str = ""
) -> np.ndarray:
    """Brings a label volume onto another grid.

    Args:
        labels: (D, H, W) and where they lie.
        target: The grid.
        path: Of the labels, for messages.
        how: `exact` moves voxels only (flipped or swapped axes, a cropped field of view) and
            refuses grids whose voxels do not coincide; `resample` takes the nearest label; `index`
            ignores where the grids lie and wants equal sizes, as the reference does.
        advice: What a user can do about grids that differ, such as `MASK_GRID_ADVICE`.

    Returns:
        (D, H, W) labels on the target.

    Raises:
        ValueError: The grids do not fit together.
    """
    if how == "index" or labels.geometry.meant_by(target):
        if labels.geometry.size != target.size:
            raise ValueError(
                f"{path}: the mask has {_times(labels.geometry.size)} voxels and its image "
                f"{_times(target.size)} (x, y, z); give the mask that was drawn on this image"
            )
        return labels.array
    if how == "exact":
        _demand_same_lattice(labels.geometry, target, path, advice)
    moved = sitk.Resample(
        to_image(labels.array, labels.geometry),
        _empty_image(target),
        sitk.Transform(3, sitk.sitkIdentity),
        sitk.sitkNearestNeighbor,
        0,
    )
    array = sitk.GetArrayFromImage(moved)
    if labels.array.any() and not array.any():
        raise ValueError(
            f"{path}: none of the mask's labels lie inside the image; either it belongs to another "
            f"image or its header is wrong{advice}"
        )
    return array


def to_image(array: np.ndarray, geometry: Geometry) -> sitk.Image:
    """(D, H, W) as a SimpleITK image on that grid."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    return image


def write_volume(path: str | Path, array: np.ndarray, geometry: Geometry) -> None:
    """Writes (D, H, W) on that grid, compressed, in the format of the path's suffix."""
    if file_kinds.suffix_of(path) in file_kinds.NIFTI_SUFFIXES:
        from litemedsam_jax.imaging import nifti

        nifti.write_nifti(path, array, geometry)
        return
    image = to_image(array, geometry)
    if geometry.flat:
        image = image[:, :, 0]
    with replacing(path) as beside:
        sitk.WriteImage(image, str(beside), useCompression=True)


def _as_volume(image: sitk.Image, path: Path) -> Volume:
    flat = image.GetDimension() == 2
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[:, :, :, 0]
    if flat:
        image = sitk.JoinSeries(image)
    if image.GetDimension() != 3:
        raise ValueError(
            f"{path}: is {image.GetDimension()}D, {_times(image.GetSize())} voxels; expected one "
            "3D volume. Write the time point or channel you mean to a file of its own"
        )
    channels = image.GetNumberOfComponentsPerPixel()
    array = sitk.GetArrayFromImage(image)
    if channels not in (1, 3) or (channels == 3 and array.dtype != np.uint8):
        way_out = "Write the channel you mean to a file of its own"
        if path.name.lower().endswith(".seg.nrrd"):
            way_out = "It looks like a segmentation of 3D Slicer: give the image as -i, and this "
            way_out += "file as --boxes"
        raise ValueError(
            f"{path}: holds {channels} values of {array.dtype} a voxel; an image has one value, or "
            f"8-bit RGB. {way_out}"
        )
    if np.iscomplexobj(array):
        raise ValueError(f"{path}: holds complex numbers; write their magnitude to a file first")
    return Volume(array, _geometry_of(image, flat))


def _geometry_of(image: sitk.Image, flat: bool = False) -> Geometry:
    return Geometry(
        image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection(), flat
    )


def _demand_same_lattice(source: Geometry, target: Geometry, path: str | Path, advice: str) -> None:
    """Every voxel centre of `source` must be a voxel centre of `target`'s lattice."""
    indices = target.to_index(source.to_points(np.vstack([np.zeros(3), np.eye(3)])))
    # Of one step along each of the source's axes of more than one voxel.
    steps = np.abs(indices[1:] - indices[0])[np.array(source.size) > 1]
    whole = np.round(steps)
    straight = np.abs(steps - whole).max(initial=0) * max(source.size) <= 0.5
    one_to_one = straight and (whole.sum(0) <= 1).all() and (whole.sum(1) == 1).all()
    if one_to_one and np.abs(indices[0] - np.round(indices[0])).max() <= SAME_PLACE:
        return
    raise ValueError(
        f"{path}: the mask's voxels ({_times(source.size)} of {_mm(source)}) are not those of the "
        f"image ({_times(target.size)} of {_mm(target)}); give the mask drawn on this image{advice}"
    )


def _empty_image(geometry: Geometry) -> sitk.Image:
    image = sitk.Image(geometry.size, sitk.sitkUInt8)
    image.SetSpacing(geometry.spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    return image


def _times(size) -> str:
    return "x".join(map(str, size))


def _mm(geometry: Geometry) -> str:
    return "x".join(f"{s:.3g}" for s in geometry.spacing) + " mm"
