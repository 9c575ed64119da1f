"""DICOM series as volumes (SimpleITK), and masks as DICOM SEG objects (highdicom)."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from litemedsam_jax.preparation import naming


def read_series(path: Path) -> sitk.Image:
    """Reads a folder's one series in spatial order, or a single DICOM file (rescaled values).

    Raises ValueError where a file is broken, slices are missing or there are several series.
    """
    folder = path if path.is_dir() else path.parent
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if path.is_file():
        return _execute(
            sitk.ImageFileReader(), str(path), path
        )  # one file: a single slice, or a multi-frame object
    if len(series) != 1:
        raise ValueError(
            f"{folder}: holds {len(series)} readable DICOM series; expected one. "
            "Put each series in a folder of its own"
        )
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])
    present = [f for f in sorted(folder.iterdir()) if naming.looks_like_dicom(f)]
    suspects = [f for f in folder.iterdir() if f.suffix.lower() == ".dcm" and f not in present]
    if suspects:
        raise ValueError(
            f"{suspects[0]}: is not readable DICOM ({len(suspects)} such files in the series); "
            "copy the series again, or take these files out"
        )
    _check_slices(files, folder)
    return _execute(sitk.ImageSeriesReader(), files, folder)


def reason(error: RuntimeError) -> str:
    """The sentence of an ITK exception; the rest is its source lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].split("ERROR:")[-1].strip() if lines else "unknown reason"


def _execute(reader, names, path: Path) -> sitk.Image:
    if isinstance(names, str):
        reader.SetFileName(names)
    else:
        reader.SetFileNames(names)
    try:
        return reader.Execute()
    except RuntimeError as error:
        raise ValueError(f"{path}: cannot be read as DICOM ({reason(error)})") from None


def _check_slices(files: tuple[str, ...], folder: Path) -> None:
    """Missing slices would silently stretch the volume: SimpleITK only warns of them."""
    reader = sitk.ImageFileReader()
    places = []
    for name in files:
        reader.SetFileName(name)
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise ValueError(f"{name}: cannot be read as DICOM ({reason(error)})") from None
        normal = np.reshape(reader.GetDirection(), (3, 3))[:, 2]
        places.append(float(normal @ np.asarray(reader.GetOrigin())))
    steps = np.abs(np.diff(places))
    if len(steps) and steps.max() - steps.min() > 0.1 * max(float(np.median(steps)), 1e-6):
        raise ValueError(
            f"{folder}: the slices are {steps.min():.2f} to {steps.max():.2f} mm apart; slices are "
            "missing or two series are mixed. Complete the series, or resample it first"
        )
