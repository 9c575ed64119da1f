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
        from pydicom.dataset import FileDataset, FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian, generate_uid

        folder.mkdir(parents=True)
        frame, study, series = (generate_uid(entropy_srcs=[w]) for w in ("f", "st", "se"))
        for z, pixels in enumerate(anatomy):
            if z in skip:
                continue
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
            meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(z)])
            meta.TransferSyntaxUID = ExplicitVRLittleEndian
            path = folder / f"slice{99 - z:03d}.dcm"
            data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
            data.SOPClassUID = meta.MediaStorageSOPClassUID
            data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
            data.StudyInstanceUID, data.SeriesInstanceUID = study, series
            data.FrameOfReferenceUID, data.Modality = frame, "CT"
            data.PatientName = data.PatientID = "test"
            data.PatientBirthDate = data.PatientSex = data.AccessionNumber = ""
            data.StudyID = data.StudyDate = data.StudyTime = data.ReferringPhysicianName = ""
            data.Manufacturer = data.PositionReferenceIndicator = ""
            data.SeriesNumber, data.InstanceNumber = 1, z + 1
            data.ImagePositionPatient = [-50.0, -20.0, 10.0 + 2.5 * z]
            data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            data.PixelSpacing, data.SliceThickness = [0.9, 0.8], 2.5
            data.Rows, data.Columns = pixels.shape
            data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
            data.BitsAllocated = data.BitsStored = 16
            data.HighBit, data.PixelRepresentation = 15, 0
            data.RescaleSlope, data.RescaleIntercept = 2, -1024
            data.PixelData = ((pixels.astype(np.int32) + 1024) // 2).astype(np.uint16).tobytes()
            pydicom.dcmwrite(path, data, enforce_file_format=True)
        return folder

    return write
