"""Small DICOM images with every attribute open to change."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT, ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
SPACING, ORIGIN, STEP = (0.8, 0.9), (-50.0, -20.0, 10.0), 2.5


def data_set(pixels: np.ndarray, number: int = 0, kind: str = CT) -> FileDataset:
    """A CT image of stored numbers (H, W) or (frames, H, W) that does not say where it lies."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    for keyword in ("FrameOfReferenceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(data, keyword, generate_uid(entropy_srcs=[keyword]))
    data.Modality = "CT"
    data.PatientName, data.PatientID = "test^", "test"
    data.PatientBirthDate = data.PatientSex = data.AccessionNumber = ""
    data.StudyID = data.StudyDate = data.StudyTime = data.ReferringPhysicianName = ""
    data.Manufacturer = data.PositionReferenceIndicator = ""
    data.SeriesNumber, data.InstanceNumber = 1, number + 1
    data.Rows, data.Columns = pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    data.PixelData = pixels.astype(np.uint16).tobytes()
    return data


def slices(volume: np.ndarray, slope: float = 1, intercept: float = 0) -> list[FileDataset]:
    """A volume (D, H, W) of stored numbers as axial slices, from the feet upwards."""
    made = []
    for z, pixels in enumerate(volume):
        data = data_set(pixels, z)
        data.ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + STEP * z]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness = list(SPACING[::-1]), STEP
        data.RescaleSlope, data.RescaleIntercept = slope, intercept
        made.append(data)
    return made


def enhanced(
    volume: np.ndarray, order: Sequence[int], change: Callable[[int, Dataset], Any] | None = None
) -> FileDataset:
    """One file of many frames: the slices of a volume in an order of the caller's choice.

    change: called with the slice and the functional groups of each frame.
    """
    data = data_set(volume[list(order)], kind=ENHANCED_CT)
    data.NumberOfFrames = len(order)
    shared = Dataset()
    measures, turned, values = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = list(SPACING[::-1]), STEP
    turned.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    values.RescaleSlope, values.RescaleIntercept = 1, -1000
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [turned]
    shared.PixelValueTransformationSequence = [values]
    data.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for z in order:
        groups, position = Dataset(), Dataset()
        position.ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + STEP * z]
        groups.PlanePositionSequence = [position]
        if change is not None:
            change(z, groups)
        frames.append(groups)
    data.PerFrameFunctionalGroupsSequence = frames
    return data


def write(images: Sequence[FileDataset], folder: Path, name: str = "IM{:04d}.dcm") -> Path:
    """Writes images to a folder, numbered in their order; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(images):
        pydicom.dcmwrite(folder / name.format(number), data, enforce_file_format=True)
    return folder
