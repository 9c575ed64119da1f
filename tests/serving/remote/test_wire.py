"""The format of arrays: what comes back, and what is refused before memory is taken."""

import struct

import numpy as np
import pytest

from litemedsam_jax.serving.remote import wire

LIMIT = 1 << 24
ARRAYS = [
    np.zeros((2, 3, 4, 5), np.int16),
    np.arange(60, dtype=np.float32).reshape(3, 4, 5),
    np.random.default_rng(0).integers(0, 2, (7, 11)).astype(bool),
    np.random.default_rng(0).integers(-1000, 2000, (1, 9, 64, 64)).astype(np.int16),
    np.full(1000, 7, np.int64),
    np.float16([1, 2, 3]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{list(a.shape)}")
def test_arrays_come_back_and_are_those_of_the_real_client(array):
    read = wire.unpack(wire.pack(array), LIMIT)
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype
    client = pytest.importorskip("nnInteractive.inference.remote.serialization")
    import blosc2

    np.testing.assert_array_equal(client.unpack_array(wire.pack(array)), array)
    for codec in (blosc2.Codec.ZSTD, blosc2.Codec.LZ4):
        body = client.pack_array(array, codec=codec)
        np.testing.assert_array_equal(wire.unpack(body, LIMIT), array)


def changed(at: int, value: bytes) -> bytes:
    body = bytearray(wire.pack(np.zeros((1, 4, 5, 6), np.int16)))
    body[at : at + len(value)] = value
    return bytes(body)


# The header: magic 0, version 4, codec 5, axes 6, length 7, "int16" 8, shape 13, chunks 45; the
# chunk: length 49, compressed length 57, blosc2's own header from 65.
@pytest.mark.parametrize(
    "body, message",
    [
        (b"", "0 bytes"),
        (changed(0, b"NNIX"), "NNIA"),
        (changed(4, b"\x02"), "version 2"),
        (changed(5, b"\x09"), "codec is 9"),
        (changed(6, b"\xff"), "255 axes"),
        (changed(8, b"objec"), "'objec'"),
        (changed(13, struct.pack("<q", -1)), "positive"),
        (changed(45, struct.pack("<I", 2)), "ends before its last chunk"),
        (changed(45, struct.pack("<I", 0)), "0 bytes"),
        (changed(49, struct.pack("<Q", 238)), "another length"),
        (changed(49, struct.pack("<Q", 1 << 40)), "more than the array's shape"),
        (changed(65 + 8, struct.pack("<i", 2**31 - 1)), "not one that the protocol's client"),
        (changed(65 + 16, b"\xa0"), "a feature of blosc2"),
        (changed(65 + 31, b"\x40"), "a feature of blosc2"),  # memory left as it was
        (changed(0, b"")[:-1], "ends within a chunk"),
        (changed(0, b"") + b"x", "bytes follow"),
    ],
)
def test_malformed_bodies_are_refused_in_a_sentence(body, message):
    with pytest.raises(wire.WireError, match=message):
        wire.unpack(body, LIMIT)


def test_a_small_body_of_a_large_array_is_refused_before_memory_is_taken():
    body = bytearray(wire.pack(np.zeros((1, 64, 512, 512), np.uint8)))
    assert len(body) < 200
    with pytest.raises(wire.TooLarge, match="16 MiB; this server takes at most 15"):
        wire.unpack(body, 15 << 20)
    struct.pack_into("<q", body, 13, 1 << 62)
    with pytest.raises((wire.TooLarge, wire.WireError)):
        wire.unpack(body, LIMIT)
