"""Volumes as SimpleITK reads them: NIfTI, NRRD, MHA/MHD, DICOM; label volumes on their grids."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from litemedsam_jax.files import replacing
from litemedsam_jax.imaging import dicom, file_kinds, nifti_check
from litemedsam_jax.imaging.geometry import SAME_PLACE, Geometry


@dataclass(frozen=True)
class Volume:
    """array: (D, H, W), or (D, H, W, 3) for colour, in the file's values; with its geometry."""

    array: np.ndarray
    geometry: Geometry


def read_volume(path: str | Path) -> Volume:
    """Reads a volume file or a DICOM series (folder or one of its files).

    A two-dimensional file becomes one slice; infinities in NIfTI files come out as NaN. Raises
    ValueError, saying what to do, on anything that is not one grey or RGB volume, and
    FileNotFoundError.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    image = dicom.read_series(path) if file_kinds.kind_of(path) == "dicom" else _read_image(path)
    volume = _as_volume(image, path)
    if file_kinds.suffix_of(path) in (".nii", ".nii.gz"):
        hidden = nifti_check.unusable_values(path)
        if hidden.size:  # ITK has made them 0; whoever uses the values must know
            volume.array.reshape(-1)[hidden] = np.nan
    return volume


def read_labels(path: str | Path) -> Volume:
    """Reads a label volume; integral float values become integers. Raises ValueError."""
    volume = read_volume(path)
    array = volume.array
    if array.ndim == 4:
        raise ValueError(f"{path}: a mask in colour; expected one number per voxel")
    if array.dtype.kind == "f":
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
    return Volume(array.astype(np.uint8 if high < 256 else np.uint16), volume.geometry)


def place_labels(
    labels: Volume, target: Geometry, path: str | Path, how: str = "exact"
) -> np.ndarray:
    """Brings a label volume onto another grid; returns (D, H, W).

    how: `exact` moves voxels only (flipped or swapped axes, a cropped field of view) and refuses
    grids whose voxels do not coincide; `resample` takes the nearest label; `index` ignores where
    the grids lie and wants equal sizes, as the reference does. Raises ValueError.
    """
    if how == "index" or labels.geometry.same_as(target):
        if labels.geometry.size != target.size:
            raise ValueError(
                f"{path}: the mask has {_times(labels.geometry.size)} voxels and its image "
                f"{_times(target.size)} (x, y, z); give the mask that was drawn on this image"
            )
        return labels.array
    if how == "exact":
        _demand_same_lattice(labels.geometry, target, path)
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
            "image or its header is wrong (--mask-grid index ignores the headers)"
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
    image = to_image(array, geometry)
    if geometry.flat:
        image = image[:, :, 0]
    with replacing(path) as beside:
        sitk.WriteImage(image, str(beside), useCompression=True)


def _read_image(path: Path) -> sitk.Image:
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path}: cannot be read as a volume ({dicom.reason(error)})") from None


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
        raise ValueError(
            f"{path}: holds {channels} values of {array.dtype} a voxel; expected one value, or "
            "8-bit RGB"
        )
    if np.iscomplexobj(array):
        raise ValueError(f"{path}: holds complex numbers; write their magnitude to a file first")
    geometry = Geometry(
        image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection(), flat
    )
    return Volume(array, geometry)


def _demand_same_lattice(source: Geometry, target: Geometry, path: str | Path) -> None:
    """Every voxel centre of `source` must be a voxel centre of `target`'s lattice."""
    indices = target.to_index(source.to_points(np.vstack([np.zeros(3), np.eye(3)])))
    steps = np.abs(indices[1:] - indices[0])  # of one step along each of the source's axes
    whole = np.round(steps)
    straight = np.abs(steps - whole).max() * max(source.size) <= 0.5
    one_to_one = straight and (whole.sum(0) == 1).all() and (whole.sum(1) == 1).all()
    if one_to_one and np.abs(indices[0] - np.round(indices[0])).max() <= SAME_PLACE:
        return
    raise ValueError(
        f"{path}: the mask's voxels ({_times(source.size)} of {_mm(source)}) are not those of the "
        f"image ({_times(target.size)} of {_mm(target)}); give the mask drawn on this image, or "
        "--mask-grid resample to take the nearest labels, or --mask-grid index to ignore headers"
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
