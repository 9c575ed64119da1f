"""Overlays a radiologist can read: contours and boxes on the image, in its true proportions.

Drawn with OpenCV alone, so that importing this costs the commands nothing, and without any random
choice: the same case gives the same bytes. Label k has the same colour in every image.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from litemedsam_jax.drawing import page, shown
from litemedsam_jax.drawing.orientation import Turn, turn_of
from litemedsam_jax.files import replacing

# RGB, told apart on grey and on tissue, neighbours far from each other. Label k: (k - 1) mod 20.
COLOURS = (
    (255, 82, 82), (64, 196, 255), (255, 214, 0), (105, 240, 120), (224, 64, 251),
    (255, 145, 0), (29, 233, 182), (255, 128, 171), (130, 140, 255), (198, 255, 0),
    (0, 229, 255), (255, 110, 64), (179, 136, 255), (255, 245, 157), (0, 200, 83),
    (244, 143, 177), (128, 216, 255), (215, 190, 105), (165, 214, 167), (240, 98, 146),
)  # fmt: skip


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
    """Draws masks and boxes over one 2D image.

    Args:
        image: (H, W) or (H, W, 3); uint8 is taken as it is, anything else is scaled to its
            extremes.
        segs: (H, W) labels, 0 is background.
        boxes: (N, 4) x_min, y_min, x_max, y_max, pixel indices, inclusive; box k has the colour of
            label k. A row with NaN is left out.
        size: (width, height) of the result in pixels, by default the image's own.
        fill: Opacity inside the contours, 0 to 1.

    Returns:
        RGB uint8 (height, width, 3); the input is left as it is.

    Raises:
        ValueError: The image is neither grey nor RGB.
    """
    canvas = _as_rgb(image)
    height, width = canvas.shape[:2]
    columns, rows = size or (width, height)
    enlarges = columns > width or rows > height
    canvas = cv2.resize(
        canvas, (columns, rows), interpolation=cv2.INTER_CUBIC if enlarges else cv2.INTER_AREA
    )
    scale = np.array([columns / width, rows / height])
    line = max(1, round(max(columns, rows) / 400))
    if segs is not None:
        _draw_masks(canvas, np.asarray(segs), fill, line)
    for label, box in enumerate(np.zeros((0, 4)) if boxes is None else np.asarray(boxes), start=1):
        if not np.isfinite(box).all():
            continue  # a slice that this box does not reach
        first = np.round(box[:2] * scale).astype(int)
        last = np.round((box[2:] + 1) * scale).astype(int) - 1
        cv2.rectangle(canvas, first.tolist(), last.tolist(), colour(label), line, cv2.LINE_AA)
        # Colours repeat after 20 labels; the number does not.
        corner = (int(first[0]), int(first[1]) - 4 if first[1] > 16 else int(first[1]) + 13)
        cv2.putText(canvas, str(label), corner, page.FONT, 0.38, colour(label), 1, cv2.LINE_AA)
    return canvas


def case_overlay(
    image: np.ndarray,
    boxes: np.ndarray | None,
    segs: np.ndarray | None,
    spacing: Sequence[float] | np.ndarray | None = None,
    *,
    gts: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    slices: int = 4,
    direction: Sequence[float] | np.ndarray | None = None,
) -> np.ndarray:
    """A case as one image: bare beside with contours and boxes, and a legend.

    Args:
        image: (H, W), (H, W, 3), (D, H, W) or (D, H, W, 3). A last axis of 3 on a rank-3 array is
            colour where `segs` (or 4-column boxes) say that it is.
        boxes: (N, 4) x_min, y_min, x_max, y_max or (N, 6) x_min, y_min, z_min, x_max, y_max, z_max,
            inclusive.
        segs: Labels of the image's grid, 0 is background.
        spacing: x, y, z in mm; only the ratio x : y is used.
        gts: Adds a third panel with the ground truth.
        names: Of labels 1, 2, ... for the legend.
        slices: How many of a volume, spread over the boxed range, the middle one among them.
        direction: Of a volume's axes, nine numbers (LPS), by which slices are turned upright; see
            `orientation`.

    Returns:
        RGB uint8 (height, width, 3).
    """
    if not shown.is_volume(image, boxes, segs):
        tiles = [_tile(image, boxes, segs, gts, shown.aspect(spacing), 640, "")]
    else:
        chosen = shown.slices(image, boxes, segs if segs is not None else gts, slices)
        side = 640 if len(chosen) == 1 else 400
        upright = Upright(image, boxes, segs, spacing, direction, gts)
        tiles = [upright.tile(z, side) for z in chosen]
    rows = [page.beside(tiles[i : i + 2]) for i in range(0, len(tiles), 2)]
    return with_legend(page.below(rows), shown.labels_of(boxes, segs, gts), names)


def write_overlay(
    path: str | Path,
    image: np.ndarray,
    boxes: np.ndarray | None,
    segs: np.ndarray | None,
    spacing: Sequence[float] | np.ndarray | None = None,
    **options,
) -> None:
    """Writes `case_overlay` as PNG, or as the path's suffix says.

    Args:
        path: The file; its folder is created.
        image: As of `case_overlay`, like all that follows.
        boxes: See there.
        segs: See there.
        spacing: See there.
        **options: See there.

    Raises:
        ValueError: OpenCV does not know the suffix.
        OSError: It cannot be written.
    """
    write_image(path, case_overlay(image, boxes, segs, spacing, **options))


def write_image(path: str | Path, canvas: np.ndarray) -> None:
    """Writes RGB uint8 (H, W, 3) in the format of the path's suffix (.png, .jpg, ...).

    Raises:
        ValueError: OpenCV does not know the suffix.
        OSError: It cannot be written.
    """
    suffix = Path(path).suffix.lower() or ".png"
    good, data = cv2.imencode(suffix, np.ascontiguousarray(canvas[..., ::-1]))
    if not good:
        raise ValueError(f"{path}: no image could be written in the format '{suffix}'; use .png")
    with replacing(path) as beside:
        beside.write_bytes(data.tobytes())


class Upright:
    """A volume with its boxes and masks, turned for display; arguments as of `case_overlay`."""

    def __init__(self, image, boxes, segs, spacing=None, direction=None, gts=None):
        self.turn: Turn = turn_of(direction)
        self.image = self.turn.array(image)
        self.segs, self.gts = (None if a is None else self.turn.array(a) for a in (segs, gts))
        self.boxes = None if boxes is None else self.turn.boxes(boxes, image.shape)
        self.ratio = shown.aspect(None if spacing is None else self.turn.spacing(spacing))

    def tile(self, z: int, side: int = 400) -> np.ndarray:
        """Slice z as `case_overlay` draws it: RGB uint8, a panel's longer side `side` pixels."""
        seg, gt = (None if labels is None else labels[z] for labels in (self.segs, self.gts))
        title = f"slice {z} of 0-{len(self.image) - 1}"
        title += f", {self.turn.plane}" if self.turn.plane else ""
        boxes = shown.boxes_on_slice(self.boxes, z)
        sides = (self.turn.left, self.turn.top)
        return _tile(self.image[z], boxes, seg, gt, self.ratio, side, title, sides)


