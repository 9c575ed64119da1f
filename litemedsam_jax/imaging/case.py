"""Cases of the challenge's npz format, in and out.

A case holds `imgs` and `boxes`: a picture (H, W, 3) or (H, W) with boxes (N, 4), or a volume
(D, H, W) or (D, H, W, 3) with boxes (N, 6). The boxes' width tells the two apart.
"""

import errno
import io
import lzma
import math
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from litemedsam_jax.files import one_line, replacing

# Arrays that declare more than this are refused before memory is taken for them.
MAX_ARRAY_BYTES = 1 << 30
_LONGEST_MESSAGE = 400

# What zipfile raises on damaged files: a name that is no UTF-8 is a ValueError, lzma its own.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    ValueError,
)


class CaseError(ValueError):
    """A case that cannot be used; the message, one line, says what is wrong and was expected."""

    def __init__(self, message: str):
        super().__init__(one_line(message, _LONGEST_MESSAGE))


@dataclass(frozen=True)
class Case:
    """One image or volume and its prompts, checked.

    Attributes:
        image: (H, W, 3), (H, W), (D, H, W) or (D, H, W, 3), values 0 to 255.
        boxes: (N, 4) or (N, 6) inside the image, or None where the ground truth is the prompt.
        gts: labels of the image's shape (without colour), or None.
        spacing: (3,) x, y, z in mm, or None.
        warnings: what was mended on the way, for the log.
        direction: of a volume's axes in the patient as the file has it, to draw it upright.
    """

    name: str
    image: np.ndarray
    boxes: np.ndarray | None
    gts: np.ndarray | None = None
    spacing: np.ndarray | None = None
    warnings: tuple[str, ...] = ()
    direction: np.ndarray | None = None

    @property
    def is_volume(self) -> bool:
        if self.boxes is not None:
            return self.boxes.shape[1] == 6
        return self.gts is not None and self.gts.ndim == 3


def read_case(path: Path, prompts: str = "boxes") -> Case:
    """Reads and checks a case.

    Args:
        prompts: "boxes" to read `boxes`, "gt" to read `gts` instead.
    Raises:
        CaseError: anything about the file that does not fit.
    """
    wanted = "boxes" if prompts == "boxes" else "gts"
    if path.exists() and not path.is_file():  # a named pipe would be waited for without end
        raise CaseError("it is no file (a folder or a device); expected an npz file")
    arrays = read_arrays(path, ("imgs", wanted), ("spacing", "direction"))
    prompt = {wanted: arrays[wanted]}
    case = check_case(path.stem, arrays["imgs"], arrays.get("spacing"), **prompt)
    return replace(case, direction=arrays.get("direction"))


def check_case(
    name: str,
    image: np.ndarray,
    spacing: np.ndarray | None = None,
    *,
    boxes: np.ndarray | None = None,
    gts: np.ndarray | None = None,
) -> Case:
    """Checks arrays from wherever and makes a case of them; raises CaseError."""
    mended: list[str] = []
    if boxes is not None:
        boxes = _check_box_shape(boxes)
        volume = boxes.shape[1] == 6
    else:
        assert gts is not None
        gts = _check_labels(gts)
        volume = gts.ndim == 3
    image = _check_image(image, volume)
    if boxes is not None:
        boxes = _inside(boxes, image.shape[: 3 if volume else 2], mended)
    if gts is not None and volume and gts.shape != image.shape[:3]:
        raise CaseError(f"gts has shape {gts.shape}, but imgs has {image.shape}; they must agree")
    if spacing is not None:
        spacing = _check_spacing(spacing, mended)
    return Case(name, image, boxes, gts, spacing, tuple(mended))


