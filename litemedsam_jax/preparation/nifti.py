"""Values of NIfTI files that ITK's reader hides: it makes 0 of NaN and infinities, without a word.

Source of the layout: the NIfTI-1 and NIfTI-2 headers, https://nifti.nimh.nih.gov.
"""

import gzip
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

# Size of the header -> format (without byte order) and offset of the data type, of the data.
_HEADERS = {348: (("h", 70), ("f", 108)), 540: (("h", 12), ("q", 168))}
_FLOATS = {16: "f4", 64: "f8"}
_CHUNK = 1 << 24


def unusable_values(path: Path) -> np.ndarray:
    """Positions of NaN and infinities in a .nii or .nii.gz, in the order of its voxels (x first).

    Whole numbers are not read at all. Empty too for what is no NIfTI file: whoever reads the
    volume tells that.
    """
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not packed:
            return _positions(raw)
        with gzip.open(raw) as unpacked:
            return _positions(unpacked)  # type: ignore[arg-type]


def _positions(file: "BinaryIO") -> np.ndarray:
    header = file.read(540)
    order = next((o for o in "<>" if struct.unpack_from(f"{o}i", header)[0] in _HEADERS), None)
    found = [np.zeros(0, np.int64)]
    if order is None:
        return found[0]
    kind_at, start_at = _HEADERS[struct.unpack_from(f"{order}i", header)[0]]
    kind, start = (
        struct.unpack_from(order + form, header, at)[0] for form, at in (kind_at, start_at)
    )
    if kind not in _FLOATS:
        return found[0]
    values_are = np.dtype(order + _FLOATS[kind])
    file.seek(int(start))
    first = 0
    while chunk := file.read(_CHUNK):
        values = np.frombuffer(chunk, values_are, len(chunk) // values_are.itemsize)
        found.append(np.flatnonzero(~np.isfinite(values)) + first)
        first += len(values)
    return np.concatenate(found)
