"""2D masks (PNG, JPEG, TIFF, BMP) as label maps, and label maps as PNG."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.images_2d import (
    ImageHeader,
    any_size,
    read_header,
    read_pixels,
    upright,
)
from litemedsam_jax.imaging.labels import as_labels

# What Pillow calls palettes: their numbers, not their colours, are a mask's labels.
_PALETTES = ("P", "PA")
_MOST_COLOURS = 256


def read_mask(
    path: str | Path, *, fill_outlines: bool = False, notes: list[str] | None = None
) -> np.ndarray:
    """Reads a mask image as labels.

    Numbers (grey or palette) are labels as they stand, but white on black is 1; each colour of an
    RGB mask is a label, numbered by its first pixel; what is transparent is background. A JPEG,
    whose values are smeared, is cut at one half, and so are the grey edges (anti-aliasing) of a
    mask of one value. An EXIF orientation is applied, as to images.

    Args:
        path: the file.
        fill_outlines: a drawn contour stands for what it encloses.
        notes: what was assumed is appended here, for the log.

    Returns:
        (H, W) uint8 or uint16.

    Raises:
        CaseError: fractions; smeared edges between several values; too many colours; what
            `images_2d.read_header` refuses. FileNotFoundError.
    """
    path = Path(path)
    header = read_header(path)
    if header.mode in _PALETTES and (numbers := _palette_numbers(path, header, notes)) is not None:
        labels = numbers
    else:
        labels = _labels_of(read_pixels(path, header), header, path, notes)
    if labels.dtype.kind == "u" and np.isin(labels, (0, np.iinfo(labels.dtype).max)).all():
        labels = (labels > 0).astype(np.uint8)
    labels = as_labels(labels, str(path))
    return _filled(labels) if fill_outlines else labels


def merge_masks(paths: Sequence[str | Path], notes: list[str] | None = None) -> np.ndarray:
    """One file an object: file k (in the given order) becomes label k, later ones on top.

    Args:
        paths: the files, at least one.
        notes: what was assumed is appended here, for the log.

    Returns:
        (H, W) uint8, or uint16 for more than 255 files.

    Raises:
        CaseError: a file cannot be used, or their sizes differ. FileNotFoundError.
    """
    merged: np.ndarray | None = None
    for label, path in enumerate(paths, start=1):
        mask = read_mask(path, notes=notes) > 0
        if merged is None:
            merged = np.zeros(mask.shape, np.uint8 if len(paths) < 256 else np.uint16)
        if mask.shape != merged.shape:
            raise CaseError(f"is {_size(mask)}, the other masks are {_size(merged)}", path)
        merged[mask] = label
    if merged is None:
        raise CaseError("no mask file was given")
    return merged


def encode_labels(labels: np.ndarray) -> np.ndarray:
    """Labels (H, W) as a PNG's bytes: 8-bit grey, or 16-bit where labels pass 255.

    Raises:
        CaseError: OpenCV cannot encode them.
    """
    wide = int(labels.max(initial=0)) > 255
    good, data = cv2.imencode(".png", labels.astype(np.uint16 if wide else np.uint8))
    if not good:
        raise CaseError(f"a label image of {_size(labels)} could not be encoded")
    return data


def _palette_numbers(path: Path, header: ImageHeader, notes: list[str] | None) -> np.ndarray | None:
    """Indices into the palette; None where its colours count instead.

    They do where a transparent colour other than 0 is the background, and where a smoothed mask was
    given a palette.
    """
    with any_size(), Image.open(path) as image:
        transparent = image.info.get("transparency")
        numbers = np.asarray(image if header.mode == "P" else image.convert("P"))
        colours = np.asarray(image.convert("RGB"))
    if isinstance(transparent, bytes):
        clear = [index for index, alpha in enumerate(transparent) if alpha == 0]
    else:
        clear = [] if transparent is None else [transparent]
    if any(index and (numbers == index).any() for index in clear):
        return None
    if _without_smears(colours, path, None) is not colours:
        return None
    return upright(numbers, header.orientation)


def _labels_of(
    pixels: np.ndarray, header: ImageHeader, path: Path, notes: list[str] | None
) -> np.ndarray:
    if pixels.dtype.kind == "f":
        return pixels
    if header.lossy:
        return _cut_at_half(pixels if pixels.ndim == 2 else pixels.max(axis=2), path)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = _on_black(pixels)
    elif pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] > 1 and (pixels == pixels[..., :1]).all():
        pixels = np.ascontiguousarray(pixels[..., :1])
    if _rings_around_black_and_white(pixels):
        if notes is not None:
            notes.append(f"{path.name}: values around black and white were cut at one half")
        return _cut_at_half(pixels[..., 0], path)
    if pixels.dtype in (np.uint8, np.uint16):  # what OpenCV dilates
        pixels = _without_smears(pixels, path, notes)
    return pixels[..., 0] if pixels.shape[2] == 1 else _number_colours(pixels, path)


def _on_black(pixels: np.ndarray) -> np.ndarray:
    """RGBA as RGB, black where it is transparent; black drawn on nothing becomes white."""
    opaque = pixels[..., 3] > np.iinfo(pixels.dtype).max // 2
    colours = np.where(opaque[..., None], pixels[..., :3], pixels.dtype.type(0))
    if not opaque.all() and not colours.any():
        colours[opaque] = np.iinfo(pixels.dtype).max
    return colours


def _cut_at_half(pixels: np.ndarray, path: Path) -> np.ndarray:
    """A JPEG's mask of one object class; its values ring around black and white."""
    foreground, between = pixels > 40, (pixels > 40) & (pixels < 215)
    if between.sum() > 0.5 * foreground.sum() or (pixels.any() and not foreground.any()):
        raise CaseError(
            "is a JPEG, which smears numbers and colours, and not white on black; save the mask as "
            "PNG",
            path,
        )
    return (pixels > 127).astype(np.uint8)