def read_arrays(
    path: Path, required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Arrays of an npz by name; nothing is unpickled, and no size is believed before it is checked.

    Raises:
        CaseError: the file is missing, not an npz, or damaged, or lacks a required array.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            missing = [name for name in required if f"{name}.npy" not in members]
            if missing:
                raise CaseError(f"it has no array '{missing[0]}' (it has: {_listed(members)})")
            names = [*required, *(name for name in optional if f"{name}.npy" in members)]
            return {name: _read_array(archive, members[f"{name}.npy"], name) for name in names}
    except CaseError:
        raise
    except FileNotFoundError as error:
        raise CaseError("there is no such file") from error
    except (OSError, *_DAMAGE) as error:
        # bzip2's complaint has no number; a seek to where a damaged directory points is invalid.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise CaseError(f"it cannot be read: {error.strerror or error}") from error
        size = path.stat().st_size
        fault = "it is empty (0 bytes)" if size == 0 else f"it is no intact npz file ({error})"
        raise CaseError(f"{fault}; expected what numpy.savez_compressed writes") from error


def _listed(members: Iterable[str]) -> str:
    names = sorted(name.removesuffix(".npy")[:40] for name in members)
    return ", ".join(names[:8] + ["..."] * (len(names) > 8)) or "nothing"


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> np.ndarray:
    with archive.open(info) as stream:
        shape, fortran, dtype = _read_header(stream, name)
        count = math.prod(shape)  # Python integers: a hostile shape does not overflow
        expected = count * dtype.itemsize
        if expected > MAX_ARRAY_BYTES:
            raise CaseError(
                f"array '{name}' of shape {shape} and type {dtype} takes {expected / 2**30:.1f} "
                f"GiB; the limit is {MAX_ARRAY_BYTES / 2**30:.0f} GiB: store it as uint8, or split "
                "the case"
            )
        if expected > info.file_size:
            raise CaseError(f"array '{name}' of shape {shape} is cut short")
        data = np.empty(count, dtype)
        if expected:
            view, filled = data.view(np.uint8).data, 0
            while filled < expected:
                read = stream.readinto(view[filled:])  # type: ignore[attr-defined]
                if not read:
                    raise CaseError(f"array '{name}' of shape {shape} is cut short")
                filled += read
            stream.read(1)  # past the end, where the checksum is compared
    return data.reshape(shape, order="F" if fortran else "C")


def _read_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of an npy member: nothing but numbers, of a shape that can be."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers written by Python 2
            first = np.lib.format.read_magic(stream)[0] == 1
            size = stream.read(2 if first else 4)
            length = int.from_bytes(size, "little")
            if length >= 1 << 16:  # numpy would read it all, however much it is
                raise ValueError(f"its header is said to take {length} bytes")
            text = io.BytesIO(size + stream.read(length))
            form = np.lib.format
            parse = form.read_array_header_1_0 if first else form.read_array_header_2_0
            shape, fortran, dtype = parse(text)
    except (OSError, *_DAMAGE[:-1]):
        raise
    except Exception as error:  # the header is a Python literal, which can fail in many ways
        told = one_line(" ".join(str(error).split()), 150)
        raise CaseError(f"array '{name}' is no npy data: {told}") from error
    if dtype.hasobject:
        raise CaseError(f"array '{name}' holds Python objects, which are never unpickled")
    if dtype.kind not in "biufc" or dtype.itemsize == 0:
        raise CaseError(f"array '{name}' has values of type {dtype}; expected numbers")
    if len(shape) > 8 or any(not 0 <= length < 2**40 for length in shape):
        raise CaseError(f"array '{name}' declares the shape {shape}; expected at most 4 axes")
    return shape, fortran, dtype


def _check_image(image: np.ndarray, volume: bool) -> np.ndarray:
    colour = image.ndim == (4 if volume else 3)
    expected = "(D, H, W) or (D, H, W, 3)" if volume else "(H, W, 3) or (H, W)"
    if image.ndim not in ((3, 4) if volume else (2, 3)) or (colour and image.shape[-1] != 3):
        kind = "volumes (boxes of 6 numbers)" if volume else "pictures (boxes of 4 numbers)"
        raise CaseError(f"imgs has shape {image.shape}; {kind} have {expected}")
    if 0 in image.shape:
        raise CaseError(f"imgs has shape {image.shape}, which holds nothing")
    if image.dtype == bool:
        image = image.astype(np.uint8)
    if image.dtype.kind not in "iuf":
        raise CaseError(f"imgs has values of type {image.dtype}; expected numbers from 0 to 255")
    if image.dtype != np.uint8:
        low, high = image.min(), image.max()  # a NaN anywhere comes out here
        if not (low >= 0 and high < 256):
            raise CaseError(
                f"imgs has values from {low} to {high}; expected 0 to 255 (window the image first, "
                "as `litemedsam prepare` does)"
            )
        # OpenCV resizes few types; integers below 256 lose nothing in uint8.
        image = image.astype(np.uint8 if image.dtype.kind in "iu" else np.float32, copy=False)
    return image


def _check_box_shape(boxes: np.ndarray) -> np.ndarray:
    if boxes.dtype.kind not in "iuf":
        raise CaseError(f"boxes has values of type {boxes.dtype}; expected numbers")
    if boxes.size == 0:
        raise CaseError("boxes is empty; expected at least one box, (N, 4) or (N, 6)")
    if boxes.ndim == 1 and boxes.size in (4, 6):
        boxes = boxes[None]
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 6):
        raise CaseError(
            f"boxes has shape {boxes.shape}; expected (N, 4) as x_min, y_min, x_max, y_max or "
            "(N, 6) as x_min, y_min, z_min, x_max, y_max, z_max"
        )
    if not np.isfinite(boxes).all():
        raise CaseError("boxes holds NaN or infinity; expected pixel coordinates")
    if len(boxes) > np.iinfo(np.uint16).max:
        raise CaseError(f"there are {len(boxes)} boxes; labels end at 65535")
    return boxes


