"""Faults of the boxes: outside, reversed, extreme, none, ten thousand."""

import numpy as np

from tests.batch.hostile.making import Random, good, npy, zipped


def boxes(rng: Random) -> bytes:
    volume = bool(rng.integers(2))
    columns, count = 6 if volume else 4, int(rng.choice([0, 1, 5, 300]))
    scale = float(rng.choice([1, 30, 1000, 1e15]))
    boxes = rng.normal(20, scale, (count, columns))
    integers = [np.int16, np.int64, np.uint64, np.uint8]
    if rng.random() < 0.5:
        with np.errstate(invalid="ignore"):
            boxes = boxes.astype(integers[rng.integers(4)])
    return zipped(good(rng, volume) | {"boxes.npy": npy(boxes)})


def extreme_boxes(rng: Random) -> bytes:
    volume = bool(rng.integers(2))
    info = np.iinfo([np.int64, np.uint64, np.int8][rng.integers(3)])
    boxes = rng.choice(np.array([info.min, info.max, 0, 1], info.dtype), (3, 6 if volume else 4))
    return zipped(good(rng, volume) | {"boxes.npy": npy(boxes)})


def many_boxes(rng: Random) -> bytes:
    boxes = rng.integers(0, 60, (10_000, 4))
    gts = np.zeros((64, 64), np.uint8)
    return zipped(
        {
            "imgs.npy": npy(rng.integers(0, 256, (64, 64), np.uint8)),
            "boxes.npy": npy(boxes),
            "gts.npy": npy(gts),
        }
    )
