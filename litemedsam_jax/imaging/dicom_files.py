"""Which files of a folder are the slices of its DICOM series, and their headers (pydicom)."""

import re
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from litemedsam_jax.imaging.errors import library_message
from litemedsam_jax.imaging.file_kinds import looks_like_dicom

# Objects that lie beside a series and are never its slices.
_DERIVED = ("Segmentation Storage", "Label Map Segmentation Storage", "RT Dose Storage")
_HELP = {
    "RT Structure Set Storage": "holds contours (RTSTRUCT), no voxels; convert it to a label "
    "volume first, by 3D Slicer (SlicerRT), plastimatch or rt-utils",
    "RT Dose Storage": "holds a dose (RTDOSE), no image; give the CT or MR that was planned on",
    "Segmentation Storage": "holds segments (DICOM SEG), no image; it can be a mask that gives "
    "boxes, or be scored by `litemedsam evaluate`",
    "Label Map Segmentation Storage": "holds segments (DICOM SEG), no image; it can be a mask that "
    "gives boxes, or be scored by `litemedsam evaluate`",
    "Media Storage Directory Storage": "is a CD's table of contents; give the CD's folder or that "
    "of the series",
}

# A value is decoded when it is first asked for: damage shows then.
_READ_EARLY = (
    "Rows", "Columns", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesDescription",
    "SeriesNumber", "Modality", "SamplesPerPixel", "PhotometricInterpretation",
)  # fmt: skip


@dataclass(frozen=True)
class DicomFile:
    """A DICOM file and its header, without pixels."""

    path: Path
    header: Any  # pydicom.Dataset


def image_files(path: Path) -> list[DicomFile]:
    """The images of a folder's one series, or of one file, in the order of their names.

    Of a CD (a folder with a DICOMDIR) the folders below are searched too. What is no image
    (reports, plans, segmentations, viewers, macOS's ._ files) is passed over; what should be one
    and cannot be read is not.

    Raises:
        ValueError: A file is damaged; there is no image, or more than one series.
    """
    if path.is_file():
        header = read_header(path)
        if not _is_image(header) or _kind(header) in _DERIVED:
            raise ValueError(f"{path}: {_HELP.get(_kind(header), _no_image(header))}")
        return [DicomFile(path, header)]
    images: list[DicomFile] = []
    others: list[DicomFile] = []
    foreign: list[Path] = []
    for file in _candidates(path):
        if not looks_like_dicom(file):
            foreign.append(file)
            continue
        header = read_header(file)
        (images if _is_image(header) else others).append(DicomFile(file, header))
    slices = [one for one in images if _kind(one.header) not in _DERIVED]
    if not slices and not foreign and len(images) + len(others) == 1:
        return image_files((images + others)[0].path)  # says what it is
    if not slices:
        kinds = ", ".join(sorted({_kind(one.header) for one in (*images, *others)})) or "none"
        raise ValueError(
            f"{path}: holds no DICOM image that can be read (damaged files, or reports and plans "
            f"instead of images: {kinds}); copy the series again"
        )
    _demand_all_readable(slices, foreign, path)
    _demand_one_series(slices, path)
    return slices


def read_header(path: Path) -> Any:
    """A file's data elements but its pixels; raises ValueError if it is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that break a rule and hurt nobody
            header = read_data_set(path, pixels=False)
            for keyword in _READ_EARLY:
                header.get(keyword)
            _kind(header)
    except MemoryError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(f"{path}: is damaged ({error}); copy it again") from None
    except Exception as error:  # damaged files fail in many ways inside pydicom
        message = library_message(error, 120)
        raise ValueError(
            f"{path}: cannot be read as DICOM, it is damaged ({message}); copy it again"
        ) from None
    if not _kind(header):
        raise ValueError(
            f"{path}: cannot be read as a slice of the series (truncated, or not DICOM); copy it "
            "again, or take it out"
        )
    return header


def read_data_set(path: Path, *, pixels: bool) -> Any:
    """All of a file, as pydicom reads it; its errors are of many kinds."""
    data = pydicom.dcmread(path, force=True, stop_before_pixels=not pixels)
    if "TransferSyntaxUID" not in getattr(data, "file_meta", {}):  # a file without preamble
        implicit, little = data.original_encoding
        data.file_meta = data.get("file_meta") or pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian
            if implicit
            else ExplicitVRLittleEndian
            if little
            else ExplicitVRBigEndian
        )
    return data


def sop_class(header: Any) -> str:
    """The unique identifier of what kind of object a file is; empty where it does not say."""
    meta = getattr(header, "file_meta", None) or {}
    return str(header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")


def _kind(header: Any) -> str:
    return UID(sop_class(header), validation_mode=pydicom.config.IGNORE).name


def _no_image(header: Any) -> str:
    return f"holds no image ({_kind(header)}); give the series that it belongs to"


def _is_image(header: Any) -> bool:
    """Whether there are pixels; raises ValueError where there should be and are not."""
    if header.get("Rows") and header.get("Columns"):
        return True
    name = _kind(header)
    # A header that ends before its rows: the file was cut short.
    if "Image Storage" in name or name in _DERIVED:
        raise ValueError(
            f"{header.filename}: is truncated (its header ends before the image's size); copy it "
            "again, or take it out"
        )
    return False


def _candidates(folder: Path) -> list[Path]:
    names = {path.name.upper() for path in folder.iterdir()}
    entries = folder.rglob("*") if "DICOMDIR" in names else folder.iterdir()
    return sorted(
        path
        for path in entries
        if path.is_file() and path.name.upper() != "DICOMDIR" and not _is_apple_double(path)
    )


def _is_apple_double(path: Path) -> bool:
    """Whether macOS made it, for what a disk has no room for in the file itself."""
    return path.name.startswith("._") and not looks_like_dicom(path)


def _demand_all_readable(slices: list[DicomFile], foreign: list[Path], folder: Path) -> None:
    """A file that is named as a slice and is none was one before it was damaged."""
    patterns = {_pattern(one.path) for one in slices}
    broken = [
        path
        for path in foreign
        if path.suffix.lower() in (".dcm", ".ima", ".dicom") or _pattern(path) in patterns
    ]
    if broken:
        raise ValueError(
            f"{broken[0]}: cannot be read as a slice of the series ({len(broken)} such files); "
            "copy the series again, or take these files out"
        )


def _pattern(path: Path) -> str:
    return re.sub(r"\d+", "0", path.name)


def _demand_one_series(slices: list[DicomFile], folder: Path) -> None:
    series = Counter(str(one.header.get("SeriesInstanceUID") or "") for one in slices)
    if len(series) == 1:
        return
    told = []
    for name, count in series.most_common(3):
        one = next(o for o in slices if str(o.header.get("SeriesInstanceUID") or "") == name)
        said = one.header.get("SeriesDescription") or one.header.get("SeriesNumber") or "unnamed"
        where = one.path.parent.relative_to(folder)
        place = f" in {where}" if str(where) != "." else f", {one.path.name}, ..."
        told.append(f"{one.header.get('Modality') or '?'} {said}: {count}{place}")
    raise ValueError(
        f"{folder}: holds {len(series)} DICOM series ({'; '.join(told)}); expected one. Give the "
        "folder of one, or put each in a folder of its own"
    )
