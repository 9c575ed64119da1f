"""Between an image's own frame and the network's 256x256 input. NumPy and OpenCV only.

What is computed here is the reference's to the pixel; the order of steps and the roundings matter
(resize in the image's own dtype, then normalise, then pad; truncate scaled boxes).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

INPUT_SIZE = 256
_PIXELS_AT_ONCE = 1 << 22  # of float32 values that become a mask: a bound on memory
MASK_BOX_MARGIN = 3  # pixels of the input frame around a mask that becomes the next slice's box


@dataclass(frozen=True)
class Frame:
    """How an image of height x width lies in the top left corner of the input square."""

    height: int
    width: int
    size: int = INPUT_SIZE

    @property
    def scale(self) -> float:
        """Pixels of the input square for one of the image."""
        return self.size / max(self.height, self.width)

    @property
    def inner_height(self) -> int:
        """Rows of the input square that the image takes."""
        return max(1, int(self.height * self.scale + 0.5))

    @property
    def inner_width(self) -> int:
        """Columns of the input square that the image takes."""
        return max(1, int(self.width * self.scale + 0.5))


class Region(NamedTuple):
    """A mask where it can be non-zero: `mask` lies at `rows`, `columns` of the image."""

    rows: slice
    columns: slice
    mask: np.ndarray  # bool


class Scores(NamedTuple):
    """Fused logits of a part of the image; the mask is where they are positive."""

    rows: slice
    columns: slice
    values: np.ndarray  # float32


def to_input(image: np.ndarray, frame: Frame) -> np.ndarray:
    """Resizes by area to the frame, scales to [0, 1] by the image's own extremes, pads with zeros.

    Args:
        image: (H, W, 3) or grey (H, W). uint8, uint16, int16, float32 or float64, as which
            OpenCV resizes it (integers are rounded); other types are widened first.
        frame: of that image.

    Returns:
        (256, 256, 3) float32.
    """
    image = _resize_by_area(image, frame)
    image = image if image.dtype == np.float32 else image.astype(np.float64)
    low, high = image.min(), image.max()
    image = (image - low) / max(high - low, 1e-8)
    padded = np.zeros((frame.size, frame.size, 3), np.float32)
    inner = padded[: frame.inner_height, : frame.inner_width]
    inner[...] = image if image.ndim == 3 else image[..., None]
    return padded


def boxes_to_input(boxes: np.ndarray, frame: Frame) -> np.ndarray:
    """Boxes (N, 4) in image pixels to the input frame, truncated as the reference does; float32."""
    return np.trunc(boxes.astype(np.float64) * frame.scale).astype(np.float32)


def edges_to_input(boxes: np.ndarray, frame: Frame) -> np.ndarray:
    """Boxes (N, 4) in image pixels, inclusive, to the input frame; float32, not rounded.

    Unlike `boxes_to_input` the last row and column are those of the last pixel's far edge, which
    matters where images are enlarged: a pixel of a 43x46 slice is almost six of the input's. A side
    shorter than one pixel of the input becomes its middle, so that no box is inverted.
    """
    scale = np.array([frame.inner_width / frame.width, frame.inner_height / frame.height] * 2)
    edges = (boxes + np.array([0, 0, 1, 1])) * scale - np.array([0, 0, 1, 1])
    middle = (edges[:, :2] + edges[:, 2:]) / 2
    inverted = edges[:, :2] > edges[:, 2:]
    low, high = (np.where(inverted, middle, side) for side in (edges[:, :2], edges[:, 2:]))
    return np.concatenate([low, high], axis=1).astype(np.float32)


def widened(boxes: np.ndarray, margin: float | np.ndarray) -> np.ndarray:
    """Boxes of the input frame, each side moved outwards, within the square; float32.

    Args:
        boxes: (..., 4), x_min, y_min, x_max, y_max.
        margin: pixels, one for all boxes or one each.
    """
    sides = np.asarray(margin)[..., None] * np.array([-1, -1, 1, 1])
    return np.clip(boxes + sides, 0, INPUT_SIZE - 1).astype(np.float32)


def region_of(box: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of a box (4,) in image pixels, inclusive, inside the image."""
    x_min, y_min, x_max, y_max = (int(edge) for edge in box)
    return slice(y_min, y_max + 1), slice(x_min, x_max + 1)


def overlap(one: slice, other: slice) -> slice:
    """What two spans of rows or columns share; its end is not above its start if nothing."""
    return slice(max(one.start, other.start), min(one.stop, other.stop))


def counted_from(span: slice, outer: slice) -> slice:
    """A span of rows or columns, counted from the start of the one it lies in."""
    return slice(span.start - outer.start, span.stop - outer.start)


