"""The grid that a series' slices fill: every slice is checked, in this one place."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from litemedsam_jax.imaging.dicom_frames import SAME_COSINE, Frame
from litemedsam_jax.imaging.geometry import Geometry

# How far a slice may lie from its place in a straight, even grid: in its plane, in pixels, and
# across, in distances of slices. Headers round.
_ASIDE = 0.25
_ALONG = 0.1
_DEFAULT_THICKNESS = 1.0


def arrange(frames: Sequence[Frame], source: Path) -> tuple[list[Frame], Geometry]:
    """Puts slices in their order and finds the grid that they fill.

    Args:
        frames: Of one series.
        source: The series, for messages.

    Raises:
        ValueError: They fill no straight, even grid; the message names the file at fault.
    """
    if len(frames) == 1:
        return list(frames), _single(frames[0])
    _demand_positions(frames, source)
    _demand_alike(frames, source)
    normal = frames[0].normal
    ordered = sorted(frames, key=lambda f: float(f.position @ normal))
    places = np.array([f.position for f in ordered])
    along = places @ normal
    _demand_one_slice_a_place(ordered, along, source)
    step = _demand_even(ordered, along, source)
    _demand_straight(ordered, places, normal, source)
    first = ordered[0]
    assert first.spacing is not None and first.orientation is not None
    axes = np.column_stack([first.orientation[0], first.orientation[1], normal])
    left, _, right = np.linalg.svd(axes)  # cosines are rounded
    return ordered, Geometry(
        (*first.size, len(ordered)),
        (*first.spacing, step),
        tuple(places[0].tolist()),
        tuple((left @ right).ravel().tolist()),
    )


def _single(frame: Frame) -> Geometry:
    x, y = frame.spacing or (1.0, 1.0)
    depth = frame.thickness or _DEFAULT_THICKNESS
    if frame.position is None or frame.orientation is None:
        straight = tuple(np.eye(3).ravel().tolist())
        return Geometry((*frame.size, 1), (x, y, depth), (0.0, 0.0, 0.0), straight, flat=True)
    axes = np.column_stack([frame.orientation[0], frame.orientation[1], frame.normal])
    left, _, right = np.linalg.svd(axes)
    origin = tuple(frame.position.tolist())
    return Geometry((*frame.size, 1), (x, y, depth), origin, tuple((left @ right).ravel().tolist()))


def _demand_positions(frames: Sequence[Frame], source: Path) -> None:
    lacking = [
        f for f in frames if f.position is None or f.orientation is None or f.spacing is None
    ]
    if not lacking:
        return
    if len(lacking) < len(frames):
        raise ValueError(
            f"{lacking[0].name}: does not say where it lies (ImagePositionPatient, "
            "ImageOrientationPatient, PixelSpacing), the other slices do; take it out, or export "
            "the series again"
        )
    one = (
        "segment an image alone, by boxes of 4 numbers"
        if frames[0].frames == 1
        else "write the frame you mean to a file of its own"
    )
    raise ValueError(
        f"{source}: its {len(frames)} images do not say where they lie (ImagePositionPatient), so "
        "they are no volume: 2D images, a cine, or positions removed. Export the series again with "
        f"positions, or {one}"
    )


def _demand_alike(frames: Sequence[Frame], source: Path) -> None:
    """All slices of one size, spacing and orientation, as most of them have."""
    for what, value_of, shown in (
        ("size", lambda f: f.size, lambda f: f"{f.size[0]}x{f.size[1]} pixels"),
        ("FrameOfReferenceUID", lambda f: f.reference, lambda f: f.reference or "none"),
        (
            "PixelSpacing",
            lambda f: tuple(round(math.log(side), 3) for side in f.spacing),
            lambda f: f"{f.spacing[1]:g}x{f.spacing[0]:g} mm",
        ),
        (
            "orientation",
            lambda f: tuple((np.round(f.orientation.ravel(), 2) + 0.0).tolist()),
            lambda f: "cosines " + " ".join(f"{c:.3g}" for c in f.orientation.ravel()),
        ),
    ):
        usual = Counter(map(value_of, frames)).most_common(1)[0][0]
        model = next(f for f in frames if value_of(f) == usual)
        odd = [f for f in frames if value_of(f) != usual and not _close(what, f, model)]
        if len(odd) * 4 > len(frames):
            count = len(set(map(value_of, frames)))
            raise ValueError(
                f"{source}: its {len(frames)} slices have {count} values of {what} "
                f"({shown(model)}; {shown(odd[0])}; ...), so they are several volumes or "
                "a localizer of several planes; put each in a folder or file of its own"
            )
        if odd:
            raise ValueError(
                f"{odd[0].name}: has another {what} ({shown(odd[0])}) than the other slices "
                f"({shown(model)}); take it out if it is a localizer, or export the series again"
            )


def _close(what: str, one: Frame, two: Frame) -> bool:
    if what in ("size", "FrameOfReferenceUID"):
        return False
    if what == "orientation":
        apart = np.subtract(one.orientation, two.orientation)  # type: ignore[arg-type]
        return bool(np.abs(apart).max() <= SAME_COSINE)
    return bool(np.allclose(one.spacing, two.spacing, rtol=1e-3))  # type: ignore[arg-type]


def _demand_one_slice_a_place(frames: list[Frame], along: np.ndarray, source: Path) -> None:
    gaps = np.diff(along)
    apart = gaps[gaps > 1e-3]
    if not len(apart):
        raise ValueError(
            f"{source}: its {len(frames)} images lie at one place: a cine or a series in time, no "
            "volume. Segment an image alone, by boxes of 4 numbers"
        )
    same = np.flatnonzero(gaps <= 0.02 * np.median(apart))
    if not len(same):
        return
    places = len(frames) - len(same)
    each, rest = divmod(len(frames), places)
    if each > 1 and not rest:
        raise ValueError(
            f"{source}: holds {each} slices at each of {places} places (times, echoes, phases, or "
            "the series twice); put those of one into a folder or file of their own"
        )
    one, two = frames[same[0]], frames[same[0] + 1]
    raise ValueError(
        f"{one.name} and {Path(two.name).name} lie at the same place: a duplicated slice "
        f"({len(same)} such); take one of them out"
    )


def _demand_even(frames: list[Frame], along: np.ndarray, source: Path) -> float:
    """The distance of slices."""
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    step = float(along[-1] - along[0]) / len(gaps)
    off = np.abs(along - (along[0] + step * np.arange(len(along))))
    if off.max() <= _ALONG * step:
        return step
    wide = np.flatnonzero(gaps > 1.5 * usual)
    if len(wide) and np.abs(gaps / usual - np.round(gaps / usual)).max() <= 0.25:
        gone = round(float((gaps[wide] / usual).sum())) - len(wide)
        before, after = frames[wide[0]], frames[wide[0] + 1]
        raise ValueError(
            f"{source}: slices are missing, {gone} of them: they are {gaps.min():.2f} to "
            f"{gaps.max():.2f} mm apart, the widest gap begins after {Path(before.name).name} and "
            f"ends at {Path(after.name).name}. Complete the series, or resample it first"
        )
    raise ValueError(
        f"{source}: the slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart; expected even "
        "distances. Slices are missing or two series are mixed: complete it, or resample it first"
    )


def _demand_straight(
    frames: list[Frame], places: np.ndarray, normal: np.ndarray, source: Path
) -> None:
    """No slice lies beside the line across the first, and none is turned against it."""
    first = frames[0]
    assert first.spacing is not None and first.orientation is not None
    limit = _ASIDE * min(first.spacing)
    aside = places - places[0]
    aside = aside - np.outer(aside @ normal, normal)
    drift = np.median(np.diff(aside, axis=0), axis=0)
    line = aside - np.outer(np.arange(len(frames)), drift)
    off = np.linalg.norm(line - np.median(line, axis=0), axis=1)
    if off.max() > limit:
        worst = frames[int(off.argmax())]
        raise ValueError(
            f"{worst.name}: lies {off.max():.2f} mm to the side of where the other slices put it; "
            "take it out, or export the series again"
        )
    far = float(np.linalg.norm(drift)) * (len(frames) - 1)
    if far > limit:
        step = float((places[1] - places[0]) @ normal)
        angle = math.degrees(math.atan2(float(np.linalg.norm(drift)), step))
        raise ValueError(
            f"{source}: its slices are stacked aslant by {angle:.3g} degrees (gantry tilt): masks "
            f"on a straight grid would lie up to {far:.3g} mm off. Resample the series first: "
            "dcm2niix writes a corrected volume (..._Tilt_1), 3D Slicer's 'Acquisition geometry "
            "regularization' as well"
        )
    corners = np.array(first.size) * first.spacing
    turned = max(
        float(np.abs((f.orientation - first.orientation) * corners[:, None]).max()) for f in frames
    )
    if turned > 2 * limit:
        raise ValueError(f"{source}: its slices are turned against each other; resample it first")
