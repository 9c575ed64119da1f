"""Arrays as the remote protocol sends them: a header, then chunks compressed by blosc2.

The header is `NNIA`, version, codec, number of axes, length of the dtype's name (a byte each), the
name, the shape (int64 each), the number of chunks (uint32); each chunk is its length, its
compressed length (uint64 each) and the compressed bytes. All little-endian. Source: the package
`nninteractive-client` 2.5.1 to 2.6.0.
"""

import math
import struct
from typing import NamedTuple

import numpy as np

MAGIC, VERSION = b"NNIA", 1
_ZSTD, _LZ4 = 1, 2  # the header's codecs
_CHUNK = 1 << 30  # bytes: blosc2 takes less than 2 GiB at once
_MOST_AXES = 5
DTYPES = frozenset(
    {
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("bool", "float16", "float32", "float64"),
    }
)

# Of a blosc2 chunk: its header's size, the codecs (as bits 5-7 of its flags), the filters.
_CHUNK_HEADER = 32
_EXTENDED, _COPIED, _CHUNK_CODECS, _CHUNK_FILTERS = 0x05, 0x02, (1, 4), (0, 1, 2)
_SPECIAL_VALUES = (0, 1, 2, 3)  # none, zeros, NaN, one value; 4 would leave memory as it was
_MOST_BLOCK = 64 << 20  # bytes, of which blosc2 takes several for each of its threads


class WireError(ValueError):
    """A body that is no array of this protocol."""


class TooLarge(ValueError):
    """A body, or the array in it, that is larger than this server takes."""


class Header(NamedTuple):
    """What a body says of its array; nothing is allocated for it yet."""

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int  # of the chunks in the body
    chunks: int

    @property
    def nbytes(self) -> int:
        """Of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(body: bytes | bytearray, most_bytes: int) -> Header:
    """Reads and checks what a body says of its array.

    Raises:
        WireError: It is malformed.
        TooLarge: The array would take more than `most_bytes`.
    """
    if len(body) < 8:
        raise WireError(f"the body has {len(body)} bytes; expected an array of this protocol")
    magic, version, codec, axes, length = struct.unpack_from("<4sBBBB", body)
    if magic != MAGIC:
        raise WireError("the body does not begin with NNIA; expected an array of this protocol")
    if version != VERSION:
        raise WireError(f"the array has format version {version}; this server reads {VERSION}")
    if codec not in (_ZSTD, _LZ4):
        raise WireError(f"the array's codec is {codec}; expected 1 (Zstandard) or 2 (LZ4)")
    if not 1 <= axes <= _MOST_AXES:
        raise WireError(f"the array has {axes} axes; expected 1 to {_MOST_AXES}")
    start = 8 + length + 8 * axes + 4
    if len(body) < start:
        raise WireError("the body ends within the array's header")
    name = bytes(body[8 : 8 + length]).decode("ascii", "replace")
    if name not in DTYPES:
        raise WireError(f"the array's type is '{name[:40]}'; expected a number's, such as int16")
    shape = struct.unpack_from(f"<{axes}q", body, 8 + length)
    if min(shape) < 1:
        raise WireError(f"the array's shape is {list(shape)}; expected positive lengths")
    (chunks,) = struct.unpack_from("<I", body, start - 4)
    header = Header(np.dtype(name), shape, start, chunks)
    if header.nbytes > most_bytes:
        raise TooLarge(
            f"the array of shape {list(shape)} and type {name} takes {header.nbytes >> 20} MiB; "
            f"this server takes at most {most_bytes >> 20} MiB"
        )
    return header


def unpack(body: bytes | bytearray, most_bytes: int) -> np.ndarray:
    """Reads an array; its whole body is checked before its memory is taken.

    Raises:
        WireError: The body is malformed.
        TooLarge: The array would take more than `most_bytes`.
    """
    header = read_header(body, most_bytes)
    spans = list(_chunk_spans(body, header))
    import blosc2  # takes 0.35 s

    view = memoryview(body)
    flat = np.zeros(header.nbytes, np.uint8)
    end = 0
    for start, stop, length in spans:
        target = flat[end : end + length]
        try:
            blosc2.decompress2(view[start:stop], dst=target)
        except (RuntimeError, ValueError, TypeError):
            raise WireError("a chunk of the array cannot be decompressed") from None
        end += length
    array = flat.view(header.dtype).reshape(header.shape)
    if header.dtype == np.bool_:
        np.minimum(flat, 1, out=flat)  # other bytes are no truth values
    return array


def pack(array: np.ndarray) -> bytes:
    """An array as a body."""
    import blosc2

    array = np.ascontiguousarray(array)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    name = array.dtype.name.encode()
    raw = array.reshape(-1).view(np.uint8)
    parts = [
        struct.pack("<4sBBBB", MAGIC, VERSION, _ZSTD, array.ndim, len(name)),
        name,
        struct.pack(f"<{array.ndim}q", *array.shape),
        struct.pack("<I", -(-raw.nbytes // _CHUNK)),
    ]
    for start in range(0, raw.nbytes, _CHUNK):
        piece = raw[start : start + _CHUNK]
        chunk = blosc2.compress2(
            piece, typesize=array.itemsize, codec=blosc2.Codec.ZSTD, clevel=1,
            filters=[blosc2.Filter.NOFILTER],
        )  # fmt: skip
        parts += [struct.pack("<QQ", piece.nbytes, len(chunk)), chunk]
    return b"".join(parts)


def _chunk_spans(body: bytes | bytearray, header: Header):
    """Yields start and stop of each chunk in the body, and its length decompressed."""
    position, total = header.start, 0
    for _ in range(header.chunks):
        if len(body) < position + 16:
            raise WireError("the body ends before its last chunk")
        length, compressed = struct.unpack_from("<QQ", body, position)
        position += 16
        if len(body) < position + compressed:
            raise WireError("the body ends within a chunk")
        total += length
        if total > header.nbytes:
            raise WireError("the chunks hold more than the array's shape says")
        if length % header.dtype.itemsize:
            raise WireError("a chunk ends within a number")
        _check_chunk(memoryview(body)[position : position + compressed], length)
        yield position, position + compressed, length
        position += compressed
    if total != header.nbytes:
        raise WireError(f"the chunks hold {total} bytes and the array's shape {header.nbytes}")
    if position != len(body):
        raise WireError("bytes follow the array's last chunk")


def _check_chunk(chunk: memoryview, length: int) -> None:
    """Refuses what blosc2 must not be given: other sizes, large blocks, plug-ins, lazy chunks."""
    if len(chunk) < _CHUNK_HEADER:
        raise WireError("a chunk is shorter than its header")
    flags, typesize = chunk[2], chunk[3]
    size, block, compressed = struct.unpack_from("<iii", chunk, 4)
    if size != length or compressed != len(chunk):
        raise WireError("a chunk's own header says another length")
    codec_fits = flags >> 5 in _CHUNK_CODECS or (flags & _COPIED and flags >> 5 == 0)
    block_fits = 0 < block <= min(size, _MOST_BLOCK) and typesize > 0
    if not block_fits or not codec_fits or flags & _EXTENDED != _EXTENDED:
        raise WireError("a chunk is not one that the protocol's client writes")
    special = chunk[31] >> 4
    if (
        not set(chunk[16:22]) <= set(_CHUNK_FILTERS)
        or special not in _SPECIAL_VALUES
        or chunk[30]
        or chunk[31] & 0x0F
    ):
        raise WireError("a chunk uses a feature of blosc2 that this server does not read")
