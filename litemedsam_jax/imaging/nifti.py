"""NIfTI files in and out: NIfTI-1 and NIfTI-2, single files and pairs, packed by gzip or not.

A header can place the voxels twice, by its sform and its qform. The sform counts where its code is
above 0, as in nibabel, FSL and SPM; what is written for an image repeats both. nibabel interprets
headers; nothing in a header is believed before it is compared with the file's length. Source of the
layout: https://nifti.nimh.nih.gov.
"""

import contextlib
import gzip
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from litemedsam_jax.files import replacing
from litemedsam_jax.imaging.geometry import Geometry
from litemedsam_jax.imaging.nifti_header import (
    RGB,
    header_like,
    parse_header,
    place,
    values_start,
    values_type,
    volume_size,
)

SUFFIXES = (".nii.gz", ".nii", ".hdr", ".img")
_MAX_DEFLATE = 1032  # zlib cannot expand a byte to more than this
_CHUNK = 1 << 24


@dataclass(frozen=True)
class NiftiImage:
    """array: (D, H, W) or (D, H, W, 3) in the file's values; notes: what its reader should know."""

    array: np.ndarray
    geometry: Geometry
    notes: tuple[str, ...] = ()


def read_nifti(path: Path) -> NiftiImage:
    """Reads one volume; NaN and infinities stay what they are.

    Args:
        path: A .nii, .nii.gz, .hdr or .img (a pair's other file lies beside it).

    Raises:
        ValueError: The file is damaged, truncated, of a kind that is no volume, or its header does
            not say where its voxels lie.
    """
    about, data = _pair(path)
    try:
        with _opened(about) as (file, _):
            raw = file.read(540)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: is truncated or damaged ({error}); copy it again") from None
    header = parse_header(raw, path)
    size, flat = volume_size(header, path)
    geometry, notes = place(header, size, flat, path)
    array = _values(header, size, data, path)
    return NiftiImage(array, replace(geometry, nifti=bytes(header.binaryblock)), notes)


def write_nifti(path: str | Path, array: np.ndarray, geometry: Geometry) -> None:
    """Writes (D, H, W) or (D, H, W, 3) as NIfTI, packed if the path ends so.

    Where the grid was read from a NIfTI file, its sform and qform, with their codes, are repeated.
    """
    header = header_like(geometry)
    if array.ndim == 4:
        array = np.ascontiguousarray(array).view(RGB)[..., 0]
    header.set_data_dtype(array.dtype)
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"] = header["cal_max"] = 0
    start = 352 if header.sizeof_hdr == 348 else 544
    header["vox_offset"] = start
    head = header.binaryblock.ljust(start, b"\0")
    with replacing(Path(path)) as beside, beside.open("wb") as raw:
        # Without name and time: equal masks are equal files.
        packed = gzip.GzipFile("", "wb", 6, raw, mtime=0) if str(path).endswith(".gz") else None
        with packed or contextlib.nullcontext(raw) as stream:
            stream.write(head)
            for part in array.astype(array.dtype.newbyteorder("<"), copy=False):
                stream.write(np.ascontiguousarray(part).data)


def _pair(path: Path) -> tuple[Path, Path]:
    """The files of header and values."""
    if path.suffix.lower() not in (".hdr", ".img"):
        return path, path
    upper = path.suffix.isupper()
    about, data = (path.with_suffix(s.upper() if upper else s) for s in (".hdr", ".img"))
    for one in (about, data):
        if not one.is_file():
            raise ValueError(f"{path}: its other half, {one.name}, does not lie beside it")
    return about, data


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """The unpacked content, and the most bytes that it can hold.

    Whether it is packed is seen in the file, not in its name.
    """
    length = path.stat().st_size
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if packed:
            with gzip.open(raw) as file:
                yield file, length * _MAX_DEFLATE  # type: ignore[misc]
        else:
            yield raw, length


def _values(header: Any, size: tuple[int, int, int], data: Path, path: Path) -> np.ndarray:
    dtype = values_type(header, path)
    wanted = math.prod(size) * dtype.itemsize
    start = values_start(header, path)
    try:
        with _opened(data) as (file, most):
            if start + wanted > most:
                raise EOFError(f"its header speaks of {wanted} bytes of values")
            file.seek(start)
            content = np.empty(wanted, np.uint8)
            at = 0
            while at < wanted and (count := file.readinto(content.data[at : at + _CHUNK])):  # type: ignore[attr-defined]
                at += count
            if at < wanted:
                raise EOFError(f"{at} of {wanted} bytes of values")
            _check_end(file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: is truncated or damaged ({error}); copy it again") from None
    array = content.view(dtype).reshape(size[::-1])
    if dtype == RGB:
        return content.reshape(*size[::-1], 3)
    return _scaled(array.astype(dtype.newbyteorder("="), copy=False), header, path)


def _check_end(file: IO[bytes]) -> None:
    """At its end a packed file's checksum is compared; what follows that is passed over."""
    try:
        file.read(1)
    except gzip.BadGzipFile as error:
        if "Not a gzipped" not in str(error):
            raise


def _scaled(array: np.ndarray, header: Any, path: Path) -> np.ndarray:
    slope, shift = float(header["scl_slope"]), float(header["scl_inter"])
    if not math.isfinite(slope) or slope == 0 or (slope, shift) == (1, 0):
        return array
    if not math.isfinite(shift):
        raise ValueError(f"{path}: its header is damaged (scl_inter is {shift}); export it again")
    wide = np.float64 if array.dtype.itemsize > 2 and array.dtype.kind != "f" else np.float32
    scaled = array.astype(wide if array.dtype.kind != "f" else array.dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are reported as such later
        scaled *= slope
        scaled += shift
    return scaled
