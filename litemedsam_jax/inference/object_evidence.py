"""Whether a slice still shows an object that was drawn on another: log-odds from the network.

Three measures, none of which decides alone: whether the embedding where the mask of the slice
before was is still nearer to the object's than to its surroundings', the overlap with that mask,
and the area. The weights are a logistic regression's, rounded; docs/accuracy.md has its cases.
"""

import numpy as np

from litemedsam_jax.imaging.input_frame import widened
from litemedsam_jax.inference.encoded_image import EncodedImage

SURROUNDINGS = 12  # pixels of the input frame around the drawn box
# Of similarity, overlap and log area; and the constant.
WEIGHTS = (4.0, 2.3, 0.6)
CONSTANT = -2.1
LARGEST = 2.0  # log-odds of one slice count at most so much, so that two outweigh one
GIVE_UP = 0.5  # below the best sum so far by so much, the object has ended
_SMALLEST_AREA = 0.02


class ObjectEvidence:
    """What an object looks like where it was drawn."""

    def __init__(self, encoded: EncodedImage, mask: np.ndarray, box: np.ndarray):
        """Learns the object's embedding against that of its surroundings.

        Args:
            encoded: the drawn slice.
            mask: (256, 256) bool, the object in the input frame.
            box: (4,) as drawn, in the input frame.
        """
        features = _features(encoded)
        around = np.zeros(mask.shape, bool)
        x_min, y_min, x_max, y_max = widened(box, SURROUNDINGS).astype(int)
        around[y_min : y_max + 1, x_min : x_max + 1] = True
        around[encoded.frame.inner_height :] = False
        around[:, encoded.frame.inner_width :] = False
        inside = _cells(mask, len(features))
        outside = _pooled(around & ~mask, len(features)) > 0.5
        object_mean = features[inside].mean(axis=0)
        other = features[outside] if outside.any() else features.reshape(-1, features.shape[-1])
        variance = features[inside | outside].var(axis=0) + 1e-6
        self._direction = (object_mean - other.mean(axis=0)) / variance
        self._zero = float(other.mean(axis=0) @ self._direction)
        self._one = float(object_mean @ self._direction)
        self._area = max(1, int(mask.sum()))

    def similarity(self, encoded: EncodedImage, mask: np.ndarray) -> float:
        """1 where the embedding under a mask is the object's, 0 where it is the surroundings'."""
        features = _features(encoded)
        value = features[_cells(mask, len(features))].mean(axis=0) @ self._direction
        return float((value - self._zero) / max(self._one - self._zero, 1e-6))

    def log_odds(self, encoded: EncodedImage, mask: np.ndarray, before: np.ndarray) -> float:
        """The log-odds that the object is there, between -`LARGEST` and `LARGEST`.

        Args:
            encoded: the slice.
            mask: (256, 256) bool, found there.
            before: (256, 256) bool, not empty: that of the slice before.
        """
        overlap = int((mask & before).sum()) / max(1, int((mask | before).sum()))
        area = np.log(max(int(mask.sum()) / self._area, _SMALLEST_AREA))
        measures = (self.similarity(encoded, before), overlap, area)
        value = CONSTANT + float(np.dot(WEIGHTS, measures))
        return float(np.clip(value, -LARGEST, LARGEST))


def _features(encoded: EncodedImage) -> np.ndarray:
    """(G, G, C) of an embedding (1, G, G, C)."""
    return np.asarray(encoded.embedding, np.float32)[0]


def _pooled(mask: np.ndarray, cells: int) -> np.ndarray:
    """The part of each embedding cell that a mask of the input frame covers."""
    side = len(mask) // cells
    return mask.reshape(cells, side, cells, side).mean(axis=(1, 3))


def _cells(mask: np.ndarray, cells: int) -> np.ndarray:
    """The cells that are mostly covered, or the most covered ones of a small mask."""
    covered = _pooled(mask, cells)
    mostly = covered > 0.5
    return mostly if mostly.any() else covered >= covered.max()
