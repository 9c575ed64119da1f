"""Images laid out on a page: side by side, one below the other, with titles and a legend."""

from collections.abc import Sequence

import cv2
import numpy as np

FONT = cv2.FONT_HERSHEY_SIMPLEX
_BACKGROUND, _TEXT, _QUIET = (22, 22, 26), (235, 235, 235), (160, 160, 165)
_GAP = 8
_LEGEND_LINES = 4

Colour = tuple[int, int, int]


def beside(images: Sequence[np.ndarray]) -> np.ndarray:
    """RGB uint8 images (H, W, 3) in a row, aligned at the top."""
    height = max(p.shape[0] for p in images)
    width = sum(p.shape[1] for p in images) + _GAP * (len(images) - 1)
    page = np.full((height, width, 3), _BACKGROUND, np.uint8)
    x = 0
    for image in images:
        page[: image.shape[0], x : x + image.shape[1]] = image
        x += image.shape[1] + _GAP
    return page


def below(images: Sequence[np.ndarray], gap: int = _GAP) -> np.ndarray:
    """RGB uint8 images (H, W, 3) in a column, aligned at the left, `gap` pixels apart."""
    height = sum(p.shape[0] for p in images) + gap * (len(images) - 1)
    page = np.full((height, max(p.shape[1] for p in images), 3), _BACKGROUND, np.uint8)
    y = 0
    for image in images:
        page[y : y + image.shape[0], : image.shape[1]] = image
        y += image.shape[0] + gap
    return page


def titled(title: str, image: np.ndarray) -> np.ndarray:
    """The image under a line of text."""
    return below([_line(title, image.shape[1]), image], gap=0)


def letter(image: np.ndarray, text: str, corner: tuple[int, int]) -> None:
    """Writes into the image, legible on black and on white; corner: lower left, x and y."""
    for ink, line in ((_BACKGROUND, 3), (_TEXT, 1)):
        cv2.putText(image, _plain(text), corner, FONT, 0.45, ink, line, cv2.LINE_AA)


def legend(entries: Sequence[tuple[Colour, str]], width: int) -> np.ndarray:
    """Colours with their meaning, wrapped to `width`; past four lines the rest is counted."""
    lines = [_line("", width)]
    x = _GAP
    for i, (colour, text) in enumerate(entries):
        needed = 22 + _width(text) + 16
        if x + needed > width and x > _GAP:
            if len(lines) == _LEGEND_LINES:
                lines.append(_line(f"... and {len(entries) - i} more", width))
                break
            lines.append(_line("", width))
            x = _GAP
        cv2.rectangle(lines[-1], (x, 6), (x + 14, 18), colour, -1)
        _write(lines[-1], text, x + 22, _TEXT)
        x += needed
    return np.concatenate(lines)


def _line(text: str, width: int) -> np.ndarray:
    line = np.full((24, width, 3), _BACKGROUND, np.uint8)
    _write(line, text, _GAP, _QUIET)
    return line


def _write(line: np.ndarray, text: str, x: int, ink: Colour) -> None:
    cv2.putText(line, _plain(text), (x, 17), FONT, 0.45, ink, 1, cv2.LINE_AA)


def _width(text: str) -> int:
    return cv2.getTextSize(_plain(text), FONT, 0.45, 1)[0][0]


def _plain(text: str) -> str:
    # OpenCV's font has ASCII only (before OpenCV 5).
    return text.encode("ascii", "replace").decode()
