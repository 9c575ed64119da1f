"""PyTorch's `.pth` files (zip archives): read with numpy alone, written with PyTorch.

Nothing in a file that is read is executed.
"""

import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from litemedsam_jax import pickle_reader
from litemedsam_jax.pickle_reader import Name, Refused, State
from litemedsam_jax.weights.errors import CheckpointError, replacing
from litemedsam_jax.weights.tree import bfloat16

_ELEMENT_TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
    "ComplexFloatStorage": "<c8",
    "ComplexDoubleStorage": "<c16",
}
_MAX_RANK = 16
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip member: signature, length of name, of extra
_LEGACY_START = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9"  # torch.save before PyTorch 1.6
_NUMPY_TYPE = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1", "c8", "c16")


def read_torch_file(path: str | Path) -> Any:
    """Reads a checkpoint written by `torch.save`.

    Returns:
        What was saved, made of dicts, lists, tuples, numbers and strings; a tensor is a read-only
        numpy array that lies in the memory-mapped file (bfloat16 as `ml_dtypes.bfloat16`).

    Raises:
        CheckpointError: The file is missing, not PyTorch's zip format, damaged, or its pickle
            wants anything but tensors, numpy numbers and plain containers.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(len(_LEGACY_START))
            _check_start(path, start)
            buffer = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            with zipfile.ZipFile(file) as archive:
                members = {info.filename: info for info in archive.infolist()}
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}.") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path}: a truncated or damaged zip archive ({error}). Fetch the file again."
        ) from error
    try:
        return _Archive(buffer, members).load()
    except Refused as error:
        raise CheckpointError(
            f"{path}: refused: it contains {error}. Only tensors, numpy numbers and plain "
            "containers are read; if you trust the file, save its state_dict alone with PyTorch."
        ) from error
    except _Damaged as error:
        raise CheckpointError(f"{path}: damaged: {error}. Fetch or save the file again.") from error


def write_torch_file(path: str | Path, state: Mapping[str, np.ndarray]) -> None:
    """Writes a bare state_dict that `load_state_dict(strict=True)` takes. Needs PyTorch.

    Args:
        path: The file; its folder is created.
        state: torch key -> array.

    Raises:
        CheckpointError: PyTorch is not installed, or the file cannot be written.
    """
    try:
        import torch
    except ImportError as error:
        raise CheckpointError(
            f"{path}: writing PyTorch's format needs PyTorch, which is not installed "
            "(pip install torch)."
        ) from error
    # A copy each: torch cannot hold read-only memory, which mapped files are.
    tensors = {key: torch.from_numpy(value.copy()) for key, value in state.items()}
    with replacing(Path(path)) as temporary:
        torch.save(tensors, temporary)


class _Damaged(Exception):
    """The archive contradicts itself."""


def _check_start(path: Path, start: bytes) -> None:
    if not start:
        raise CheckpointError(f"{path}: an empty file where a PyTorch checkpoint was expected.")
    if start.startswith(b"PK"):
        return
    if start == _LEGACY_START:
        raise CheckpointError(
            f"{path}: in PyTorch's format from before version 1.6, which is not read here. "
            "Load it with PyTorch and save it again with torch.save."
        )
    raise CheckpointError(
        f"{path}: not a PyTorch checkpoint: a zip archive written by torch.save was expected."
    )


class _Archive:
    """The members of one checkpoint: `NAME/data.pkl` and `NAME/data/0`, `NAME/data/1`, ..."""

    def __init__(self, buffer: memoryview, members: dict[str, zipfile.ZipInfo]):
        self.buffer = buffer
        self.members = members
        self.root = ""
        self.storages: dict[tuple[str, str], np.ndarray] = {}
        self.checked: set[str] = set()
        self.unread = len(buffer)  # members that overlap would be read again and again

    def load(self) -> Any:
        pickles = [name for name in self.members if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise Refused("no data.pkl, so it was not written by torch.save")
        self.root = pickles[0].removesuffix("data.pkl")
        if f"{self.root}constants.pkl" in self.members:
            raise Refused("a TorchScript program instead of a state_dict")
        byte_order = f"{self.root}byteorder"
        if byte_order in self.members and bytes(self._member(byte_order)) != b"little":
            raise Refused("big-endian numbers")
        if self.members[pickles[0]].file_size > pickle_reader.MAX_PICKLE_BYTES:
            most = pickle_reader.MAX_PICKLE_BYTES >> 20
            raise Refused(f"a description (data.pkl) of more than {most} MiB")
        data = bytes(self._member(pickles[0]))
        return pickle_reader.read_pickle(data, _BUILDERS, self._storage)

    def _member(self, name: str) -> memoryview:
        info = self.members.get(name)
        if info is None:
            raise _Damaged(f"it lacks {name}")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise Refused(f"the compressed or encrypted member {name} (PyTorch writes neither)")
        header = bytes(self.buffer[info.header_offset : info.header_offset + _LOCAL_HEADER.size])
        if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
            raise _Damaged(f"{name} has no header")
        _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        start = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        data = self.buffer[start : start + info.file_size]
        if len(data) != info.file_size:
            raise _Damaged(f"{name} reaches past the end of the file")
        if name not in self.checked:
            self.checked.add(name)
            self.unread -= len(data)
            if self.unread < 0:
                raise _Damaged("its members overlap")
            if zlib.crc32(data) != info.CRC:
                raise _Damaged(f"the checksum of {name} is wrong")
        return data

    def _storage(self, identity: Any) -> np.ndarray:
        """A storage as a flat array; `identity`: ("storage", type, key, device, elements)."""
        if not isinstance(identity, tuple) or len(identity) != 5 or identity[0] != "storage":
            raise Refused("a persistent object that is no storage")
        _, kind, key, _, count = identity
        if not isinstance(kind, Name) or not isinstance(key, str) or not _is_size(count):
            raise _Damaged("a storage with wrong fields")
        element = _ELEMENT_TYPES.get(kind.text.removeprefix("torch."))
        if element is None:
            raise Refused(f"a storage of type {kind.text}")
        if (key, element) not in self.storages:
            data = self._member(f"{self.root}data/{key}")
            dtype = _dtype(element)
            if len(data) % dtype.itemsize:
                raise _Damaged(f"the size of data/{key} is no multiple of its element's")
            self.storages[key, element] = np.frombuffer(data, dtype)
        storage = self.storages[key, element]
        if storage.size != count:
            raise _Damaged(f"data/{key} has {storage.size} elements, {count} are declared")
        return storage


def _dtype(element: str) -> np.dtype:
    return bfloat16() if element == "bfloat16" else np.dtype(element)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> np.ndarray:
    """torch._utils._rebuild_tensor_v2: a view of a storage; offset and strides in elements."""
    if not isinstance(storage, np.ndarray) or not _is_size(offset):
        raise _Damaged("a tensor without storage or with a wrong offset")
    if not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise _Damaged("a tensor with a wrong shape or wrong strides")
    if len(shape) != len(strides) or len(shape) > _MAX_RANK:
        raise _Damaged("a tensor with a wrong number of dimensions")
    if not all(map(_is_size, shape + strides)):
        raise _Damaged("a tensor with a wrong shape or wrong strides")
    if math.prod(shape) == 0:
        return np.zeros(shape, storage.dtype)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    # More elements than the storage has (an expanded tensor) would let a small file fill memory.
    if last >= storage.size or math.prod(shape) > storage.size:
        raise _Damaged("a tensor that reaches past its storage")
    itemsize = storage.dtype.itemsize
    return np.lib.stride_tricks.as_strided(
        storage[offset:], shape, [stride * itemsize for stride in strides], writeable=False
    )


def _parameter(data: Any, *_: Any) -> np.ndarray:
    """torch._utils._rebuild_parameter: the tensor itself."""
    if not isinstance(data, np.ndarray):
        raise _Damaged("a parameter that is no tensor")
    return data


def _ordered_dict(items: Any = ()) -> dict:
    result = {}
    for item in items:
        if not isinstance(item, list | tuple) or len(item) != 2 or not isinstance(item[0], str):
            raise _Damaged("an ordered dictionary with a wrong entry")
        result[item[0]] = item[1]
    return result


class _NumpyType(State):
    """A numpy dtype of numbers; its byte order comes with BUILD."""

    def __init__(self, text: Any, *_: Any):
        if not isinstance(text, str):  # a nest of tuples would take for ever to print
            raise Refused("a numpy type without a name")
        if text not in _NUMPY_TYPE:
            raise Refused(f"a numpy type {text[:20]!r}")
        self.dtype = np.dtype(text)

    def build(self, state: Any) -> "_NumpyType":
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|", "="):
            raise Refused("a numpy type that is not little-endian")
        return self


class _NumpyArray(State):
    """Stands for a numpy array of numbers until its state, which holds everything, is read."""

    def __init__(self, *_: Any):
        """Type, shape and buffer of an empty array: always the same, and of no use."""

    def build(self, state: Any) -> np.ndarray:
        _, shape, kind, fortran, data = state
        if not isinstance(kind, _NumpyType) or not isinstance(data, bytes):
            raise Refused("a numpy array of objects")
        order: Literal["C", "F"] = "F" if fortran else "C"
        return np.frombuffer(data, kind.dtype).reshape(shape, order=order)


def _numpy_scalar(kind: Any, data: Any = None) -> Any:
    if not isinstance(kind, _NumpyType) or not isinstance(data, bytes):
        raise Refused("a numpy scalar that is no number")
    if len(data) != kind.dtype.itemsize:
        raise _Damaged("a numpy scalar of the wrong size")
    return np.frombuffer(data, kind.dtype)[0]


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """_codecs.encode: how protocol 2 spells bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Refused("an encoded text")
    return text.encode("latin-1")


def _no_function(*_: Any) -> Any:
    raise Refused("a call of a storage type or of numpy.ndarray")


_BUILDERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "_codecs.encode": _encode,
    "numpy.dtype": _NumpyType,
    "numpy.ndarray": _no_function,
    **{f"torch.{name}": _no_function for name in _ELEMENT_TYPES},
}
for _core in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _BUILDERS[f"{_core}.scalar"] = _numpy_scalar
    _BUILDERS[f"{_core}._reconstruct"] = _NumpyArray
