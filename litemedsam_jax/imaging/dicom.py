"""DICOM series as volumes (SimpleITK), and masks as DICOM SEG objects (highdicom)."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from litemedsam_jax.files import replacing


def read_series(path: Path) -> sitk.Image:
    """Reads a folder's one series in spatial order, or a single DICOM file (rescaled values).

    Raises ValueError where a file is broken, slices are missing or there are several series.
    """
    if path.is_file():
        return _execute(sitk.ImageFileReader(), str(path), path)  # a slice, or a multi-frame object
    files = _series_files(path)
    _check_slices(files, path)
    return _execute(sitk.ImageSeriesReader(), files, path)


def _series_files(folder: Path) -> tuple[str, ...]:
    """The files of the folder's one series, in the order of their slices."""
    warned = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # it would say less well what is said here
    try:
        series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warned)
    if not series:
        raise ValueError(
            f"{folder}: holds no DICOM image that can be read (damaged files, or reports and plans "
            "instead of images); copy the series again"
        )
    if len(series) != 1:
        raise ValueError(
            f"{folder}: holds {len(series)} readable DICOM series; expected one. "
            "Put each series in a folder of its own"
        )
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])
    read = {Path(name).name for name in files}
    broken = [f for f in sorted(folder.glob("*.dcm")) if f.name not in read]
    if broken:
        raise ValueError(
            f"{broken[0]}: cannot be read as a slice of the series ({len(broken)} such files); "
            "copy the series again, or take these files out"
        )
    return files


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


def write_dicom_seg(
    series: Path, labels: np.ndarray, path: Path, names: Mapping[int, str] | None = None
) -> None:
    """Writes labels (D, H, W) of a series as a DICOM SEG object, one binary segment a label.

    series: the folder that the volume was read from. names: of labels, for the segments. Empty
    masks cannot be such an object. Raises ValueError.
    """
    import highdicom

    if not labels.any():
        raise ValueError(f"{path}: the masks are empty; DICOM SEG needs at least one segment")
    present = [int(label) for label in np.unique(labels) if label]
    described = _segments([(names or {}).get(label, f"label {label}") for label in present])
    masks = np.stack([labels == label for label in present], axis=-1).astype(np.uint8)
    sources = [_headers(name) for name in _series_files(series)]
    with warnings.catch_warnings():
        # The library tells of optional attributes that the scanner left out.
        warnings.simplefilter("ignore")
        made = highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=masks,
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=described,
            series_instance_uid=highdicom.UID(),
            series_number=900,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="LiteMedSAM-JAX",
            manufacturer_model_name="litemedsam segment",
            software_versions="1",
            device_serial_number="0",
        )
    with replacing(path) as beside:
        made.save_as(beside)


def _segments(names: Sequence[str]) -> list:
    """What DICOM SEG says of each segment, in the order of their names."""
    import highdicom
    from pydicom.sr.codedict import codes

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="LiteMedSAM-JAX", version="1", family=codes.DCM.ArtificialIntelligence
    )
    return [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.AnatomicalStructure,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
            algorithm_identification=algorithm,
        )
        for number, name in enumerate(names, start=1)
    ]


def _headers(name: str):
    """A slice's data elements; what an anonymiser emptied is filled in, as viewers do.

    Names of instances stand in the file's own header too; those of study and series are made from
    the frame of reference, so that they are the same for every slice and every run.
    """
    import pydicom

    data = pydicom.dcmread(name, stop_before_pixels=True)
    data.SOPClassUID = data.get("SOPClassUID") or data.file_meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = data.get("SOPInstanceUID") or data.file_meta.MediaStorageSOPInstanceUID
    frame = data.get("FrameOfReferenceUID")
    if not frame:
        raise ValueError(
            f"{name}: has no FrameOfReferenceUID, so a DICOM SEG object could not say where its "
            "masks lie; leave out --dicom-seg"
        )
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        if not data.get(keyword):
            made = pydicom.uid.generate_uid(entropy_srcs=[frame, keyword])
            setattr(data, keyword, made)
    return data
