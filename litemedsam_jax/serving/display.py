"""How values reach the page: as they are, in one of four types that JavaScript has."""

from typing import Any

import numpy as np

from litemedsam_jax.imaging.opened_image import OpenedImage

_SAMPLES = 1 << 20
_PERCENTILES = (0.5, 99.5)
# Level and width in HU, as scanners' consoles have them.
_CT_WINDOWS = {
    "soft tissue": (40, 400),
    "lung": (-600, 1500),
    "bone": (400, 1800),
    "brain": (40, 80),
}


def transported(values: np.ndarray) -> np.ndarray:
    """The same values as uint8, int16, uint16 or float32; a view where that is what they are."""
    if values.dtype in (np.uint8, np.int16, np.uint16, np.float32):
        return values
    if values.dtype.kind in "iub" and values.size:
        low, high = int(values.min()), int(values.max())
        for dtype in (np.uint8, np.int16, np.uint16):
            limits = np.iinfo(dtype)
            if limits.min <= low and high <= limits.max:
                return values.astype(dtype)
    return values.astype(np.float32)


def describe(image: OpenedImage) -> dict[str, Any]:
    """Extremes, and the windows that the page offers; the first is shown."""
    values = image.values
    low, high = _range(values)
    step = max(1, values.size // _SAMPLES)
    sample = values.reshape(-1)[::step]
    sample = sample[np.isfinite(sample)] if sample.dtype.kind == "f" else sample
    windows = []
    if image.is_ct:
        windows = [{"name": n, "level": c, "width": w} for n, (c, w) in _CT_WINDOWS.items()]
    elif values.dtype == np.uint8:
        windows = [{"name": "as it is", "level": 127.5, "width": 255.0}]
    if sample.size:
        positive = sample[sample > 0] if image.kind in ("volume", "dicom") else sample
        bounds = np.percentile(positive if positive.size else sample, _PERCENTILES)
        windows.append(_window("percentiles", float(bounds[0]), float(bounds[1])))
    windows.append(_window("all values", low, high))
    return {"min": low, "max": high, "windows": windows}


def _range(values: np.ndarray) -> tuple[float, float]:
    if values.dtype.kind == "f":
        finite = np.isfinite(values)
        if not finite.all():
            values = values[finite]
    if not values.size:
        return 0.0, 1.0
    return float(values.min()), float(values.max())


def _window(name: str, low: float, high: float) -> dict[str, Any]:
    return {"name": name, "level": (low + high) / 2, "width": max(high - low, 1e-6)}
