"""Faults of the arrays: headers, types, shapes, sizes, values."""

import io

import numpy as np

from tests.batch.hostile.making import Random, good, header, npy, zipped

DTYPES = [
    *"?bBhHiIlLqQefdgFDG",
    *("S5", "U3", "V4", "M8[s]", "m8[D]", ">u2", ">f4", "<i8"),
]


def header_flipped(rng: Random) -> bytes:
    members = good(rng)
    key = list(members)[rng.integers(5)]
    content = bytearray(members[key])
    for _ in range(rng.integers(1, 6)):
        content[rng.integers(0, 128)] = rng.integers(32, 127) if rng.random() < 0.8 else 0
    return zipped(members | {key: bytes(content)})


def dtype(rng: Random) -> bytes:
    members = good(rng)
    key = ["imgs", "boxes", "gts", "spacing", "direction"][rng.integers(5)] + ".npy"
    array = np.lib.format.read_array(io.BytesIO(members[key]))
    dtype = np.dtype(DTYPES[rng.integers(len(DTYPES))])
    array = array.astype("S5").astype(dtype) if dtype.kind == "V" else array.astype(dtype)
    return zipped(members | {key: npy(array)})


def shape(rng: Random) -> bytes:
    members = good(rng)
    key = ["imgs", "imgs", "boxes", "gts", "spacing", "direction"][rng.integers(6)] + ".npy"
    sides = rng.choice([0, 1, 1, 2, 3, 4, 6, 40], rng.integers(0, 6))
    return zipped(members | {key: npy(np.ones(sides, np.uint8))})


def strip(rng: Random) -> bytes:
    shapes = [(1, 5000), (5000, 1), (1, 1), (2, 5000), (1, 5000, 3), (5000, 1, 3), (1, 1, 3)]
    shapes += [(3, 1, 5000), (2, 5000, 1), (1, 1, 1), (5000, 1, 1), (700, 3, 3)]
    shape = shapes[rng.integers(len(shapes))]
    volume = len(shape) == 3 and (shape[-1] != 3 or bool(rng.integers(2)))
    size = shape[::-1] if volume else (shape[1], shape[0])
    first, last = np.zeros(len(size), int), np.array(size) - 1
    if volume:
        last[2] = min(last[2], 3)
    gts = np.ones(shape if volume else shape[:2], np.uint8)
    gts[5:] = 0
    return zipped(
        {
            "imgs.npy": npy(rng.integers(0, 256, shape, np.uint8)),
            "boxes.npy": npy(np.concatenate([first, last])[None]),
            "gts.npy": npy(gts),
        }
    )


def declared(rng: Random) -> bytes:
    shapes = ["(10**9, 10**9)", "(99999, 99999)", "(1073741825,)", "(-5, 5)", "(0, 1<<62)", "()"]
    shapes += ["(2147483648, 4)", "(" + "9," * 200 + ")", "(4294967296, 4294967296, 3)", "(True,)"]
    shapes += ["(40000, 40000, 3)", "(30000, 30000)", "(1.5, 2)", "None", "'x'", "(0, 0)"]
    types = ["'|u1'", "'<f8'", "'|O'", "'<U99999999'", "'|V0'", "'|S0'", "[('a', '|u1')]", "'<c8'"]
    key = ["imgs", "boxes", "gts", "spacing", "direction"][rng.integers(5)] + ".npy"
    shape = shapes[rng.integers(len(shapes))].replace("10**9", "1000000000")
    content = header(shape.replace("1<<62", str(1 << 62)), types[rng.integers(len(types))])
    return zipped(good(rng) | {key: content + rng.bytes(rng.integers(100))})


def values(rng: Random) -> bytes:
    members = good(rng)
    key = ["imgs.npy", "boxes.npy", "spacing.npy", "direction.npy"][rng.integers(4)]
    array = np.lib.format.read_array(io.BytesIO(members[key])).astype(np.float64)
    odd = [np.nan, np.inf, -np.inf, -1, 256, 1e308, -1e308, 5e-324, -0.0, 255.9999, 1e300]
    array.flat[rng.integers(array.size)] = odd[rng.integers(len(odd))]
    dtype = [np.float64, np.longdouble][rng.integers(2)]
    return zipped(members | {key: npy(array.astype(dtype))})
