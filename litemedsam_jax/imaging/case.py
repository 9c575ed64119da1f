"""Cases of the challenge's npz format: read and checked.

A case holds `imgs` and `boxes`: an image (H, W, 3) or (H, W) with boxes (N, 4), or a volume
(D, H, W) or (D, H, W, 3) with boxes (N, 6). The boxes' width tells the two apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from litemedsam_jax.imaging.boxes import fit_boxes
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.npz import read_npz

if TYPE_CHECKING:
    from litemedsam_jax.imaging.slice_prompt import SlicePrompt


@dataclass(frozen=True)
class Case:
    """One image or volume and its prompts, checked.

    Attributes:
        image: (H, W, 3), (H, W), (D, H, W) or (D, H, W, 3), values 0 to 255.
        boxes: (N, 4) or (N, 6) inside the image, or None where there are other prompts.
        gts: labels of the image's shape (without colour), or None.
        spacing: (3,) x, y, z in mm, or None.
        warnings: what was corrected on the way, for the log.
        direction: of a volume's axes in the patient as the file has it, to draw it upright.
        slice_prompts: of a volume whose boxes lie on single slices; a label each.
    """

    name: str
    image: np.ndarray
    boxes: np.ndarray | None
    gts: np.ndarray | None = None
    spacing: np.ndarray | None = None
    warnings: tuple[str, ...] = ()
    direction: np.ndarray | None = None
    slice_prompts: "tuple[SlicePrompt, ...]" = ()

    @property
    def is_volume(self) -> bool:
        """Whether the case has slices; boxes decide, else ground truth."""
        if self.boxes is not None:
            return self.boxes.shape[1] == 6
        if self.slice_prompts:
            return True
        return self.gts is not None and self.gts.ndim == 3

    @property
    def drawn_boxes(self) -> np.ndarray | None:
        """(N, 6), the first box of each slice prompt on its one slice, for overlays; or None.

        None too where one lies across another axis, which overlays do not show.
        """
        if not self.slice_prompts:
            return None
        rows = np.full((len(self.slice_prompts), 6), np.nan)
        for row, prompt in zip(rows, self.slice_prompts, strict=True):
            first = next(box for box in prompt.boxes if not box.subtract)
            if first.axis == "z":
                row[[0, 1, 3, 4]], row[[2, 5]] = first.box, first.index
        return None if np.isnan(rows).any() else rows


def read_case(path: Path, prompts: str = "boxes") -> Case:
    """Reads and checks a case.

    Args:
        path: the npz.
        prompts: "boxes" to read `boxes`, "gt" to read `gts` instead.

    Raises:
        CaseError: anything about the file that does not fit; without the file's name, which the
            caller prints.
    """
    wanted = "boxes" if prompts == "boxes" else "gts"
    try:
        arrays = read_npz(path, ("imgs", wanted), ("spacing", "direction"))
    except CaseError as error:
        case = _read_challenge_case(path) if prompts == "boxes" else None
        if case is None:
            raise CaseError(error.reason) from error
        return case
    case = make_case(
        path.stem,
        arrays["imgs"],
        arrays.get("spacing"),
        boxes=arrays.get("boxes"),
        gts=arrays.get("gts"),
    )
    return replace(case, direction=arrays.get("direction"))


def _read_challenge_case(path: Path) -> Case | None:
    """A case whose prompts are those of a later challenge; None where they are not."""
    from litemedsam_jax.imaging.challenge_prompts import read_challenge_prompts

    try:
        prompts_and_notes = read_challenge_prompts(path) if path.is_file() else None
        if prompts_and_notes is None:
            return None
        arrays = read_npz(path, ("imgs",), ("spacing", "direction"))
    except CaseError as error:
        raise CaseError(error.reason) from error
    prompts, notes = prompts_and_notes
    case = make_case(path.stem, arrays["imgs"], arrays.get("spacing"), slice_prompts=prompts)
    warnings = (*notes, *case.warnings)
    return replace(case, direction=arrays.get("direction"), warnings=warnings)


def make_case(
    name: str,
    image: np.ndarray,
    spacing: np.ndarray | None = None,
    *,
    boxes: np.ndarray | None = None,
    gts: np.ndarray | None = None,
    slice_prompts: "Sequence[SlicePrompt]" = (),
) -> Case:
    """Checks arrays from any source and makes a case of them.

    Args:
        name: of the case.
        image: (H, W, 3), (H, W), (D, H, W) or (D, H, W, 3), values 0 to 255.
        spacing: (3,) x, y, z in mm; an unusable one is left out with a warning.
        boxes: (N, 4) or (N, 6), or one box without its axis; see `boxes.fit_boxes`.
        gts: labels (H, W) or (D, H, W).
        slice_prompts: of a volume, boxes on single slices; see `slice_prompt.fit_prompt`. One of
            boxes, labels and slice prompts must be given.

    Raises:
        CaseError: arrays that do not fit.
    """
    corrected: list[str] = []
    if boxes is not None:
        boxes = _check_box_shape(boxes)
        volume = boxes.shape[1] == 6
    elif slice_prompts:
        volume = True
    else:
        assert gts is not None
        gts = _check_labels(gts)
        volume = gts.ndim == 3
    image = _check_image(image, volume)
    if is_constant(image):
        raise CaseError(
            f"the image is {image.flat[0]} everywhere, so there is nothing to find in it; check "
            "the file, or the window and the modality by which it became 0 to 255"
        )
    if boxes is not None:
        fitted = fit_boxes(boxes, image.shape[: 3 if volume else 2])
        if changed := int((fitted != boxes).any(1).sum()):
            corrected.append(
                f"{changed} of {len(boxes)} boxes had swapped corners or reached out of the image; "
                "they were put in order and clipped"
            )
        if flat := int(_without_area(fitted).sum()):
            corrected.append(f"{flat} of {len(boxes)} boxes are a single row or column of pixels")
        boxes = fitted
    fitted_prompts = _fitted(slice_prompts, image.shape[:3]) if slice_prompts else ()
    if gts is not None and volume and gts.shape != image.shape[:3]:
        raise CaseError(f"gts has shape {gts.shape}, but imgs has {image.shape}; they must agree")
    if spacing is not None:
        spacing = _check_spacing(spacing, corrected)
    return Case(name, image, boxes, gts, spacing, tuple(corrected), slice_prompts=fitted_prompts)


def _check_image(image: np.ndarray, volume: bool) -> np.ndarray:
    if image.ndim == (4 if volume else 3) and image.shape[-1] == 1:
        image = image[..., 0]  # grey with an axis for its one channel
    colour = image.ndim == (4 if volume else 3)
    expected = "(D, H, W) or (D, H, W, 3)" if volume else "(H, W, 3) or (H, W)"
    if image.ndim not in ((3, 4) if volume else (2, 3)) or (colour and image.shape[-1] != 3):
        kind = "volumes (boxes of 6 numbers)" if volume else "images (boxes of 4 numbers)"
        raise CaseError(
            f"imgs has shape {image.shape}; {kind} have {expected}{_shape_advice(image.shape)}"
        )
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


def _shape_advice(shape: tuple[int, ...]) -> str:
    if len(shape) < 3:
        return ""
    if shape[-1] == 4:
        return ": drop the alpha channel, imgs[..., :3]"
    if shape[0] == 3 or (len(shape) == 4 and shape[1] == 3):
        axis = 0 if shape[0] == 3 else 1
        return f": channels come last, numpy.moveaxis(imgs, {axis}, -1)"
    if shape[0] == 1:
        return ": leave out the first axis, imgs[0], or give boxes of 6 numbers"
    return ""


def is_constant(image: np.ndarray) -> bool:
    """Whether an image holds one value alone: nothing can be found in it."""
    first = image.reshape(-1)[0]
    return not any((part != first).any() for part in image)  # mostly the first part differs


def _without_area(boxes: np.ndarray) -> np.ndarray:
    """Which boxes (N, 4) or (N, 6) have no width or no height; (N,) bool."""
    half = boxes.shape[1] // 2
    return (boxes[:, :2] == boxes[:, half : half + 2]).any(axis=1)


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
    if boxes.min() >= 0 and boxes.max() <= 1 and (boxes % 1 != 0).any():
        raise CaseError(
            "boxes lie between 0 and 1, fractions of the image's size (normalised); expected pixel "
            "coordinates: multiply x by its width and y by its height"
        )
    if len(boxes) > np.iinfo(np.uint16).max:
        raise CaseError(f"there are {len(boxes)} boxes; labels end at 65535")
    return boxes


def _check_labels(gts: np.ndarray) -> np.ndarray:
    if gts.dtype == bool:
        gts = gts.astype(np.uint8)
    if gts.ndim in (3, 4) and gts.shape[-1] == 1:
        gts = gts[..., 0]  # as of images
    if gts.dtype.kind not in "iu" or gts.ndim not in (2, 3) or 0 in gts.shape:
        raise CaseError(
            f"gts has type {gts.dtype} and shape {gts.shape}; expected whole numbers, (H, W) for "
            "images or (D, H, W) for volumes"
        )
    if gts.min() < 0 or gts.max() > np.iinfo(np.uint16).max:
        raise CaseError(f"gts has labels from {gts.min()} to {gts.max()}; expected 0 to 65535")
    return gts if gts.dtype == np.uint8 else gts.astype(np.uint16)


def _check_spacing(spacing: np.ndarray, corrected: list[str]) -> np.ndarray | None:
    """Masks do not depend on it: an odd one is left out rather than refused."""
    if spacing.dtype.kind in "iuf" and spacing.size == 3:
        values = spacing.astype(np.float64).ravel()
        if (np.isfinite(values) & (values > 0)).all():
            return values
    corrected.append("spacing is not three positive numbers (x, y, z in mm); it was left out")
    return None


def _fitted(prompts: "Sequence[SlicePrompt]", shape: tuple[int, ...]) -> "tuple[SlicePrompt, ...]":
    from litemedsam_jax.imaging.slice_prompt import fit_prompt

    return tuple(fit_prompt(prompt, shape) for prompt in prompts)
