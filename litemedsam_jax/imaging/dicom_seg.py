"""Masks as DICOM SEG objects (highdicom), written and read."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from litemedsam_jax.files import replacing
from litemedsam_jax.imaging import dicom_files
from litemedsam_jax.imaging.dicom import read_layout
from litemedsam_jax.imaging.dicom_frames import Frame
from litemedsam_jax.imaging.errors import library_message
from litemedsam_jax.imaging.geometry import Geometry

_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
# What an object copies from its source and may be empty (type 2): anonymisers remove it.
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber",
    "StudyDate", "StudyTime", "ReferringPhysicianName", "Manufacturer",
    "PositionReferenceIndicator",
)  # fmt: skip


def is_segmentation(path: Path) -> bool:
    """Whether a DICOM file is a SEG object; raises ValueError if it is damaged."""
    return dicom_files.sop_class(dicom_files.read_header(path)) in _SEGMENTATIONS


def read_segments(path: Path) -> tuple[list[np.ndarray], Geometry]:
    """The label maps (D, H, W) of a SEG object, and their grid.

    A segment's label is its number; where all are called `label N`, as this package calls them, it
    is that N. Segments that overlap come in different maps. A grid ends at the outermost slices
    that hold a segment: empty ones are not stored.

    Raises:
        ValueError: The object is damaged or fills no volume.
    """
    import highdicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seg = highdicom.seg.segread(path)
            numbers = [int(number) for number in seg.segment_numbers]
            labels = _labels([str(s.SegmentLabel) for s in seg.SegmentSequence], numbers)
            maps: list[np.ndarray] = []
            wide = np.uint8 if max(labels) < 256 else np.uint16
            for number, label in zip(numbers, labels, strict=True):
                volume = seg.get_volume(segment_numbers=[number])
                mask = volume.array[..., 0] >= 0.5  # of probabilities too
                for labelled in maps:
                    if not labelled[mask].any():
                        labelled[mask] = label
                        break
                else:
                    maps.append(np.where(mask, wide(label), wide(0)))
    except MemoryError:
        raise
    except Exception as error:  # highdicom has many ways to refuse an object
        message = library_message(error, 200)
        raise ValueError(
            f"{path}: this DICOM SEG cannot be read as a volume ({message}); convert it to a label "
            "volume first (3D Slicer, dcmqi's segimage2itkimage)"
        ) from None
    geometry = _geometry(volume)
    if np.linalg.det(np.reshape(geometry.direction, (3, 3))) < 0:  # slices ascend, as in a series
        last = geometry.to_points(np.array([[0, 0, geometry.size[2] - 1]]))[0]
        direction = np.reshape(geometry.direction, (3, 3)) * (1, 1, -1)
        geometry = replace(
            geometry, origin=tuple(last.tolist()), direction=tuple(direction.ravel().tolist())
        )
        maps = [labelled[::-1] for labelled in maps]
    return maps, geometry


def _labels(names: Sequence[str], numbers: Sequence[int]) -> list[int]:
    known = [re.fullmatch(r"label (\d{1,5})", name) for name in names]
    if len(known) == len(numbers) and all(known):
        own = [int(match[1]) for match in known if match]
        if len(set(own)) == len(own) and min(own) > 0 and max(own) <= 65535:
            return own
    return list(numbers)


def _geometry(volume: Any) -> Geometry:
    """The grid: highdicom's axes are slice, row, column, ours x, y, z."""
    affine = np.asarray(volume.affine, np.float64)[:3, [2, 1, 0, 3]]
    spacing = np.linalg.norm(affine[:, :3], axis=0)
    x, y, z = volume.array.shape[2::-1]
    return Geometry(
        (x, y, z),
        tuple(spacing.tolist()),
        tuple(affine[:, 3].tolist()),
        tuple((affine[:, :3] / spacing).ravel().tolist()),
        open_ended=True,
    )


def write_dicom_seg(
    series: Path, labels: np.ndarray, path: Path, names: Mapping[int, str] | None = None
) -> None:
    """Writes labels as a DICOM SEG object, one binary segment a label.

    Args:
        series: The folder or file that the volume was read from.
        labels: (D, H, W); empty masks cannot be such an object.
        path: Where to.
        names: Of labels, for the segments.

    Raises:
        ValueError: The masks are empty, or the images lack what such an object needs.
    """
    import highdicom

    if not labels.any():
        raise ValueError(f"{path}: the masks are empty; DICOM SEG needs at least one segment")
    _, frames, geometry = read_layout(series)
    sources, order = _sources(frames, series)
    for source in sources:
        if source.get("SliceThickness") is None and "SharedFunctionalGroupsSequence" not in source:
            source.SliceThickness = geometry.spacing[2]
    present = [int(label) for label in np.unique(labels) if label]
    described = _segments([(names or {}).get(label, f"label {label}") for label in present])
    masks = np.stack([labels == label for label in present], axis=-1).astype(np.uint8)[order]
    with warnings.catch_warnings():
        # The library reports optional attributes that the scanner left out.
        warnings.simplefilter("ignore")
        try:
            seg = highdicom.seg.Segmentation(
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
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: no DICOM SEG can be made of these images ({error}); leave out --dicom-seg"
            ) from None
    with replacing(path) as beside:
        seg.save_as(beside)


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


def _sources(frames: Sequence[Frame], series: Path) -> tuple[list, list[int]]:
    """The images that masks refer to, and which slice of the volume each of their frames is."""
    files = list(dict.fromkeys(frame.path for frame in frames))
    if len(files) > 1 and any(frame.frames > 1 for frame in frames):
        raise ValueError(
            f"{series}: has {len(files)} files of many frames, for which no DICOM SEG can be made; "
            "leave out --dicom-seg"
        )
    order = list(range(len(frames)))
    if len(files) == 1:
        order.sort(key=lambda slice_: frames[slice_].index)
    return [_source(path) for path in files], order


def _source(path: Path) -> Any:
    """A file's data elements; what an anonymiser emptied is filled in, as viewers do.

    Names of instances stand in the file's own header too; those of study and series are made from
    the frame of reference, so that they are the same for every slice and every run.
    """
    import pydicom

    data = dicom_files.read_header(path)
    meta = getattr(data, "file_meta", None) or {}
    data.SOPClassUID = data.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID")
    data.SOPInstanceUID = data.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID")
    frame = data.get("FrameOfReferenceUID")
    if not frame:
        raise ValueError(
            f"{path}: has no FrameOfReferenceUID, so a DICOM SEG object could not say where its "
            "masks lie; leave out --dicom-seg"
        )
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        if not data.get(keyword):
            setattr(data, keyword, pydicom.uid.generate_uid(entropy_srcs=[frame, keyword]))
    for keyword in _MAY_BE_EMPTY:
        if keyword not in data:
            setattr(data, keyword, "")
    return data
