"""What ITK's reader of NIfTI files keeps to itself: values that it made 0 without a word.

It does so with NaN and infinities, and with all that a file which was cut short no longer holds.
Source of the layout: the NIfTI-1 and NIfTI-2 headers, https://nifti.nimh.nih.gov.
"""

import gzip
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

# Size of the header -> what it says and where: format without byte order, offset.
_FIELDS = {
    348: {"dims": ("8h", 40), "kind": ("h", 70), "bits": ("h", 72), "start": ("f", 108)},
    540: {"dims": ("8q", 16), "kind": ("h", 12), "bits": ("h", 14), "start": ("q", 168)},
}
_FLOATS = {16: "f4", 64: "f8"}
_CHUNK = 1 << 24


@dataclass(frozen=True)
class _Header:
    order: str  # of bytes: < or >
    kind: int
    start: int
    end: int


def unusable_values(path: Path) -> np.ndarray:
    """Positions of NaN and infinities in a .nii or .nii.gz, in the order of its voxels (x first).

    Whole numbers are not read, unless the file's length makes one doubt that all are there. Raises
    ValueError if they are not. For what is no NIfTI file at all, ITK's reader has the word.
    """
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            if not packed:
                return _scan(raw, path.stat().st_size)
            raw.seek(-4, os.SEEK_END)
            (told,) = struct.unpack("<I", raw.read(4))  # gzip's end: the unpacked length
            raw.seek(0)
            with gzip.open(raw) as file:
                return _scan(file, told)  # type: ignore[arg-type]
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: is cut short or damaged ({error}); copy it again") from None


def _read_header(file: IO[bytes]) -> _Header | None:
    header = file.read(540)
    for order in "<>":
        size = struct.unpack_from(f"{order}i", header)[0] if len(header) >= 348 else 0
        if size not in _FIELDS or len(header) < size:
            continue
        said = {
            k: struct.unpack_from(order + f, header, at) for k, (f, at) in _FIELDS[size].items()
        }
        rank, *sizes = said["dims"]
        (kind,), (bits,), start = said["kind"], said["bits"], int(said["start"][0])
        voxels = int(np.prod(sizes[:rank], dtype=np.int64))
        return _Header(order, kind, start, start + voxels * bits // 8)
    return None


def _scan(file: IO[bytes], length: int) -> np.ndarray:
    """Reads the values to their end, if anything can be found. Raises EOFError if it is too early.

    length: what the file is said to hold, modulo 2**32; garbage where the file was cut.
    """
    header, found = _read_header(file), [np.zeros(0, np.int64)]
    if header is None or (header.kind not in _FLOATS and (header.end - length) % (1 << 32) == 0):
        return found[0]
    file.seek(header.start)
    values_are = np.dtype(header.order + _FLOATS.get(header.kind, "u1"))
    at = header.start
    while at < header.end and (chunk := file.read(min(_CHUNK, header.end - at))):
        if header.kind in _FLOATS:
            values = np.frombuffer(chunk, values_are, len(chunk) // values_are.itemsize)
            first = (at - header.start) // values_are.itemsize
            found.append(np.flatnonzero(~np.isfinite(values)) + first)
        at += len(chunk)
    if at < header.end:
        raise EOFError(f"{at} bytes of header and values instead of {header.end}")
    return np.concatenate(found)