def _rings_around_black_and_white(pixels: np.ndarray) -> bool:
    """Whether a grey mask was stored as a JPEG, or resized sharply, before: no number is exact."""
    if pixels.dtype != np.uint8 or pixels.shape[2] != 1:
        return False
    counts = _counts(pixels[..., 0], 256)
    if not (counts[1:16].any() and counts[240:255].any()):
        return False
    grey = pixels[..., 0]
    another_label = (grey >= 16) & (grey < 240) & _in_block(grey)
    return bool(another_label.sum() <= 0.02 * counts[240:].sum())


def _packed(pixels: np.ndarray) -> np.ndarray:
    """Pixels (H, W, C) as one number each, (H, W) int64; black is 0."""
    packed = np.zeros(pixels.shape[:2], np.int64)
    for channel in range(pixels.shape[2]):
        packed = packed << 16 | pixels[..., channel]
    return packed


def _without_smears(pixels: np.ndarray, path: Path, notes: list[str] | None) -> np.ndarray:
    """Replaces the thin edge values that anti-aliasing leaves, where one value stands on another.

    A value is such an edge if most of its pixels lie in no 2x2 block of their own and strictly
    between their neighbours: objects of a pixel each are not, nor are lines.
    """
    codes, table = _coded(pixels)
    counts = _counts(codes, len(table))
    if np.count_nonzero(counts) <= 2:
        return pixels
    edges = _between_neighbours(pixels) & ~_in_block(codes)
    present = counts > 0
    smeared = (_counts(codes, len(table), edges) > 0.5 * counts) & table.any(axis=1)
    solid = table[present & ~smeared]
    number, total = int(smeared.sum()), int(present.sum())
    two_valued = len(solid) == 2 and not solid[0].any()
    # A border class between two labels is thin as well: only white on black is beyond doubt.
    white_on_black = two_valued and solid[1].tolist() == [np.iinfo(pixels.dtype).max]
    if number < 3 and not (white_on_black and number):
        return pixels
    if not two_valued and 2 * number <= total - 1:
        return pixels  # an atlas has a few ribbons as thin as that
    if not two_valued:
        raise CaseError(
            f"holds {total} {'grey values' if pixels.shape[2] == 1 else 'colours'}, {number} of "
            "them only along edges, as anti-aliasing leaves them; save the mask without smoothing, "
            "or one file an object (`litemedsam prepare images --masks objects`)",
            path,
        )
    if notes is not None:
        notes.append(
            f"{path.name}: {number} values along its edges (anti-aliasing) were cut at one half"
        )
    # Nearer to the object's value than to black.
    colour = solid[1].astype(np.int64)
    inside = 2 * (table.astype(np.int64) @ colour) > (colour**2).sum()
    return np.where(inside[:, None], solid[1], table.dtype.type(0))[codes]


def _coded(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (H, W, C) as rows of a table of values (N, C), ascending: (H, W), and the table."""
    if pixels.shape[2] == 1:  # grey values are their own rows: nothing is sorted
        return pixels[..., 0], np.arange(np.iinfo(pixels.dtype).max + 1, dtype=pixels.dtype)[
            :, None
        ]
    _, first, inverse = np.unique(_packed(pixels), return_index=True, return_inverse=True)
    table = pixels.reshape(-1, pixels.shape[2])[first]
    return inverse.reshape(pixels.shape[:2]), table


def _counts(codes: np.ndarray, size: int, where: np.ndarray | None = None) -> np.ndarray:
    """How often each code occurs, row by row: counting widens every value to 8 bytes."""
    counts = np.zeros(size, np.int64)
    for row in range(0, len(codes), 256):
        part = codes[row : row + 256]
        counts += np.bincount(
            part.ravel() if where is None else part[where[row : row + 256]], minlength=size
        )
    return counts


def _between_neighbours(pixels: np.ndarray) -> np.ndarray:
    """Where a channel lies strictly between the extremes of its 3x3 neighbours; (H, W) bool."""
    kernel = np.ones((3, 3), np.uint8)
    marked = np.zeros(pixels.shape[:2], bool)
    for channel in range(pixels.shape[2]):
        plane = np.ascontiguousarray(pixels[..., channel])
        marked |= (plane > cv2.erode(plane, kernel)) & (plane < cv2.dilate(plane, kernel))
    return marked


def _in_block(packed: np.ndarray) -> np.ndarray:
    """Whether a pixel belongs to a 2x2 block of one value; (H, W) bool."""
    across = packed[:, 1:] == packed[:, :-1]
    square = (across[1:] & across[:-1]) & (packed[1:, 1:] == packed[:-1, 1:])
    marked = np.zeros(packed.shape, bool)
    for rows in (slice(0, -1), slice(1, None)):
        for columns in (slice(0, -1), slice(1, None)):
            marked[rows, columns] |= square
    return marked


def _number_colours(pixels: np.ndarray, path: Path) -> np.ndarray:
    packed = _packed(pixels)
    colours, first, inverse = np.unique(packed, return_index=True, return_inverse=True)
    if len(colours) > _MOST_COLOURS:
        raise CaseError(f"holds {len(colours)} colours, so it is no label map", path)
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
