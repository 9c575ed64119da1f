"""Faults of the zip around the arrays: cut, flipped, bombs, odd names and entries."""

import zipfile

import numpy as np

from tests.batch.hostile.making import Random, good, header, npy, zipped


def truncated(rng: Random) -> bytes:
    content = zipped(good(rng))
    return content[: rng.integers(0, len(content))]


def flipped(rng: Random) -> bytes:
    method = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    content = bytearray(zipped(good(rng), method[rng.integers(4)]))
    # The directory at the end and the array headers matter most.
    start = rng.choice([0, 0, len(content) - 300])
    for _ in range(rng.integers(1, 9)):
        content[rng.integers(max(start, 0), len(content))] ^= 1 << rng.integers(8)
    return bytes(content)


def garbage(rng: Random) -> bytes:
    start = [b"", b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY\x01\x00", b"\x1f\x8b"]
    return start[rng.integers(5)] + rng.bytes(int(rng.choice([0, 1, 22, 100, 5000])))


def wrong_keys(rng: Random) -> bytes:
    members = good(rng)
    key = list(members)[rng.integers(3)]
    content = members.pop(key)
    names = [
        "{}",
        "IMGS.npy",
        "a/{}",
        "../{}",
        "/etc/{}",
        "{}.npy",
        "{}\x00.npy",
        "é\n{}",
        "x" * 9999,
    ]
    name = names[rng.integers(len(names))].format(key)
    return zipped(members | ({name: content} if rng.random() < 0.8 else {}))


def bomb(rng: Random) -> bytes:
    members, zeros = good(rng, False), b"\0" * (48 << 20)
    kind = rng.integers(4)
    if kind == 0:
        return zipped({"imgs.npy": header("(9999, 99999, 3)") + zeros} | members)
    if kind == 1:  # more than it declares
        return zipped(members | {"imgs.npy": npy(np.zeros((9, 9), np.uint8)) + zeros})
    if kind == 2:
        return zipped(members | {f"{index}.npy": b"" for index in range(20_000)})
    return zipped(members | {"boxes.npy": npy(np.zeros((6 << 20, 4), np.uint8))})


def odd_zip(rng: Random) -> bytes:
    content = bytearray(zipped(good(rng)))
    kind = rng.integers(6)
    directory = content.rfind(b"PK\x01\x02")
    if kind == 0:  # encrypted, it says
        for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
            content[content.find(mark) + offset] |= 1
    elif kind == 1:  # an unknown compression
        content[content.find(b"PK\x01\x02") + 10] = 77
    elif kind == 2:  # a name that is no UTF-8, though it says so
        content[directory + 9] |= 8
        content[directory + 46] = 0xFF
    elif kind == 3:  # the end says that the directory lies elsewhere
        content[-6:-2] = int(rng.integers(1 << 32)).to_bytes(4, "little")
    elif kind == 4:  # sizes that are not so
        at = content.find(b"PK\x01\x02")
        content[at + 20 : at + 28] = rng.bytes(8)
    else:  # an offset of a member that is not so
        content[directory + 42 : directory + 46] = rng.bytes(4)
    return bytes(content)
