"""What intensities an object has, learned from its masks so far: log-odds for every pixel.

Two histograms of an object's box, one weighted by the probability that a pixel belongs to it, one
by the rest; where an intensity is more frequent in the first, the pixel more likely belongs to it.
"""

import numpy as np

BINS = 32
_BLUR = 1.0  # bins, standard deviation: intensities that are near count too
_PSEUDO_COUNT = 32.0  # pixels of the whole box that each histogram starts with
_MOST = 2.0  # log ratio of one pixel


class ObjectIntensity:
    """The two histograms of one object; slices are added one by one. Of colours the mean counts."""

    def __init__(self, low: float, high: float):
        """Takes the extremes of the box's intensities; those beyond count as the nearest."""
        self._low, self._range = float(low), max(float(high) - float(low), 1e-6)
        self._counts = np.zeros((2, BINS))  # inside, outside

    def log_ratio(self, pixels: np.ndarray, logits: np.ndarray | None) -> np.ndarray:
        """Adds a slice, then returns the log-odds of its pixels, (h, w) float32.

        Args:
            pixels: (h, w) or (h, w, 3), intensities.
            logits: (h, w), of belonging to the object, as far as is known without intensities;
                None: nothing is added.
        """
        pixels = pixels.mean(axis=-1) if pixels.ndim == 3 else pixels
        bins = ((pixels - self._low) * np.float32(BINS / self._range)).astype(np.int64)
        bins = np.clip(bins, 0, BINS - 1)
        if logits is not None:
            inside = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
            for counts, weights in zip(self._counts, (inside, 1 - inside), strict=True):
                counts += np.bincount(bins.ravel(), weights=weights.ravel(), minlength=BINS)
        blurred = self._counts @ _KERNEL
        either = blurred.sum(axis=0)
        blurred += _PSEUDO_COUNT * either / either.sum() + 1e-9
        shares = blurred / blurred.sum(axis=1, keepdims=True)
        ratio = np.log(shares[0]) - np.log(shares[1])
        return np.clip(ratio, -_MOST, _MOST).astype(np.float32)[bins]


def _kernel() -> np.ndarray:
    """(BINS, BINS), what each bin hands to the others; rows sum to 1."""
    apart = np.subtract.outer(np.arange(BINS), np.arange(BINS))
    weights = np.exp(-(apart**2) / (2 * _BLUR**2))
    return weights / weights.sum(axis=1, keepdims=True)


_KERNEL = _kernel()
