"""Overlays a radiologist can read: contours and boxes on the image, in its true proportions.

Drawn with OpenCV alone, so that importing this costs the commands nothing, and without any random
choice: the same case gives the same bytes. Label k has the same colour in every picture.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from litemedsam_jax.files import replacing

# RGB, told apart on grey and on tissue, neighbours far from each other. Label k: (k - 1) mod 20.
COLOURS = (
    (255, 82, 82), (64, 196, 255), (255, 214, 0), (105, 240, 120), (224, 64, 251),
    (255, 145, 0), (29, 233, 182), (255, 128, 171), (130, 140, 255), (198, 255, 0),
    (0, 229, 255), (255, 110, 64), (179, 136, 255), (255, 245, 157), (0, 200, 83),
    (244, 143, 177), (128, 216, 255), (215, 190, 105), (165, 214, 167), (240, 98, 146),
)  # fmt: skip
_BACKGROUND, _TEXT, _QUIET = (22, 22, 26), (235, 235, 235), (160, 160, 165)
_FONT, _GAP = cv2.FONT_HERSHEY_SIMPLEX, 8
_LEGEND_LINES = 4


def colour(label: int) -> tuple[int, int, int]:
    """The RGB colour of a label (1, 2, ...)."""
    return COLOURS[(label - 1) % len(COLOURS)]


def overlay(
    image: np.ndarray,
    segs: np.ndarray | None,
    boxes: np.ndarray | None = None,
    *,
    size: tuple[int, int] | None = None,
    fill: float = 0.25,
) -> np.ndarray:
    """Draws masks and boxes over one picture.

    image: (H, W) or (H, W, 3); uint8 is taken as it is, anything else is scaled to its extremes.
    segs: (H, W) labels, 0 is background. boxes: (N, 4) x_min, y_min, x_max, y_max, pixel indices,
    inclusive; box k has the colour of label k. size: (width, height) of the picture to draw, by
    default the image's own. fill: opacity inside the contours.

    Returns RGB uint8 (height, width, 3).
    """
    picture = _as_rgb(image)
    height, width = picture.shape[:2]
    columns, rows = size or (width, height)
    enlarges = columns > width or rows > height
    picture = cv2.resize(
        picture, (columns, rows), interpolation=cv2.INTER_CUBIC if enlarges else cv2.INTER_AREA
    )
    scale = np.array([columns / width, rows / height])
    line = max(1, round(max(columns, rows) / 400))
    if segs is not None:
        _draw_masks(picture, np.asarray(segs), fill, line)
    for label, box in enumerate(np.zeros((0, 4)) if boxes is None else np.asarray(boxes), start=1):
        if not np.isfinite(box).all():
            continue  # a slice that this box does not reach
        first = np.round(box[:2] * scale).astype(int)
        last = np.round((box[2:] + 1) * scale).astype(int) - 1
        cv2.rectangle(picture, first.tolist(), last.tolist(), colour(label), line, cv2.LINE_AA)
        # Colours repeat after 20 labels; the number does not.
        corner = (int(first[0]), int(first[1]) - 4 if first[1] > 16 else int(first[1]) + 13)
        cv2.putText(picture, str(label), corner, _FONT, 0.38, colour(label), 1, cv2.LINE_AA)
    return picture


def case_overlay(
    image: np.ndarray,
    boxes: np.ndarray | None,
    segs: np.ndarray | None,
    spacing: Sequence[float] | None = None,
    *,
    gts: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    slices: int = 4,
) -> np.ndarray:
    """A case as one picture: image beside image with contours and boxes, and a legend.

    image: (H, W), (H, W, 3), (D, H, W) or (D, H, W, 3). A last axis of 3 on a rank-3 array is
    colour where `segs` (or 4-column boxes) say that it is. boxes: (N, 4) or (N, 6) x_min, y_min,
    z_min, x_max, y_max, z_max, inclusive. spacing: x, y, z; only the ratio x : y is used. gts: adds
    a third panel with the ground truth. names: of labels 1, 2, ... for the legend. slices: of a
    volume, spread over the boxed range, the middle one always among them.
    """
    volume = is_volume(image, boxes, segs)
    ratio = aspect(spacing)
    if not volume:
        tiles = [_tile(image, boxes, segs, gts, ratio, 640, "")]
    else:
        chosen = _slices(image, boxes, segs if segs is not None else gts, slices)
        side = 640 if len(chosen) == 1 else 400
        tiles = [slice_tile(image, boxes, segs, z, ratio, gts=gts, side=side) for z in chosen]
    rows = [_beside(tiles[i : i + 2]) for i in range(0, len(tiles), 2)]
    return with_legend(_below(rows), labels_of(boxes, segs, gts), names)


def write_overlay(
    path: str | Path,
    image: np.ndarray,
    boxes: np.ndarray | None,
    segs: np.ndarray | None,
    spacing: Sequence[float] | None = None,
    **options,
) -> None:
    """Writes `case_overlay` (see there for the arguments) as PNG, or as the path's suffix says."""
    write_picture(path, case_overlay(image, boxes, segs, spacing, **options))


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Writes RGB uint8 (H, W, 3) in the format of the path's suffix (.png, .jpg, ...)."""
    suffix = Path(path).suffix.lower() or ".png"
    good, data = cv2.imencode(suffix, np.ascontiguousarray(picture[..., ::-1]))
    if not good:
        raise ValueError(f"{path}: no picture could be written in the format '{suffix}'; use .png")
    with replacing(path) as beside:
        beside.write_bytes(data.tobytes())