def with_legend(
    canvas: np.ndarray, labels: Sequence[int], names: Sequence[str] | None = None
) -> np.ndarray:
    """The image with a line below it that names each label's colour."""
    entries = [
        (colour(label), names[label - 1] if names and label <= len(names) else f"label {label}")
        for label in labels
    ]
    return page.below([canvas, page.legend(entries, canvas.shape[1])])


def panels(
    image: np.ndarray,
    boxes: np.ndarray | None,
    masks: Mapping[str, np.ndarray | None],
    ratio: float = 1.0,
    side: int = 480,
    sides: tuple[str, str] = ("", ""),
) -> np.ndarray:
    """One 2D image or slice bare, then once with each of the masks, all titled.

    Args:
        image: (H, W) or (H, W, 3).
        boxes: (N, 4), drawn on all but a panel whose title begins with `ground truth`.
        masks: Labels (H, W) by title; None draws no mask.
        ratio: Height of a pixel for width 1, as of `shown.aspect`.
        side: Longer side of a panel in pixels.
        sides: Letters at the left and the top edge: R, A, ...

    Returns:
        RGB uint8 (height, width, 3).
    """
    height, width = image.shape[0] * ratio, image.shape[1]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    drawn = {"image": overlay(image, None, size=size)}
    for name, labels in masks.items():
        prompts = None if name.startswith("ground truth") else boxes
        drawn[name] = overlay(image, labels, prompts, size=size)
    for canvas in drawn.values():
        page.letter(canvas, sides[0], (4, size[1] // 2 + 5))
        page.letter(canvas, sides[1], (size[0] // 2 - 5, 15))
    return page.beside([page.titled(name, canvas) for name, canvas in drawn.items()])


def _draw_masks(canvas: np.ndarray, segs: np.ndarray, fill: float, line: int) -> None:
    scale = np.array(canvas.shape[1::-1]) / segs.shape[::-1]
    for label in np.unique(segs[segs > 0]).tolist():
        first, smooth = _smooth_part((segs == label).view(np.uint8), scale, canvas.shape)
        window = canvas[first[1] :, first[0] :][: smooth.shape[0], : smooth.shape[1]]
        window[smooth] = window[smooth] * (1 - fill) + np.array(colour(label)) * fill
        outlines, _ = cv2.findContours(
            smooth.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=first
        )
        cv2.drawContours(canvas, outlines, -1, colour(label), line, cv2.LINE_AA)


def _smooth_part(
    mask: np.ndarray, scale: np.ndarray, shape: tuple[int, ...]
) -> tuple[tuple[int, int], np.ndarray]:
    """The part of an image that a mask covers: its corner (x, y), and the mask at that size.

    Interpolated and cut at one half: a smooth outline, within half a pixel of the mask's.
    """
    x, y, width, height = cv2.boundingRect(mask)
    corners = np.array([[x - 1, y - 1], [x + width + 1, y + height + 1]]) * scale
    first = np.maximum(np.floor(corners[0]), 0).astype(int)
    last = np.minimum(np.ceil(corners[1]), shape[1::-1]).astype(int)
    columns, rows = (
        ((np.arange(first[i], last[i]) + 0.5) / scale[i] - 0.5).astype(np.float32) for i in (0, 1)
    )
    grid_x, grid_y = np.meshgrid(columns, rows)
    soft = cv2.remap(
        mask.astype(np.float32), grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return (int(first[0]), int(first[1])), soft >= 0.5


def _tile(
    image, boxes, segs, gts, ratio: float, side: int, title: str, sides=("", "")
) -> np.ndarray:
    masks = {"boxes and masks": segs} | ({} if gts is None else {"ground truth": gts})
    tile = panels(image, boxes, masks, ratio, side, sides)
    return page.titled(title, tile) if title else tile


def _as_rgb(image: np.ndarray) -> np.ndarray:
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ValueError(f"imgs has shape {image.shape}; expected grey (H, W) or RGB (H, W, 3)")
    if image.dtype != np.uint8:
        values = np.nan_to_num(image.astype(np.float32))
        low, high = float(values.min()), float(values.max())
        image = ((values - low) * (255 / max(high - low, 1e-8))).round().astype(np.uint8)
    return np.ascontiguousarray(image if image.ndim == 3 else np.repeat(image[..., None], 3, 2))