def _check_labels(gts: np.ndarray) -> np.ndarray:
    if gts.dtype == bool:
        gts = gts.astype(np.uint8)
    if gts.dtype.kind not in "iu" or gts.ndim not in (2, 3) or 0 in gts.shape:
        raise CaseError(
            f"gts has type {gts.dtype} and shape {gts.shape}; expected whole numbers, (H, W) for "
            "pictures or (D, H, W) for volumes"
        )
    if gts.min() < 0 or gts.max() > np.iinfo(np.uint16).max:
        raise CaseError(f"gts has labels from {gts.min()} to {gts.max()}; expected 0 to 65535")
    return gts if gts.dtype == np.uint8 else gts.astype(np.uint16)


def _check_spacing(spacing: np.ndarray, mended: list[str]) -> np.ndarray | None:
    """Masks do not depend on it: an odd one is left out rather than refused."""
    if spacing.dtype.kind in "iuf" and spacing.size == 3:
        values = spacing.astype(np.float64).ravel()
        if (np.isfinite(values) & (values > 0)).all():
            return values
    mended.append("spacing is not three positive numbers (x, y, z in mm); it was left out")
    return None


def _inside(boxes: np.ndarray, shape: tuple[int, ...], notes: list[str]) -> np.ndarray:
    """Corners in order and inside the image, whole slice numbers; what changed is told."""
    axes = boxes.shape[1] // 2
    low, high = boxes[:, :axes], boxes[:, axes:]
    ordered = np.concatenate([np.minimum(low, high), np.maximum(low, high)], axis=1)
    # The right and bottom edges themselves stay: many writers give exclusive corners, and the
    # reference takes those as they are. Slices are indices.
    limits = np.array([shape[-1], shape[-2], *(length - 1 for length in shape[:-2])] * 2)
    mended = np.clip(ordered, 0, limits)
    outside = (ordered[:, axes:] < 0).any(1) | (ordered[:, :axes] > limits[:axes]).any(1)
    if outside.any():
        index = int(np.flatnonzero(outside)[0])
        raise CaseError(
            f"box {index + 1}, {boxes[index].tolist()}, lies wholly outside the image of shape "
            f"{shape}"
        )
    if axes == 3:
        mended[:, [2, 5]] = np.rint(mended[:, [2, 5]])
    changed = int((mended != boxes).any(1).sum())
    if changed:
        notes.append(
            f"{changed} of {len(boxes)} boxes had swapped corners or reached out of the image; "
            "they were put in order and clipped"
        )
    return mended


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes a compressed npz beside its name and renames it: a killed run leaves no half file."""
    with replacing(path) as beside, beside.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
