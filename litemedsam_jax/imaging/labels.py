"""Label maps: whole numbers from 0 to 65535, 0 is background."""

import numpy as np

MOST = 65535


def as_labels(array: np.ndarray, what: str = "labels") -> np.ndarray:
    """The labels as uint8, or uint16 where they pass 255; bool and whole floats are labels too.

    what: names the array in messages. Raises ValueError on fractions, NaN, anything out of range.
    """
    array = np.asarray(array)
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array == np.floor(array)).all():
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu" or array.ndim == 0:
        size = "x".join(map(str, array.shape)) or "a single number"
        raise ValueError(
            f"{what}: {array.dtype} {size}, with fractions or NaN; expected whole numbers"
            if array.dtype.kind == "f" and array.ndim
            else f"{what}: {array.dtype} {size}; expected whole numbers"
        )
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < 0 or high > MOST:
        raise ValueError(f"{what}: labels {low} to {high}; expected 0 to {MOST}")
    return array.astype(np.uint8 if high < 256 else np.uint16, copy=False)


def rename_labels(segs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mask k (of box k) becomes the label `labels[k - 1]`. uint8, or uint16 where needed."""
    own = np.concatenate([[0], labels])
    if int(segs.max(initial=0)) >= len(own):
        raise ValueError(f"the masks go to {segs.max()}, but there are {len(labels)} labels")
    return own.astype(np.uint8 if int(own.max()) < 256 else np.uint16)[segs]
