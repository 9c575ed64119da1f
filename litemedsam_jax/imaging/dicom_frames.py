"""Where the slices of DICOM images lie, each by its own header."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from litemedsam_jax.imaging.dicom_files import DicomFile
from litemedsam_jax.imaging.errors import library_message

# Cosines are rounded.
SAME_COSINE = 2e-3


@dataclass(frozen=True)
class Frame:
    """One slice: a file's image, or one of its frames.

    Attributes:
        path: The file.
        index: Of the frame in the file.
        frames: How many the file has.
        size: Columns, rows.
        position: (3,) centre of the first pixel in mm (LPS), or None.
        orientation: (2, 3) cosines along a row and along a column, or None.
        spacing: Between columns (x) and between rows (y) in mm, or None.
        thickness: Between slices in mm, as the file says, or None.
        slope, intercept: From stored numbers to values.
        reference: FrameOfReferenceUID, in which positions are told; empty: none.
    """

    path: Path
    index: int
    frames: int
    size: tuple[int, int]
    position: np.ndarray | None
    orientation: np.ndarray | None
    spacing: tuple[float, float] | None
    thickness: float | None
    slope: float
    intercept: float
    reference: str = ""

    @property
    def name(self) -> str:
        """For messages."""
        return str(self.path) if self.frames == 1 else f"{self.path}, frame {self.index + 1}"

    @property
    def normal(self) -> np.ndarray:
        """(3,) across the slice."""
        assert self.orientation is not None
        return np.cross(self.orientation[0], self.orientation[1])


def frames_of(file: DicomFile) -> list[Frame]:
    """A file's slices, as they follow each other in it.

    Raises:
        ValueError: A number in the header is none.
    """
    try:
        return _frames(file.header, file.path)
    except Exception as error:  # pydicom decodes a value when it is asked for
        if isinstance(error, MemoryError) or str(error).startswith(str(file.path)):
            raise
        message = library_message(error, 120)
        raise ValueError(f"{file.path}: its header is damaged ({message}); copy it again") from None


def _frames(header: Any, path: Path) -> list[Frame]:
    frames = _count(header, path)
    size = (int(header.Columns), int(header.Rows))
    result = []
    for index in range(frames):
        groups = _Groups(header, index, path)
        position = groups.numbers("PlanePositionSequence", "ImagePositionPatient", 3)
        cosines = groups.numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6)
        spacing = groups.numbers("PixelMeasuresSequence", "PixelSpacing", 2)
        if spacing is None and position is None:
            spacing = groups.numbers("", "ImagerPixelSpacing", 2)
        if spacing is not None and min(spacing) <= 0:
            raise ValueError(f"{path}: its PixelSpacing is {spacing}; expected mm above 0")
        slope = groups.number("PixelValueTransformationSequence", "RescaleSlope", 1.0)
        if slope == 0:
            raise ValueError(f"{path}: its RescaleSlope is 0, so it has no values; export it again")
        between = groups.number("PixelMeasuresSequence", "SpacingBetweenSlices", 0.0)
        thick = groups.number("PixelMeasuresSequence", "SliceThickness", 0.0)
        result.append(
            Frame(
                path,
                index,
                frames,
                size,
                None if position is None else np.array(position),
                None if cosines is None else _orientation(cosines, path),
                None if spacing is None else (spacing[1], spacing[0]),
                next((side for side in (between, thick) if side > 0), None),
                slope,
                groups.number("PixelValueTransformationSequence", "RescaleIntercept", 0.0),
                str(header.get("FrameOfReferenceUID") or ""),
            )
        )
    return result


class _Groups:
    """A frame's attributes: its own, those that all frames share, or the image's."""

    def __init__(self, header: Any, index: int, path: Path):
        own = header.get("PerFrameFunctionalGroupsSequence") or []
        shared = header.get("SharedFunctionalGroupsSequence") or []
        self._groups = [*own[index : index + 1], *shared[:1]]
        self._header, self._path = header, path

    def numbers(self, sequence: str, keyword: str, count: int) -> tuple[float, ...] | None:
        value = None
        for group in self._groups:
            items = group.get(sequence) if sequence else None
            value = items[0].get(keyword) if items else None
            if value is not None:
                break
        if value is None:
            value = self._header.get(keyword)
        if value is None or value == "" or (hasattr(value, "__len__") and len(value) == 0):
            return None
        try:
            values = [float(v) for v in (value if count > 1 else [value])]
        except (TypeError, ValueError):
            values = []
        if len(values) != count or not all(map(math.isfinite, values)):
            raise ValueError(f"{self._path}: its {keyword} is {value}; expected {count} numbers")
        return tuple(values)

    def number(self, sequence: str, keyword: str, default: float) -> float:
        value = self.numbers(sequence, keyword, 1)
        return default if value is None else value[0]


def _count(header: Any, path: Path) -> int:
    try:
        frames = int(header.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        frames = 0
    own = len(header.get("PerFrameFunctionalGroupsSequence") or [])
    if not 1 <= frames <= 65535 or (own and own != frames):
        raise ValueError(
            f"{path}: says that it has {header.get('NumberOfFrames')} frames and describes {own}; "
            "it is damaged, export it again"
        )
    return frames


def _orientation(cosines: Sequence[float], path: Path) -> np.ndarray:
    axes = np.reshape(cosines, (2, 3))
    lengths = np.linalg.norm(axes, axis=1)
    if np.abs(lengths - 1).max() > SAME_COSINE or abs(axes[0] @ axes[1]) > SAME_COSINE:
        raise ValueError(
            f"{path}: its ImageOrientationPatient is {list(cosines)}; expected two directions at a "
            "right angle, of length 1"
        )
    return axes / lengths[:, None]