def mask_from_logits(logits: np.ndarray, frame: Frame) -> Region:
    """The mask, logits > 0, at the image's size.

    The padding is cut off and the logits are interpolated bilinearly (half-pixel centres, no
    antialiasing: torch's `interpolate`), but only around positive logits: elsewhere all four
    neighbours are at most 0, and so is every value between them. Many boxes on a large image
    then cost what their masks cover.

    Args:
        logits: (256, 256) float32.
        frame: of the image.
    """
    logits = logits[: frame.inner_height, : frame.inner_width]
    positive = np.asarray(logits > 0)
    rows = _interpolation(frame.inner_height, frame.height, np.any(positive, axis=1))
    columns = _interpolation(frame.inner_width, frame.width, np.any(positive, axis=0))
    if rows is None or columns is None:
        return Region(slice(0, 0), slice(0, 0), np.zeros((0, 0), bool))
    mask = np.empty((len(rows.near), len(columns.near)), bool)
    height = max(1, _PIXELS_AT_ONCE // len(columns.near))
    for start in range(0, len(mask), height):
        strip = slice(start, start + height)
        mask[strip] = _interpolate(logits, rows.part(strip), columns) > 0
    return Region(rows.target, columns.target, mask)


def logits_at(logits: np.ndarray, frame: Frame, rows: slice, columns: slice) -> np.ndarray:
    """The logits (256, 256) of a part of the image, interpolated as for masks; float32."""
    logits = logits[: frame.inner_height, : frame.inner_width]
    down, across = (
        _linear(frame.inner_height, frame.height),
        _linear(frame.inner_width, frame.width),
    )
    return _interpolate(logits, down.part(rows), across.part(columns))


class _Interpolation(NamedTuple):
    target: slice  # of the output
    near: np.ndarray
    far: np.ndarray
    weight: np.ndarray  # of `far`

    def part(self, span: slice) -> "_Interpolation":
        return _Interpolation(span, self.near[span], self.far[span], self.weight[span])


def _interpolate(logits: np.ndarray, rows: _Interpolation, columns: _Interpolation) -> np.ndarray:
    weight = rows.weight[:, None]
    lines = logits[rows.near] * (1 - weight) + logits[rows.far] * weight
    return lines[:, columns.near] * (1 - columns.weight) + lines[:, columns.far] * columns.weight


def _linear(source: int, target: int) -> _Interpolation:
    """Linear interpolation along one axis: half-pixel centres, no antialiasing."""
    step = np.float32(source) / np.float32(target)  # torch computes in float32 here
    position = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * step - np.float32(0.5)
    position = np.maximum(position, 0)
    near = np.minimum(position.astype(np.int64), source - 1)
    far = np.minimum(near + 1, source - 1)
    return _Interpolation(slice(0, target), near, far, (position - near).astype(np.float32))


def _interpolation(source: int, target: int, positive: np.ndarray) -> _Interpolation | None:
    """The same, for those targets that touch a positive source."""
    where = np.flatnonzero(positive)
    if where.size == 0:
        return None
    whole = _linear(source, target)
    touched = np.flatnonzero((whole.far >= where[0]) & (whole.near <= where[-1]))
    if touched.size == 0:  # a strong reduction samples points and may step over a small mask
        return None
    return whole.part(slice(touched[0], touched[-1] + 1))


def box_from_mask(region: Region, frame: Frame, value: int) -> np.ndarray | None:
    """The box that a mask prompts the next slice with, (4,) in the input frame, or None.

    The reference resizes the mask by area with its label as foreground value, and rounds: a pixel
    survives where about 1/(2·value) of it is covered. `value` 1 takes that dependence away. The box
    is widened by a margin and clamped to the square, which may reach into the padding.
    """
    mask = np.zeros((frame.height, frame.width), np.uint8 if value < 256 else np.uint16)
    mask[region.rows, region.columns] = region.mask * mask.dtype.type(value)
    return bounding_box(_resize_by_area(mask, frame) > 0, MASK_BOX_MARGIN, frame.size)


def bounding_box(mask: np.ndarray, margin: int, size: int) -> np.ndarray | None:
    """x_min, y_min, x_max, y_max (inclusive) of a mask, widened, clamped to [0, size]; or None."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    low = np.maximum([columns[0] - margin, rows[0] - margin], 0)
    high = np.minimum([columns[-1] + margin, rows[-1] + margin], size)
    return np.concatenate([low, high]).astype(np.float32)


# What OpenCV resizes by area; others are widened.
_RESIZABLE = (np.uint8, np.uint16, np.int16, np.float32, np.float64)


def _resize_by_area(image: np.ndarray, frame: Frame) -> np.ndarray:
    size = (frame.inner_width, frame.inner_height)
    if image.shape[:2] == size[::-1]:
        return image
    if image.dtype not in _RESIZABLE:
        image = image.astype(np.float32 if image.dtype == np.float16 else np.float64)
    import cv2  # not above: it takes 40 ms, during which programs can load already

    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def resize_labels(labels: np.ndarray, height: int, width: int) -> np.ndarray:
    """A label image (H, W) to another size by nearest neighbour (OpenCV's, as the reference)."""
    if labels.shape == (height, width):
        return labels
    import cv2

    return cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
