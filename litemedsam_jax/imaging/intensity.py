"""From a scanner's values to the 0-255 that the network was trained on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

_PERCENTILES = (0.5, 99.5)
_TABLE = 1 << 16
# For commands that have the option.
FILL_NAN_ADVICE = (
    "; --fill-nan VALUE says what stands in their place (-1024 for air in CT, 0 for MR and PET)"
)
# What corners share is background if at least this part of the voxels has it.
_BACKGROUND_SHARE = 0.05


@dataclass(frozen=True)
class IntensityOptions:
    """How values become grey levels.

    modality: "CT" is windowed (level, width in HU); anything else is clipped to the 0.5 and 99.5
    percentiles of its values without the background, which becomes 0. Background is 0 where no
    value lies below, as in the reference; under `window`, where some do (normalised images) or all
    values lie above, it is the value that the volume's corners share, else the lowest, so that a
    constant added to an image changes nothing.
    scaling: `window` maps the limits to 0 and 255, rounding, so that one HU is one grey level in
    every case; `reference` maps the clipped data's own extremes, truncating, as the reference
    does. fill_nan: the value that stands for NaN and infinities; None refuses them.
    """

    modality: str = "CT"
    level: float = 40.0
    width: float = 400.0
    scaling: Literal["window", "reference"] = "window"
    fill_nan: float | None = None

    def __post_init__(self):
        """Raises ValueError where the window is empty."""
        if self.width <= 0:
            raise ValueError(f"the window's width is {self.width:g}; expected more than 0")

    @property
    def windowed(self) -> bool:
        """Whether values are Hounsfield units."""
        return self.modality.strip().upper() == "CT"


def guess_modality(
    array: np.ndarray, options: IntensityOptions, said: str | None = None
) -> tuple[IntensityOptions, str]:
    """The options with the modality of an image, and why, for people.

    Args:
        array: Of any shape.
        options: How, but for the modality.
        said: What the image's source says; None: CT holds air at -1000 HU, nothing else reaches
            there.
    """
    if said is not None:
        modality, why = said, f"its file says {said}"
    else:
        low = float(np.nanmin(array)) if array.size else 0.0
        modality, why = "CT" if low <= -500 else "other", f"values from {low:g}"
    used = "no CT, 0.5 to 99.5 percentiles"
    if modality == "CT":
        used = f"CT, window {options.level:g}/{options.width:g}"
    return replace(
        options, modality=modality
    ), f"{why}: taken as {used} (--modality says otherwise)"


def to_uint8(array: np.ndarray, options: IntensityOptions, advice: str = "") -> np.ndarray:
    """Maps values to 0-255 by the options; a constant array becomes 0.

    Bytes are mapped like all else. Source: the reference's `pre_CT_MR.py`.

    Args:
        array: Of any shape.
        options: How.
        advice: What a user can do about NaN, such as `FILL_NAN_ADVICE`.

    Raises:
        ValueError: It holds NaN or infinities and nothing says what stands for them, or no voxels.
    """
    array = _finite(array, options.fill_nan, advice)
    lowest, highest = array.min(), array.max()
    background = _background(array, lowest, options)
    low, high = _limits(array, background, options)
    if options.scaling == "reference":
        low, high = float(np.clip(lowest, low, high)), float(np.clip(highest, low, high))
    if not high > low:
        return np.zeros(array.shape, np.uint8)
    if array.dtype.kind in "iu" and int(highest) - int(lowest) < _TABLE:
        # Scanners store few different values: each is computed once, then looked up.
        values = np.arange(int(lowest), int(highest) + 1)
        table = _grey_levels(values, low, high, background, options)
        return _by_slice(array, lambda part: table[part.astype(np.intp) - int(lowest)])
    return _by_slice(array, lambda part: _grey_levels(part, low, high, background, options))


def _grey_levels(
    values: np.ndarray, low: float, high: float, background: float, options: IntensityOptions
) -> np.ndarray:
    # float64 like the reference: truncation makes the last bit visible.
    scaled = (np.clip(values.astype(np.float64), low, high) - low) / (high - low) * 255.0
    if options.scaling == "window":
        scaled = np.round(scaled)
    if not options.windowed:
        scaled[values == background] = 0
    return scaled.astype(np.uint8)


def _by_slice(array: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The function of every slice: its wide intermediates exist for one slice at a time."""
    result = np.empty(array.shape, np.uint8)
    if array.ndim < 2:
        result[...] = function(array)
        return result
    for part, out in zip(array, result, strict=True):
        out[...] = function(part)
    return result


def _background(array: np.ndarray, lowest: float, options: IntensityOptions) -> float:
    if options.windowed or options.scaling == "reference" or lowest == 0:
        return 0.0
    corners = array[np.ix_(*([0, -1] for _ in array.shape))].ravel()
    if (corners == corners[0]).all() and (array == corners[0]).mean() >= _BACKGROUND_SHARE:
        return float(corners[0])
    return float(lowest)


def _limits(array: np.ndarray, background: float, options: IntensityOptions) -> tuple[float, float]:
    if options.windowed:
        return options.level - options.width / 2, options.level + options.width / 2
    reference = background == 0 and (options.scaling == "reference" or array.min() == 0)
    object_values = array[array > 0] if reference else array[array != background]
    if not object_values.size:  # nothing to take percentiles of: the values' own range
        return float(array.min()), float(array.max())
    low, high = np.percentile(object_values, _PERCENTILES)
    return float(low), float(high)


def _finite(array: np.ndarray, fill: float | None, advice: str) -> np.ndarray:
    if array.size == 0:
        raise ValueError("the image holds no voxels at all; expected at least one")
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array
    if fill is None:
        count = int((~np.isfinite(array)).sum())
        raise ValueError(f"{count} values are NaN or infinite; expected numbers{advice}")
    return np.where(np.isfinite(array), array, array.dtype.type(fill))
