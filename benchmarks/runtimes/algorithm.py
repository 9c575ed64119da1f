"""What every competitor does around its network: written from the algorithm's description.

NumPy and OpenCV only, so that a cold run of a competitor imports nothing it does not need. A
`backend` has encode(image) -> embedding, decode(embedding, boxes) -> logits (N, 256, 256), and
enlarge(logits, height, width) -> mask.
"""

import time

import cv2
import numpy as np

SIZE = 256
MARGIN = 3


def input_shape(height, width):
    scale = SIZE / max(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def shrink(image):
    height, width = input_shape(*image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def to_input(image):
    """(1, 3, 256, 256) float32 of an image (H, W, 3) or a slice (H, W)."""
    small = shrink(image)
    small = (small - small.min()) / max(float(small.max()) - float(small.min()), 1e-8)
    square = np.zeros((1, 3, SIZE, SIZE), np.float32)
    planes = small.transpose(2, 0, 1) if small.ndim == 3 else small[None]
    square[0, :, : small.shape[0], : small.shape[1]] = planes
    return square


def to_input_boxes(boxes, height, width):
    return np.trunc(np.asarray(boxes, np.float64) * (SIZE / max(height, width))).astype(np.float32)


def enlarge(logits, height, width):
    """The mask at the image's size, for backends that have no interpolation of their own."""
    inner = np.ascontiguousarray(logits[tuple(map(slice, input_shape(height, width)))])
    return cv2.resize(inner, (width, height), interpolation=cv2.INTER_LINEAR) > 0


def box_around(mask, label):
    """The next slice's box, around a mask painted with its label; None if nothing is left."""
    found = shrink(mask * np.uint8(label)) > 0
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    if not rows.size:
        return None
    low = max(columns[0] - MARGIN, 0), max(rows[0] - MARGIN, 0)
    high = min(columns[-1] + MARGIN, SIZE), min(rows[-1] + MARGIN, SIZE)
    return np.array([*low, *high], np.float32)


def segment_picture(backend, image, boxes, together):
    height, width = image.shape[:2]
    labels = np.zeros((height, width), np.uint8)
    embedding = backend.encode(to_input(image))
    prompts = to_input_boxes(boxes, height, width)
    chunk = len(prompts) if together else 1
    for start in range(0, len(prompts), chunk):
        logits = backend.decode(embedding, prompts[start : start + chunk])
        for offset, one in enumerate(logits):
            labels[backend.enlarge(one, height, width)] = start + offset + 1
    return labels


def segment_volume(backend, volume, boxes, together):
    """together: every slice encoded once, its boxes decoded at once; else box after box."""
    labels = np.zeros(volume.shape, np.uint8)
    numbered = list(enumerate(boxes.tolist(), start=1))
    for group in [numbered] if together else [[one] for one in numbered]:
        _follow(backend, volume, group, labels)
    return labels


def _follow(backend, volume, group, labels):
    """Boxes from their middle slices up, then down; `labels` is painted in place."""
    shape = volume.shape[1:]
    given = {k: to_input_boxes([b[0], b[1], b[3], b[4]], *shape) for k, b in group}
    middle = {k: int((b[5] - b[2]) / 2 + b[2]) for k, b in group}
    prompts, down = dict(given), {}
    upward = {z for k, b in group for z in range(middle[k], b[5] + 1)}
    again = upward & {z for k, b in group for z in range(b[2], middle[k])}
    kept = {}
    for way in (1, -1):
        for z in range(len(volume))[::way]:
            if way == 1:
                live = [k for k, b in group if middle[k] <= z <= b[5]]
            else:
                live = [k for k, b in group if b[2] <= z < middle[k]]
            if not live:
                continue
            embedding = kept.pop(z) if z in kept else backend.encode(to_input(volume[z]))
            if way == 1 and z in again:
                kept[z] = embedding
            logits = backend.decode(embedding, np.stack([prompts[k] for k in live]))
            for k, one in zip(live, logits, strict=True):
                mask = backend.enlarge(one, *shape)
                np.maximum(labels[z], mask * np.uint8(k), out=labels[z])
                found = box_around(mask, k)
                prompts[k] = given[k] if found is None else found
                if z == middle[k]:
                    down[k] = prompts[k]
        prompts = dict(down)


def segment_case(backend, source, target, together):
    """Reads an npz, segments it, writes an npz; returns the seconds of the middle part."""
    with np.load(source) as case:
        image, boxes = case["imgs"], case["boxes"]
    segment = segment_volume if boxes.shape[1] == 6 else segment_picture
    start = time.perf_counter()
    labels = segment(backend, image, boxes, together)
    seconds = time.perf_counter() - start
    np.savez_compressed(target, segs=labels)
    return seconds
