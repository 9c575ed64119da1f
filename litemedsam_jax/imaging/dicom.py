"""DICOM images as volumes: slices checked one by one, values as their own headers scale them."""

import contextlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from litemedsam_jax.imaging.dicom_files import DicomFile, image_files, read_data_set
from litemedsam_jax.imaging.dicom_frames import Frame, frames_of
from litemedsam_jax.imaging.dicom_grid import arrange
from litemedsam_jax.imaging.errors import library_message
from litemedsam_jax.imaging.geometry import Geometry

_MOST_VOXELS = 1 << 31
# Projections: MONOCHROME1 says that they are stored as negatives.
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_PROJECTIONS = ("CR", "DX", "XA", "RF", "MG", "IO", "PX", "RG")


@dataclass(frozen=True)
class DicomImage:
    """A series as a volume.

    Attributes:
        array: (D, H, W) values, whole numbers where all slopes are, else float32; or uint8
            (1, H, W, 3) for one image in colour.
        geometry: Flat where the one image does not say where it lies.
        modality: CT, MR, PT, ...; None where the file does not say.
        frames: The slices in their order.
        notes: What its reader should know.
    """

    array: np.ndarray
    geometry: Geometry
    modality: str | None
    frames: tuple[Frame, ...]
    notes: tuple[str, ...] = ()


def read_dicom(path: Path) -> DicomImage:
    """Reads a folder's one series, or one file (a slice, a 2D image, or many frames).

    Raises:
        ValueError: A file is damaged, or the slices are not one straight, even, complete volume.
    """
    files, frames, geometry = read_layout(path)
    about = files[0].header
    modality = str(about.get("Modality") or "").strip().upper() or None
    colour = [file for file in files if int(file.header.get("SamplesPerPixel") or 1) != 1]
    palette = str(about.get("PhotometricInterpretation") or "").strip() == "PALETTE COLOR"
    if (colour or palette) and len(frames) > 1:
        raise ValueError(
            f"{(colour or files)[0].path}: is one of {len(frames)} images in colour, which are no "
            "volume; write the one you mean to a file of its own (PNG, or DICOM of one frame)"
        )
    notes: tuple[str, ...] = ()
    if geometry.flat:
        notes = ("it does not say where it lies in the patient; masks lie on its pixels",)
    if colour or palette:
        return DicomImage(_colour(files[0]), geometry, modality, tuple(frames), notes)
    voxels = geometry.size[0] * geometry.size[1] * geometry.size[2]
    if voxels > _MOST_VOXELS:
        raise ValueError(f"{path}: has {voxels} voxels; the limit is {_MOST_VOXELS}")
    array = _values(frames)
    negative = str(about.get("PhotometricInterpretation") or "").strip() == "MONOCHROME1"
    if negative and modality in _PROJECTIONS and len(frames) == 1:
        array = array.max() + array.min() - array
    return DicomImage(array, geometry, modality, tuple(frames), notes)


def read_layout(path: Path) -> tuple[list[DicomFile], list[Frame], Geometry]:
    """A series' files, its slices in their order, and the grid that they fill.

    Raises:
        ValueError: See `read_dicom`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that break a rule and hurt nobody
        files = image_files(path)
        frames, geometry = arrange([frame for file in files for frame in frames_of(file)], path)
    return files, frames, geometry


def _values(frames: Sequence[Frame]) -> np.ndarray:
    """(D, H, W), every slice by its own slope and intercept."""
    whole = all(f.slope == int(f.slope) and f.intercept == int(f.intercept) for f in frames)
    columns, rows = frames[0].size
    volume = np.empty((len(frames), rows, columns), np.int16 if whole else np.float32)
    open_path, stored, scaled = None, np.empty(0), False
    for z, frame in enumerate(frames):
        if frame.path != open_path:
            same = {(f.slope, f.intercept) for f in frames if f.path == frame.path}
            stored, scaled = _stored(frame, len(same) == 1)
            open_path = frame.path
        pixels = stored[frame.index]
        if not scaled and whole:
            pixels = pixels.astype(np.int64) * int(frame.slope) + int(frame.intercept)
        elif not scaled:
            pixels = pixels * frame.slope + frame.intercept
        volume = _able_to_hold(pixels, volume)
        volume[z] = pixels
    small = volume.dtype == np.int16 and volume.min() >= 0 and volume.max() <= 255
    return volume.astype(np.uint8) if small else volume


def _able_to_hold(pixels: np.ndarray, volume: np.ndarray) -> np.ndarray:
    """The volume, in a wider type if the slice asks for one: 16 bits do for most."""
    if volume.dtype.kind == "f":
        return volume
    if pixels.dtype.kind == "f":
        return volume.astype(np.float32)
    low, high = int(pixels.min()), int(pixels.max())
    for dtype in (volume.dtype, np.dtype(np.int32)):
        if low >= np.iinfo(dtype).min and high <= np.iinfo(dtype).max:
            return volume.astype(dtype, copy=False)
    return volume.astype(np.float32)


def _stored(frame: Frame, one_slope: bool) -> tuple[np.ndarray, bool]:
    """A file's numbers (frames, rows, columns), and whether they are scaled already.

    SimpleITK decodes every compression, but scales by the file's one slope; pydicom leaves numbers
    as they are stored.
    """
    path = frame.path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = read_data_set(path, pixels=True)
            if not any(name in data for name in _PIXELS):
                raise EOFError("the file ends before its pixels")
            lut = bool(data.get("ModalityLUTSequence"))
            if not lut and _is_compressed(data) and one_slope:
                with contextlib.suppress(ValueError):
                    return _as_frames(_by_itk(path), frame), True
            pixels = data.pixel_array
            pixels = pydicom.pixels.apply_modality_lut(pixels, data) if lut else pixels
            return _as_frames(pixels, frame), lut
    except MemoryError:
        raise
    except Exception as error:  # damaged pixels fail in many ways inside pydicom
        message = library_message(error, 150)
        raise ValueError(
            f"{path}: its pixels are truncated or damaged ({message}); copy it again"
        ) from None


def _is_compressed(data: Any) -> bool:
    return bool(data.file_meta.TransferSyntaxUID.is_encapsulated)


def _by_itk(path: Path) -> np.ndarray:
    import SimpleITK as sitk

    from litemedsam_jax.imaging.itk_files import reason

    warned = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))
    except RuntimeError as error:
        raise ValueError(reason(error)) from None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warned)


def _as_frames(pixels: np.ndarray, frame: Frame) -> np.ndarray:
    columns, rows = frame.size
    return np.reshape(pixels, (frame.frames, rows, columns))


def _colour(file: DicomFile) -> np.ndarray:
    """(1, H, W, 3) uint8."""
    from pydicom.pixels import apply_color_lut, pixel_array

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = read_data_set(file.path, pixels=True)
            if _is_compressed(data):
                pixels = _by_itk(file.path)[0]
            elif str(data.get("PhotometricInterpretation")).strip() == "PALETTE COLOR":
                pixels = apply_color_lut(data.pixel_array, data)
                if pixels.dtype == np.uint16:
                    pixels = (pixels >> 8).astype(np.uint8)
            else:
                pixels = pixel_array(data)  # YBR becomes RGB
    except Exception as error:  # as above
        message = library_message(error, 150)
        raise ValueError(
            f"{file.path}: its colours cannot be read ({message}); export it as PNG"
        ) from None
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(
            f"{file.path}: holds {pixels.dtype} {pixels.shape}; expected one RGB image of 8 bits"
        )
    return pixels[None]
