"""A volume as an animation: each slice as the overlay shows it, one after the other."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from litemedsam_jax.drawing import overlay, shown
from litemedsam_jax.files import replacing


def scroll(
    image: np.ndarray,
    boxes: np.ndarray | None,
    segs: np.ndarray | None,
    spacing: Sequence[float] | np.ndarray | None = None,
    names: Sequence[str] | None = None,
    direction: Sequence[float] | np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Yields each slice of a volume, drawn as in `overlay.case_overlay`.

    Args:
        image: (D, H, W) or (D, H, W, 3).
        boxes: (N, 6), as of `overlay.case_overlay`, like all that follows.
        segs: (D, H, W).
        spacing: See there.
        names: See there.
        direction: See there.

    Yields:
        RGB uint8 (height, width, 3), all of one size.
    """
    labels = shown.labels_of(boxes, segs)
    upright = overlay.Upright(image, boxes, segs, spacing, direction)
    for z in range(len(image)):
        yield overlay.with_legend(upright.tile(z), labels, names)


def write_scroll(path: str | Path, frames: Iterator[np.ndarray], per_second: float = 8) -> None:
    """Writes frames as an animated .gif or an .mp4 video.

    Args:
        path: The file; its suffix chooses the format.
        frames: RGB uint8 (height, width, 3), all of one size.
        per_second: Frames a second.

    Raises:
        ValueError: Another suffix, or an OpenCV without MP4.
        ModuleNotFoundError: .gif without pillow.
        OSError: It cannot be written.
    """
    suffix = Path(path).suffix.lower()
    writers = {".gif": _write_gif, ".mp4": _write_mp4}
    if suffix not in writers:
        raise ValueError(f"{path}: a scroll is written as .gif or .mp4, not '{suffix}'")
    with replacing(path) as beside:
        writers[suffix](beside, frames, per_second)


def _write_gif(path: Path, frames: Iterator[np.ndarray], per_second: float) -> None:
    from PIL import Image

    # By coverage, not by count: the labels' colours are few pixels among many grey ones.
    cover, plain = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    first, *rest = (Image.fromarray(f).quantize(256, cover, dither=plain) for f in frames)
    first.save(path, save_all=True, append_images=rest, duration=round(1000 / per_second), loop=0)


def _write_mp4(path: Path, frames: Iterator[np.ndarray], per_second: float) -> None:
    video = None
    for frame in frames:
        even = frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]  # codecs want even sides
        if video is None:
            code = cv2.VideoWriter.fourcc(*"mp4v")
            video = cv2.VideoWriter(str(path), code, per_second, even.shape[1::-1])
            if not video.isOpened():
                raise ValueError(f"{path}: this OpenCV writes no MP4; ask for .gif instead")
        video.write(np.ascontiguousarray(even[..., ::-1]))
    if video is not None:
        video.release()


def write_case(
    path: Path,
    image: np.ndarray,
    boxes: np.ndarray | None,
    segs: np.ndarray,
    spacing: Sequence[float] | np.ndarray | None = None,
    **options,
) -> None:
    """Writes a case's overlay by the path's suffix: volumes as .gif or .mp4 scroll, else an image.

    Args:
        path: The file. A 2D case, which has nothing to scroll through, becomes PNG whatever its
            suffix.
        image: As of `overlay.case_overlay`, like all that follows.
        boxes: See there.
        segs: See there.
        spacing: See there.
        **options: See there; a scroll takes `names` and `direction` alone.
    """
    moving = path.suffix.lower() in (".gif", ".mp4")
    if moving and shown.is_volume(image, boxes, segs):
        known = {name: options.get(name) for name in ("names", "direction")}
        write_scroll(path, scroll(image, boxes, segs, spacing, **known))
        return
    target = path.with_suffix(".png") if moving else path
    overlay.write_overlay(target, image, boxes, segs, spacing, **options)
