"""Boxes as arrays: put in order inside an image, or made from label maps."""

from dataclasses import dataclass

import numpy as np

from litemedsam_jax.imaging.errors import CaseError

MAX_LABEL = 65535  # label maps end at uint16


def fit_boxes(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Puts boxes in order and inside an image: the one rule for boxes from any source.

    Minima come first. Columns are clipped to 0 ... W and rows to 0 ... H: the far edges themselves
    stay, since many writers give exclusive corners and the reference takes those as they are.
    Slices are indices, rounded and clipped to 0 ... D - 1.

    Args:
        boxes: (N, 4) x_min, y_min, x_max, y_max or (N, 6) x_min, y_min, z_min, x_max, y_max, z_max
            in voxels; any numbers, finite.
        shape: of the image, (H, W) or (D, H, W).

    Returns:
        The boxes, fitted, in their order.

    Raises:
        CaseError: a box lies wholly outside, or the boxes fit the image with its axes swapped.
    """
    axes = boxes.shape[1] // 2
    low, high = boxes[:, :axes], boxes[:, axes:]
    ordered = np.concatenate([np.minimum(low, high), np.maximum(low, high)], axis=1)
    limits = np.array([shape[-1], shape[-2], *(length - 1 for length in shape[:-2])] * 2)
    fitted = np.clip(ordered, 0, limits)
    _refuse_swapped_axes(ordered, shape)
    outside = (ordered[:, axes:] < 0).any(1) | (ordered[:, :axes] > limits[:axes]).any(1)
    if outside.any():
        index = int(np.flatnonzero(outside)[0])
        raise CaseError(
            f"box {index + 1}, {boxes[index].tolist()}, lies wholly outside the image of shape "
            f"{shape}"
        )
    if axes == 3:
        fitted[:, [2, 5]] = np.rint(fitted[:, [2, 5]])
    return fitted


def _refuse_swapped_axes(ordered: np.ndarray, shape: tuple[int, ...]) -> None:
    """Boxes that reach far out of the image, but fit it with its axes in another order."""
    high = ordered[:, len(shape) :].max(axis=0, initial=0)
    if (high <= 1.1 * np.array(shape[::-1])).all():  # a box may reach out by a little
        return
    orders = [shape[::-1]] if len(shape) == 2 else [shape[::-1], (shape[2], *shape[:2])]
    for other in orders:
        if (high <= other[::-1]).all():
            expected = "(H, W)" if len(shape) == 2 else "(D, H, W)"
            raise CaseError(
                f"the boxes reach to {high.tolist()} ({'x, y' if len(shape) == 2 else 'x, y, z'}), "
                f"far out of the image of shape {shape}, but fit one of shape {other}: axes are "
                f"swapped, of the image (expected {expected}) or of the boxes"
            )


def to_pixel_centres(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Clips boxes to the indices of pixels: the far edges become the last row and column.

    Args:
        boxes: (N, 4) or (N, 6), in order.
        shape: of the image, (H, W) or (D, H, W).
    """
    last = np.array(shape[::-1]) - 1
    return np.clip(boxes, 0, np.tile(last, 2))


@dataclass(frozen=True)
class Jitter:
    """Moves every side of a box outward by a random 0..pixels, in the plane only."""

    pixels: int
    seed: int = 0


def boxes_of_labels(
    labels: np.ndarray, jitter: Jitter | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The tight box of each label present, in ascending order of label.

    Args:
        labels: (H, W) or (D, H, W), unsigned.
        jitter: how boxes are widened at random; None: not at all.

    Returns:
        Boxes (N, 4) x_min, y_min, x_max, y_max or (N, 6) x_min, y_min, z_min, x_max, y_max, z_max,
        inclusive indices, int64; and the labels (N,).
    """
    from scipy import ndimage

    places = [
        (label, where) for label, where in enumerate(ndimage.find_objects(labels), 1) if where
    ]
    boxes = np.array(
        [[w.start for w in where[::-1]] + [w.stop - 1 for w in where[::-1]] for _, where in places],
        np.int64,
    ).reshape(-1, 2 * labels.ndim)
    if jitter is not None and len(boxes):
        boxes = _jittered(boxes, labels.shape, jitter)
    return boxes, np.array([label for label, _ in places], np.int64)


def objects_of(labels: np.ndarray, per: str) -> tuple[np.ndarray, np.ndarray]:
    """What gets a box each.

    Args:
        labels: (H, W) or (D, H, W), unsigned.
        per: `label`, or `component` for each label's connected parts (diagonals connect).

    Returns:
        Objects 1, 2, ... as a label map, and the label of each object, (N,).

    Raises:
        CaseError: there are more than 65535 objects.
    """
    if per == "label":
        return labels, np.arange(1, int(labels.max(initial=0)) + 1)
    from scipy import ndimage

    from litemedsam_jax.imaging.masks import components

    objects = np.zeros(labels.shape, np.uint16)
    owners: list[int] = []
    for label, where in enumerate(ndimage.find_objects(labels), start=1):
        if where is None:
            continue
        parts = components(labels[where] == label)  # within the label's own box
        count = int(parts.max())
        if len(owners) + count > MAX_LABEL:
            raise CaseError(f"over {len(owners) + count} separate parts; at most {MAX_LABEL} fit")
        inside = parts > 0
        objects[where][inside] = parts[inside] + len(owners)
        owners += [label] * count
    return objects, np.array(owners, np.int64)


def _jittered(boxes: np.ndarray, shape: tuple[int, ...], jitter: Jitter) -> np.ndarray:
    rng = np.random.default_rng(jitter.seed)
    moved = boxes.copy()
    dims = boxes.shape[1] // 2
    for axis, size in ((0, shape[-1]), (1, shape[-2])):
        low, high = rng.integers(0, jitter.pixels + 1, (2, len(boxes)))
        moved[:, axis] = np.maximum(boxes[:, axis] - low, 0)
        moved[:, dims + axis] = np.minimum(boxes[:, dims + axis] + high, size - 1)
    return moved
