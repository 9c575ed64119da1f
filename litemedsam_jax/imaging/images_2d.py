"""2D images (PNG, JPEG, TIFF, BMP) as the network takes them, shown as viewers show them.

An EXIF orientation is applied, to images and to masks alike: boxes, masks and overlays lie on the
image as every viewer and annotation tool displays it.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.file_kinds import kind_of
from litemedsam_jax.imaging.intensity import IntensityOptions, to_uint8
from litemedsam_jax.imaging.npz import MAX_ARRAY_BYTES

_ORIENTATION = 274  # EXIF's tag
_STATED_ORIENTATIONS = range(2, 9)


@dataclass(frozen=True)
class ImageHeader:
    """What an image file says of itself.

    Attributes:
        mode: Pillow's: L, RGB, RGBA, P, I;16, ...
        lossy: whether the format changes values.
        orientation: EXIF's, 1 to 8, that is still to be applied to the decoded pixels.
        pages: how many images it holds.
        phone: whether the pages are a phone's (MPO): a photograph, and views or maps of it.
    """

    mode: str
    lossy: bool
    orientation: int
    pages: int
    phone: bool


def read_image(
    path: str | Path,
    intensity: IntensityOptions | None = None,
    notes: list[str] | None = None,
) -> np.ndarray:
    """Reads a 2D image; grey is repeated, an opaque alpha channel dropped, EXIF applied.

    Args:
        path: the file.
        intensity: how values become 0 to 255; None: 8-bit values stay, others (16 bit, float) are
            scaled from their extremes, as in the reference.
        notes: what was assumed is appended here, for the log.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        CaseError: print colours (CMYK), real transparency, several pages, NaN, more than 1 GiB of
            pixels, and what is no image. FileNotFoundError.
    """
    path = Path(path)
    header = read_header(path)
    if header.pages > 1 and notes is not None:
        notes.append(f"{path.name}: a phone's image of {header.pages} pages; the first was taken")
    if header.orientation > 1 and notes is not None:
        notes.append(
            f"{path.name}: turned as its EXIF orientation ({header.orientation}) says; boxes and "
            "masks lie on the image as viewers show it"
        )
    pixels = read_pixels(path, header)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        if pixels[..., 3].min() != np.iinfo(pixels.dtype).max:
            raise CaseError("is partly transparent; flatten it onto a background first", path)
        pixels = pixels[..., :3]
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3):
        raise CaseError(f"has {pixels.shape[2]} channels; expected grey or RGB", path)
    try:
        levels = _to_bytes(pixels, intensity)
    except ValueError as error:
        raise CaseError(str(error), path) from None
    if levels.ndim == 2:
        return np.repeat(levels[..., None], 3, axis=2)
    return np.ascontiguousarray(np.broadcast_to(levels, (*levels.shape[:2], 3)))


def read_header(path: Path) -> ImageHeader:
    """What an image file says of itself.

    Raises:
        CaseError: it is no image, in print colours, of many pages, or too large.
        FileNotFoundError: it is missing.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of size, for which there is a limit of our own
            with any_size(), Image.open(path) as image:
                kind = image.format
                orientation = image.getexif().get(_ORIENTATION, 1)
                header = ImageHeader(
                    mode=image.mode,
                    lossy=kind in ("JPEG", "MPO"),
                    # Of TIFF it is applied by whoever decodes it.
                    orientation=orientation
                    if kind != "TIFF" and orientation in _STATED_ORIENTATIONS
                    else 1,
                    pages=getattr(image, "n_frames", 1),
                    phone=kind == "MPO",
                )
                width, height = image.size
    except UnidentifiedImageError:
        volume = "; `litemedsam prepare volumes` takes it" if kind_of(path) == "volume" else ""
        raise CaseError(f"is no image{volume}", path) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise CaseError(f"cannot be read as an image ({error})", path) from None
    if 3 * width * height > MAX_ARRAY_BYTES:
        raise CaseError(
            f"has {width}x{height} pixels, {3 * width * height / 2**30:.1f} GiB as RGB; the limit "
            f"is {MAX_ARRAY_BYTES / 2**30:.0f} GiB: reduce it, or cut the part that you need",
            path,
        )
    if header.mode == "CMYK":
        raise CaseError("is in print colours (CMYK); convert it to RGB first", path)
    if header.pages > 1 and not header.phone:
        raise CaseError(
            f"has {header.pages} pages; write the page you mean to a file of its own", path
        )
    return header


def read_pixels(path: Path, header: ImageHeader) -> np.ndarray:
    """Decodes an image, EXIF orientation applied.

    Returns:
        (H, W) or (H, W, C), RGB or RGBA, of the file's type.

    Raises:
        CaseError: it cannot be decoded.
    """
    try:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise CaseError("cannot be read as an image (cut short, or an unknown kind)", path)
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        pixels[..., :3] = pixels[..., 2::-1].copy()  # OpenCV reads BGR
    return upright(pixels, header.orientation)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels (H, W, ...) as they are shown by an EXIF orientation, 1 to 8.

    Source: the EXIF standard (CIPA DC-008), tag Orientation.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def check_same_size(
    mask: np.ndarray, shape: tuple[int, ...], mask_path: str | Path, image_path: str | Path
) -> None:
    """Refuses a mask (H, W) that was not drawn on its image, whose shape is (H, W, ...).

    Raises:
        CaseError: the sizes differ.
    """
    if mask.shape == shape[:2]:
        return
    stored = ""
    if mask.shape == shape[1::-1] and read_header(Path(image_path)).orientation > 4:
        stored = (
            " (the image is turned as its EXIF orientation says, the mask fits it as it is stored: "
            "turn the mask likewise)"
        )
    raise CaseError(
        f"the mask is {mask.shape[1]}x{mask.shape[0]} and its image "
        f"{shape[1]}x{shape[0]} pixels{stored}; give the mask that was drawn on this "
        "image",
        mask_path,
    )


class any_size:
    """Lifts Pillow's own limit of pixels, an exception without a way out."""

    def __enter__(self) -> None:
        self._limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None

    def __exit__(self, *_: object) -> None:
        Image.MAX_IMAGE_PIXELS = self._limit


def _to_bytes(pixels: np.ndarray, intensity: IntensityOptions | None) -> np.ndarray:
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise ValueError("holds NaN or infinite values; replace them in the file first")
    if intensity is not None:
        return to_uint8(pixels, intensity)
    if pixels.dtype == np.uint8:
        return pixels
    low, high = float(pixels.min()), float(pixels.max())
    if low >= 0 and high <= 255 and pixels.dtype.kind != "f":
        return pixels.astype(np.uint8)
    if high == low:
        return np.zeros(pixels.shape, np.uint8)
    return ((pixels.astype(np.float64) - low) / (high - low) * 255.0).astype(np.uint8)