def slice_tile(
    image: np.ndarray,
    boxes: np.ndarray | None,
    segs: np.ndarray | None,
    z: int,
    ratio: float,
    *,
    gts: np.ndarray | None = None,
    side: int = 400,
) -> np.ndarray:
    """Slice z of a volume as `case_overlay` draws it; ratio as of `aspect`, side in pixels."""
    seg, gt = (None if labels is None else labels[z] for labels in (segs, gts))
    title = f"slice {z} of 0-{len(image) - 1}"
    return _tile(image[z], boxes_on_slice(boxes, z), seg, gt, ratio, side, title)


def with_legend(
    page: np.ndarray, labels: Sequence[int], names: Sequence[str] | None = None
) -> np.ndarray:
    """The page with a line below it that tells each label's colour."""
    return _below([page, _legend(labels, names, page.shape[1])])


def is_volume(image: np.ndarray, boxes: np.ndarray | None, segs: np.ndarray | None) -> bool:
    """Whether the image is (D, H, W[, 3]); (A, B, 3) is a volume only if masks or boxes say so."""
    if image.ndim != 3:
        return image.ndim == 4
    if segs is not None:
        return segs.ndim == 3
    if boxes is not None and np.size(boxes):
        return np.asarray(boxes).shape[-1] == 6
    return image.shape[-1] != 3


def boxes_on_slice(boxes: np.ndarray | None, z: int) -> np.ndarray | None:
    """(N, 6) boxes as (N, 4) on slice z; rows of NaN where a box does not reach it."""
    if boxes is None:
        return None
    values = np.asarray(boxes, np.float64).reshape(-1, 6)
    flat = values[:, [0, 1, 3, 4]]
    flat[(z < values[:, 2]) | (z > values[:, 5])] = np.nan
    return flat


def _draw_masks(picture: np.ndarray, segs: np.ndarray, fill: float, line: int) -> None:
    size = picture.shape[1::-1]
    for label in np.unique(segs[segs > 0]).tolist():
        mask = (segs == label).astype(np.float32)
        # Interpolated and cut at one half: a smooth outline, within half a pixel of the mask's.
        smooth = cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR) >= 0.5
        picture[smooth] = picture[smooth] * (1 - fill) + np.array(colour(label)) * fill
        outlines, _ = cv2.findContours(smooth.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, colour(label), line, cv2.LINE_AA)


def _tile(image, boxes, segs, gts, ratio: float, side: int, title: str) -> np.ndarray:
    height, width = image.shape[0] * ratio, image.shape[1]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    panels = [("image", None, None), ("boxes and masks", segs, boxes)]
    if gts is not None:
        panels.append(("ground truth", gts, None))
    drawn = []
    for name, labels, prompts in panels:
        picture = overlay(image, labels, prompts, size=size)
        drawn.append(_below([_line_of_text(name, picture.shape[1]), picture], gap=0))
    tile = _beside(drawn)
    return _below([_line_of_text(title, tile.shape[1]), tile], gap=0) if title else tile


