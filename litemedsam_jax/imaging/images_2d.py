"""Pictures (PNG, JPEG, TIFF, BMP) as the network takes them, and their masks as label maps."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from litemedsam_jax.imaging.file_kinds import kind_of
from litemedsam_jax.imaging.intensity import IntensityOptions, to_uint8

# What Pillow calls palettes: their numbers, not their colours, are a mask's labels.
_PALETTES = ("P", "PA")


def read_picture(path: str | Path, intensity: IntensityOptions | None = None) -> np.ndarray:
    """Reads a picture as (H, W, 3) uint8 RGB; grey is repeated.

    Values over 255 (16 bit, float) are scaled from their extremes, as in the reference, or by
    `intensity` if given. An opaque alpha channel is dropped. Raises ValueError on CMYK, real
    transparency, several pages, NaN and what is no picture.
    """
    mode, _ = _probe(Path(path))
    if mode == "CMYK":
        raise ValueError(f"{path}: is in print colours (CMYK); convert it to RGB first")
    pixels = _pixels(Path(path))
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        if pixels[..., 3].min() != np.iinfo(pixels.dtype).max:
            raise ValueError(
                f"{path}: is partly transparent (RGBA); flatten it onto a background first"
            )
        pixels = pixels[..., :3]
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3):
        raise ValueError(f"{path}: has {pixels.shape[2]} channels; expected grey or RGB")
    try:
        grey_levels = _to_bytes(pixels, intensity)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if grey_levels.ndim == 2:
        return np.repeat(grey_levels[..., None], 3, axis=2)
    return np.ascontiguousarray(np.broadcast_to(grey_levels, (*grey_levels.shape[:2], 3)))


def read_mask(path: str | Path, *, fill_outlines: bool = False) -> np.ndarray:
    """Reads a mask picture as (H, W) labels, uint8 or uint16.

    Numbers (grey or palette) are labels as they stand, but white on black is 1; each colour of an
    RGB mask is a label, numbered by its first pixel; a JPEG, whose values are smeared, is cut at
    one half. fill_outlines: a drawn contour stands for what it encloses.
    """
    mode, lossy = _probe(Path(path))
    if mode == "CMYK":
        raise ValueError(f"{path}: is in print colours (CMYK); convert it to RGB first")
    if mode in _PALETTES:
        with Image.open(path) as image:
            labels = np.asarray(image if mode == "P" else image.convert("P"))
    else:
        labels = _mask_values(_pixels(Path(path)), lossy, path)
    if np.isin(labels, (0, np.iinfo(labels.dtype).max)).all():
        labels = (labels > 0).astype(np.uint8)
    return _filled(labels) if fill_outlines else labels


def merge_masks(paths: Sequence[str | Path]) -> np.ndarray:
    """One file an object: file k (in the given order) becomes label k, later ones on top."""
    merged: np.ndarray | None = None
    for label, path in enumerate(paths, start=1):
        mask = read_mask(path) > 0
        if merged is None:
            merged = np.zeros(mask.shape, np.uint8 if len(paths) < 256 else np.uint16)
        if mask.shape != merged.shape:
            raise ValueError(f"{path}: is {_size(mask)}, the other masks are {_size(merged)}")
        merged[mask] = label
    if merged is None:
        raise ValueError("no mask file was given")
    return merged


def encode_labels(labels: np.ndarray) -> np.ndarray:
    """(H, W) labels as a PNG's bytes: 8-bit grey, or 16-bit where labels pass 255."""
    wide = int(labels.max(initial=0)) > 255
    good, data = cv2.imencode(".png", labels.astype(np.uint16 if wide else np.uint8))
    if not good:
        raise ValueError(f"a label picture of {_size(labels)} could not be encoded")
    return data


def _probe(path: Path) -> tuple[str, bool]:
    """Pillow's mode, and whether the format loses values."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        with Image.open(path) as image:
            pages = getattr(image, "n_frames", 1)
            mode, lossy = image.mode, image.format in ("JPEG", "MPO")
    except UnidentifiedImageError:
        volume = "; `litemedsam prepare volumes` takes it" if kind_of(path) == "volume" else ""
        raise ValueError(f"{path}: is no picture{volume}") from None
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path}: cannot be read as a picture ({error})") from None
    if pages > 1:
        raise ValueError(f"{path}: has {pages} pages; write the page you mean to a file of its own")
    return mode, lossy


def _pixels(path: Path) -> np.ndarray:
    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError(f"{path}: cannot be read as a picture (cut short, or an unknown kind)")
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        pixels[..., :3] = pixels[..., 2::-1].copy()  # OpenCV reads BGR
    return pixels


def _to_bytes(pixels: np.ndarray, intensity: IntensityOptions | None) -> np.ndarray:
    if intensity is not None:
        return to_uint8(pixels, intensity)
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise ValueError("holds NaN or infinite values; replace them before preparing")
    low, high = float(pixels.min()), float(pixels.max())
    if pixels.dtype == np.uint8 or (low >= 0 and high <= 255 and pixels.dtype.kind != "f"):
        return pixels.astype(np.uint8)
    if high == low:
        return np.zeros(pixels.shape, np.uint8)
    return ((pixels.astype(np.float64) - low) / (high - low) * 255.0).astype(np.uint8)


def _mask_values(pixels: np.ndarray, lossy: bool, path: str | Path) -> np.ndarray:
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = pixels[..., :3]
    if pixels.dtype.kind == "f":
        raise ValueError(f"{path}: holds fractions, so it is no label map")
    if lossy:
        return ((pixels if pixels.ndim == 2 else pixels.max(axis=2)) > 127).astype(np.uint8)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return pixels.reshape(pixels.shape[:2])
    if (pixels == pixels[..., :1]).all():
        return pixels[..., 0]
    packed = pixels.astype(np.int64) @ np.array([1 << 32, 1 << 16, 1])
    colours, first, inverse = np.unique(packed, return_index=True, return_inverse=True)
    if len(colours) > 256:
        raise ValueError(f"{path}: holds {len(colours)} colours, so it is no label map")
    order = [i for i in np.argsort(first) if colours[i] != 0]  # black is background
    label_of = np.zeros(len(colours), np.uint8)
    label_of[order] = np.arange(1, len(order) + 1)
    return label_of[inverse].reshape(packed.shape)


def _filled(labels: np.ndarray) -> np.ndarray:
    """Each outline with its inside, in the outline's label."""
    filled = labels.copy()
    for label in np.unique(labels[labels > 0]).tolist():
        outer, _ = cv2.findContours(
            (labels == label).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        area = np.zeros(labels.shape, np.uint8)
        cv2.drawContours(area, outer, -1, 1, cv2.FILLED)
        filled[area > 0] = label
    return filled


def _size(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape[1::-1]))
