"""An image as a client sends it, made into what the network takes."""

from dataclasses import dataclass

import numpy as np

from litemedsam_jax.imaging.intensity import IntensityOptions, guess_modality, to_uint8

# How much coarser than the first axis another must be, for slices to lie across that one.
_COARSER = 1.5


@dataclass(frozen=True)
class Image:
    """A client's image.

    Attributes:
        volume: (D, H, W) uint8, or (D, H, W, 3).
        axis: Across which its slices were acquired: the coarsest one, else the first.
        note: What was taken for granted, for people.
    """

    volume: np.ndarray
    axis: int
    note: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        depth, height, width = self.volume.shape[:3]
        return depth, height, width


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuses what is no image [C, X, Y, Z]; raises ValueError."""
    if len(shape) != 4 or shape[0] not in (1, 3):
        raise ValueError(
            f"the image has shape {list(shape)}; expected [1, X, Y, Z], or [3, X, Y, Z] for colour"
        )


def take_in(array: np.ndarray, spacing: object, options: IntensityOptions) -> Image:
    """Makes an image of an array.

    Args:
        array: [C, X, Y, Z] in the client's values.
        spacing: Of its axes X, Y, Z in mm, or anything: what makes no sense is ignored.
        options: How values become grey levels; the modality "auto" is guessed from them.

    Raises:
        ValueError: It is no image, or holds NaN.
    """
    check_shape(array.shape)
    if array.shape[0] == 3:
        if array.dtype != np.uint8:
            raise ValueError(f"the colour image has type {array.dtype}; expected uint8")
        volume, note = np.ascontiguousarray(np.moveaxis(array, 0, -1)), "colour"
    else:
        volume, note = _grey_levels(array[0], options)
    axis = _through_plane(volume.shape[:3], spacing)
    if axis:
        note += f"; slices lie across axis {axis}, the coarsest"
    return Image(volume, axis, note)


def _grey_levels(values: np.ndarray, options: IntensityOptions) -> tuple[np.ndarray, str]:
    """Values (D, H, W) from 0 to 255, and what was taken for granted."""
    if values.dtype in (np.bool_, np.float16):
        values = values.astype(np.uint8 if values.dtype == np.bool_ else np.float32)
    note = f"taken as {options.modality}"
    if options.modality == "auto":
        if values.dtype == np.uint8 and (values.min(), values.max()) == (0, 255):
            return values, "bytes from 0 to 255: taken as they are (--modality says otherwise)"
        options, note = guess_modality(values, options)
    advice = "; --fill-nan, where the server is started, says what stands in their place"
    return to_uint8(values, options, advice), note


def _through_plane(shape: tuple[int, ...], spacing: object) -> int:
    try:
        sizes = np.asarray(spacing, np.float64)
    except (TypeError, ValueError):
        return 0
    if sizes.shape != (3,) or not (np.isfinite(sizes).all() and (sizes > 0).all()):
        return 0
    coarsest = int(np.argmax(sizes))
    known = 1 not in shape and sizes[coarsest] >= _COARSER * np.delete(sizes, coarsest).max()
    return coarsest if known else 0