def _slices(image, boxes, segs, count: int) -> list[int]:
    depth = len(image)
    first, last = 0, depth - 1
    if boxes is not None and np.size(boxes):
        values = np.asarray(boxes, np.float64).reshape(-1, 6)
        first = int(np.clip(values[:, 2].min(), 0, depth - 1))
        last = int(np.clip(values[:, 5].max(), first, depth - 1))
    elif segs is not None and segs.any():
        found = np.flatnonzero(segs.reshape(depth, -1).any(axis=1))
        first, last = int(found[0]), int(found[-1])
    middle = first + (last - first) // 2  # the slice at which the propagation starts
    spread = [first + round((last - first) * (i + 0.5) / count) for i in range(count)]
    nearest = min(range(count), key=lambda i: abs(spread[i] - middle))
    spread[nearest] = middle
    return sorted({min(z, last) for z in spread})


def labels_of(
    boxes: np.ndarray | None, segs: np.ndarray | None, gts: np.ndarray | None = None
) -> list[int]:
    """The labels that a picture of these shows, ascending."""
    found = set(range(1, (0 if boxes is None else len(boxes)) + 1))
    for labels in (segs, gts):
        if labels is not None:
            found |= set(np.flatnonzero(np.bincount(np.ravel(labels).astype(np.int64))).tolist())
    return sorted(found - {0})


def _legend(labels: Sequence[int], names: Sequence[str] | None, width: int) -> np.ndarray:
    entries = [
        (label, names[label - 1] if names and label <= len(names) else f"label {label}")
        for label in labels
    ]
    lines: list[np.ndarray] = [_line_of_text("", width)]
    x = _GAP
    for i, (label, text) in enumerate(entries):
        needed = 22 + _text_width(text) + 16
        if x + needed > width and x > _GAP:
            if len(lines) == _LEGEND_LINES:
                more = f"... and {len(entries) - i} more"
                lines.append(_line_of_text(more, width))
                break
            lines.append(_line_of_text("", width))
            x = _GAP
        cv2.rectangle(lines[-1], (x, 6), (x + 14, 18), colour(label), -1)
        _write(lines[-1], text, x + 22)
        x += needed
    return np.concatenate(lines)


def _line_of_text(text: str, width: int) -> np.ndarray:
    line = np.full((24, width, 3), _BACKGROUND, np.uint8)
    _write(line, text, _GAP, _QUIET)
    return line


def _write(line: np.ndarray, text: str, x: int, ink: tuple[int, int, int] = _TEXT) -> None:
    # OpenCV's font has ASCII only; anything else would come out as question marks of its own.
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(line, plain, (x, 17), _FONT, 0.45, ink, 1, cv2.LINE_AA)


def _text_width(text: str) -> int:
    return cv2.getTextSize(text.encode("ascii", "replace").decode(), _FONT, 0.45, 1)[0][0]


def _beside(pictures: Sequence[np.ndarray]) -> np.ndarray:
    height = max(p.shape[0] for p in pictures)
    width = sum(p.shape[1] for p in pictures) + _GAP * (len(pictures) - 1)
    page = np.full((height, width, 3), _BACKGROUND, np.uint8)
    x = 0
    for picture in pictures:
        page[: picture.shape[0], x : x + picture.shape[1]] = picture
        x += picture.shape[1] + _GAP
    return page


def _below(pictures: Sequence[np.ndarray], gap: int = _GAP) -> np.ndarray:
    turned = [p.transpose(1, 0, 2) for p in pictures]
    height = sum(p.shape[0] for p in pictures) + gap * (len(pictures) - 1)
    page = np.full((height, max(p.shape[0] for p in turned), 3), _BACKGROUND, np.uint8)
    y = 0
    for picture in pictures:
        page[y : y + picture.shape[0], : picture.shape[1]] = picture
        y += picture.shape[0] + gap
    return page


def _as_rgb(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8:
        values = np.nan_to_num(image.astype(np.float32))
        low, high = float(values.min()), float(values.max())
        image = ((values - low) * (255 / max(high - low, 1e-8))).round().astype(np.uint8)
    return np.ascontiguousarray(image if image.ndim == 3 else np.repeat(image[..., None], 3, 2))


def aspect(spacing: Sequence[float] | None) -> float:
    """Height of a pixel for width 1."""
    values = np.asarray((1.0, 1.0) if spacing is None else spacing, np.float64).ravel()
    if values.size < 2 or not np.isfinite(values[:2]).all() or (values[:2] <= 0).any():
        return 1.0
    return float(values[1] / values[0])
