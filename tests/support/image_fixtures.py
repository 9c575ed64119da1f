"""Small files of every kind, written by SimpleITK, OpenCV and pydicom."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk


@pytest.fixture
def anatomy() -> np.ndarray:
    """(12, 40, 30) Hounsfield units: air, tissue, and a brighter object in slices 3 to 8."""
    rng = np.random.default_rng(0)
    volume = np.full((12, 40, 30), -1000, np.int16)
    volume[:, 4:36, 4:26] = rng.integers(-20, 60, (12, 32, 22))
    volume[3:9, 10:20, 8:18] += 100
    return volume


@pytest.fixture
def organs() -> np.ndarray:
    """Labels of `anatomy`: 1 in slices 3 to 8, 5 in slices 5 to 6, and dust of 2."""
    labels = np.zeros((12, 40, 30), np.uint8)
    labels[3:9, 10:20, 8:18] = 1
    labels[5:7, 25:33, 8:18] = 5
    labels[10, 5, 5] = 2
    return labels


@pytest.fixture
def oblique():
    """Puts an array on a grid that is turned, flipped, anisotropic and off the origin."""

    def make(array: np.ndarray) -> sitk.Image:
        image = sitk.GetImageFromArray(array)
        turn = np.deg2rad(20)
        cosine, sine = float(np.cos(turn)), float(np.sin(turn))
        image.SetSpacing((0.7, 0.8, 3.0))
        image.SetOrigin((-100.5, 42.0, 7.25))
        image.SetDirection((-cosine, sine, 0, -sine, -cosine, 0, 0, 0, 1))
        return image

    return make


@pytest.fixture
def series(anatomy):
    """Writes `anatomy` as a DICOM series with a rescale slope, file names against slice order."""

    def write(folder: Path, skip: tuple[int, ...] = ()) -> Path:
        import pydicom

        from tests.support import dicom_series

        folder.mkdir(parents=True)
        stored = (anatomy.astype(np.int32) + 1024) // 2
        for z, data in enumerate(dicom_series.slices(stored, 2, -1024)):
            if z not in skip:
                path = folder / f"slice{99 - z:03d}.dcm"
                pydicom.dcmwrite(path, data, enforce_file_format=True)
        return folder

    return write
