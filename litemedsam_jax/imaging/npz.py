"""npz files: the one reader, which believes nothing it has not checked, and the one writer."""

import errno
import io
import lzma
import math
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np

from litemedsam_jax.files import one_line, replacing
from litemedsam_jax.imaging.errors import CaseError

# Arrays that declare more than this are refused before memory is taken for them.
MAX_ARRAY_BYTES = 1 << 30

# An array's header is parsed as Python; Python 3.11 may fail where several threads do that at once
# (SystemError; python/cpython#106905).
HEADERS = Lock()

# What zipfile raises on damaged files: a name that is no UTF-8 is a ValueError, lzma its own.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    ValueError,
)


def read_npz(
    path: str | Path, required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Reads the named arrays of an npz.

    Nothing is unpickled, and no size is believed before it is checked.

    Args:
        path: the npz.
        required: names of arrays that must be there.
        optional: names of arrays that are read where they are there.

    Returns:
        The arrays by name; numbers or bool, of any shape.

    Raises:
        CaseError: the file is missing, no npz, or damaged; it lacks a required array; an array
            holds no numbers, or takes more than `MAX_ARRAY_BYTES`. Its message begins with `path`.
    """
    path = Path(path)
    try:
        return _read(path, required, optional)
    except CaseError as error:
        raise CaseError(error.reason, path) from error


def _read(path: Path, required: Sequence[str], optional: Sequence[str]) -> dict[str, np.ndarray]:
    if path.exists() and not path.is_file():  # reading a named pipe would never end
        raise CaseError("it is no file (a folder or a device); expected an npz file")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            missing = [name for name in required if f"{name}.npy" not in members]
            if missing:
                raise CaseError(f"it has no array '{missing[0]}' (it has: {_listed(members)})")
            names = [*required, *(name for name in optional if f"{name}.npy" in members)]
            return {name: _read_array(archive, members[f"{name}.npy"], name) for name in names}
    except CaseError:
        raise
    except FileNotFoundError as error:
        raise CaseError("there is no such file") from error
    except (OSError, *_DAMAGE) as error:
        # bzip2's complaint has no number; a seek to where a damaged directory points is invalid.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise CaseError(f"it cannot be read: {error.strerror or error}") from error
        size = path.stat().st_size
        fault = "it is empty (0 bytes)" if size == 0 else f"it is no intact npz file ({error})"
        raise CaseError(f"{fault}; expected what numpy.savez_compressed writes") from error


def read_object_array(path: Path, name: str) -> Any:
    """What an object array of an npz holds, read without executing anything.

    Args:
        path: the npz.
        name: of the array.

    Returns:
        Dictionaries, lists, strings and numbers; None where there is no such array, or one of
        numbers, or no intact npz.

    Raises:
        CaseError: the array holds other objects, or too many.
    """
    from litemedsam_jax.imaging.object_arrays import read_objects
    from litemedsam_jax.pickle_reader import MAX_PICKLE_BYTES

    try:
        with zipfile.ZipFile(path) as archive:
            if f"{name}.npy" not in archive.namelist():
                return None
            with archive.open(f"{name}.npy") as stream:
                if not _read_header(stream, name, objects=True)[2].hasobject:
                    return None
                return read_objects(stream.read(MAX_PICKLE_BYTES + 1), name)
    except CaseError:
        raise
    except (OSError, *_DAMAGE):
        return None  # reading its other arrays says what is wrong with it


def _listed(members: Iterable[str]) -> str:
    names = sorted(name.removesuffix(".npy")[:40] for name in members)
    return ", ".join(names[:8] + ["..."] * (len(names) > 8)) or "nothing"


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> np.ndarray:
    with archive.open(info) as stream:
        shape, fortran, dtype = _read_header(stream, name)
        count = math.prod(shape)  # Python integers: a hostile shape does not overflow
        expected = count * dtype.itemsize
        if expected > MAX_ARRAY_BYTES:
            raise CaseError(
                f"array '{name}' of shape {shape} and type {dtype} takes {expected / 2**30:.1f} "
                f"GiB; the limit is {MAX_ARRAY_BYTES / 2**30:.0f} GiB: store it as uint8, or split "
                "the case"
            )
        if expected > info.file_size:
            raise CaseError(f"array '{name}' of shape {shape} is cut short")
        data = np.empty(count, dtype)
        if expected:
            view, filled = data.view(np.uint8).data, 0
            while filled < expected:
                read = stream.readinto(view[filled:])  # type: ignore[attr-defined]
                if not read:
                    raise CaseError(f"array '{name}' of shape {shape} is cut short")
                filled += read
            stream.read(1)  # past the end, where the checksum is compared
    return data.reshape(shape, order="F" if fortran else "C")


def _read_header(
    stream: IO[bytes], name: str, objects: bool = False
) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of an npy member: nothing but numbers, of a shape that can be."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers written by Python 2
            first = np.lib.format.read_magic(stream)[0] == 1
            size = stream.read(2 if first else 4)
            length = int.from_bytes(size, "little")
            if length >= 1 << 16:  # numpy would read it all, however much it is
                raise ValueError(f"its header is said to take {length} bytes")
            text = io.BytesIO(size + stream.read(length))
            form = np.lib.format
            parse = form.read_array_header_1_0 if first else form.read_array_header_2_0
            with HEADERS:
                shape, fortran, dtype = parse(text)
    except (OSError, *_DAMAGE[:-1]):
        raise
    except Exception as error:  # the header is a Python literal, which can fail in many ways
        message = one_line(" ".join(str(error).split()), 150)
        raise CaseError(f"array '{name}' is no npy data: {message}") from error
    if dtype.hasobject:
        if objects:
            return shape, fortran, dtype
        raise CaseError(f"array '{name}' holds Python objects, which are never unpickled")
    if dtype.kind not in "biufc" or dtype.itemsize == 0:
        raise CaseError(f"array '{name}' has values of type {dtype}; expected numbers")
    if len(shape) > 8 or any(not 0 <= length < 2**40 for length in shape):
        raise CaseError(f"array '{name}' declares the shape {shape}; expected at most 4 axes")
    return shape, fortran, dtype


def write_npz(path: str | Path, **arrays: np.ndarray) -> None:
    """Writes a compressed npz beside its name and renames it: a killed run leaves no half file.

    Args:
        path: the npz; its folder is made where it does not exist.
        **arrays: what it holds, by name.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as beside, beside.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
