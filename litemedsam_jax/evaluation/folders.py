"""Folders of masks: pairs found, read and scored, several at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from litemedsam_jax.evaluation.metrics import TOLERANCE, CaseScore, score_case
from litemedsam_jax.imaging import file_kinds
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.geometry import Geometry, geometry_of
from litemedsam_jax.imaging.labels import as_labels
from litemedsam_jax.parallel import run_each

# Endings that tell an image from its mask, and no case from another.
_IMAGE_ENDINGS = ("_0000", "_image", "_images", "_img")
_MASK_ENDINGS = ("_mask", "_masks", "_labels", "_label", "_seg", "_gt")


@dataclass(frozen=True)
class ScoreOptions:
    """Which scores, by which definitions; see `metrics.score_case`."""

    corrected: bool = False
    nsd: bool = True
    hd95: bool = False
    tolerance: float = TOLERANCE


@dataclass(frozen=True)
class Pair:
    """A case's masks and ground truth; `case` is the name for the tables.

    gt_key: the truth's array in an npz, `gts` unless masks stand for the truth.
    """

    case: str
    seg: Path
    gt: Path
    gt_key: str = "gts"


@dataclass(frozen=True)
class FolderScores:
    """Of a folder: scores by case, and why the other cases have none."""

    cases: dict[str, CaseScore]
    failed: dict[str, str]


@dataclass(frozen=True)
class LabelPair:
    """Truth and masks of a case on one grid.

    Attributes:
        gts: (H, W) or (D, H, W).
        segs: of the same kind; of the same shape unless the files differ.
        spacing: (3,) x, y, z in mm; None: unknown.
        notes: what a reader of the scores must know.
    """

    gts: np.ndarray
    segs: np.ndarray
    spacing: np.ndarray | None
    notes: tuple[str, ...] = ()


def find_pairs(
    segs: Path, gts: Path, truth_key: str | None = None
) -> tuple[list[Pair], dict[str, str]]:
    """Pairs the files of two folders (or two files) by name.

    The kind may differ (a NIfTI mask, an npz truth), and so may endings like `_mask`. Nothing is
    guessed: of several files that may be a case's masks or truth none is taken, unless each truth
    has masks of exactly its name.

    Args:
        segs: masks, a folder or one file.
        gts: the ground truth, likewise.
        truth_key: the truth's array in an npz; None: `gts`.

    Returns:
        The pairs, and by case why a truth has none.

    Raises:
        CaseError: there is nothing to score. FileNotFoundError: a folder is missing.
    """
    key = truth_key or "gts"
    truths, masks = file_kinds.cases_in(gts), file_kinds.cases_in(segs)
    if not truths:
        raise CaseError("holds no ground truth (.npz, .nii.gz, .nrrd, .mha, .png, ...)", gts)
    if segs.is_file() and gts.is_file():
        return [Pair(_case_name(gts), segs, gts, key)], {}
    truths_of, masks_of = _by_key(truths), _by_key(masks)
    pairs: list[Pair] = []
    failed: dict[str, str] = {}
    for name, same_case in truths_of.items():
        candidates = masks_of.get(name, [])
        exact = {path.name: path for path in candidates}
        if all(gt.name in exact for gt in same_case):
            pairs += [Pair(_case_name(gt), exact[gt.name], gt, key) for gt in same_case]
        elif len(same_case) == len(candidates) == 1:
            pairs.append(Pair(_case_name(same_case[0]), candidates[0], same_case[0], key))
        else:
            reason = _why_no_pair(segs, same_case, candidates)
            failed |= {_case_name(gt): reason for gt in same_case}
    return sorted(pairs, key=lambda pair: pair.case), failed


def _by_key(paths: Sequence[Path]) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(_key(path), []).append(path)
    return groups


def _why_no_pair(segs: Path, truths: Sequence[Path], masks: Sequence[Path]) -> str:
    if not masks:
        return f"{segs}: holds no masks for it; segment this case as well"
    parts = [
        f"{len(paths)} files may be its {role} ({', '.join(path.name for path in paths)})"
        for paths, role in ((truths, "ground truth"), (masks, "masks"))
        if len(paths) > 1
    ]
    return f"{' and '.join(parts)}; leave one in the folder, or name both files"


def score_pairs(pairs: Sequence[Pair], options: ScoreOptions, workers: int = 1) -> FolderScores:
    """Scores each pair; sorted by case. One case at a time per process is in memory."""
    cases: dict[str, CaseScore] = {}
    failed: dict[str, str] = {}
    for outcome in run_each(partial(score_pair, options=options), pairs, workers):
        if outcome.result is None:
            failed[outcome.item.case] = outcome.error or "unknown reason"
        else:
            cases[outcome.item.case] = outcome.result
    return FolderScores(dict(sorted(cases.items())), dict(sorted(failed.items())))


def score_pair(pair: Pair, options: ScoreOptions) -> CaseScore:
    """Reads and scores one pair.

    Raises:
        CaseError: one of the files cannot be used, or they do not lie on one grid. OSError.
    """
    read = read_pair(pair)
    try:
        score = score_case(
            read.gts,
            read.segs,
            read.spacing,
            corrected=options.corrected,
            nsd=options.nsd,
            hd95=options.hd95,
            tolerance=options.tolerance,
        )
    except ValueError as error:
        raise CaseError(str(error), pair.seg) from None
    return replace(score, notes=(*read.notes, *score.notes))


def read_pair(pair: Pair) -> LabelPair:
    """Labels of the truth and the masks on the truth's grid.

    Where both files tell where they lie, they are compared there, not index by index; grids that
    do not cover the same part of space are refused, since what one of them lacks would not count.

    Raises:
        CaseError: one of the files cannot be used, or the grids differ. OSError.
    """
    truth, masks = _read(pair.gt, pair.gt_key), _read(pair.seg, "segs")
    spacing = masks.spacing if truth.spacing is None else truth.spacing
    if truth.grid is None or masks.grid is None:
        notes = (*truth.notes, *masks.notes)
        if truth.labels.ndim == 3 and (truth.grid is None) != (masks.grid is None):
            without = pair.gt if truth.grid is None else pair.seg
            notes += (f"compared index by index: {without.name} holds no origin and direction",)
        return LabelPair(truth.labels, masks.labels, spacing, notes)
    target = _common_grid(truth.grid, masks.grid)
    if target is None:
        sizes = (" x ".join(map(str, grid.size)) for grid in (masks.grid, truth.grid))
        raise CaseError(
            "the masks ({} voxels) and the ground truth ({}) do not cover the same part of space; "
            "what one of them lacks would not count: give masks and truth of the whole "
            "image".format(*sizes),
            pair.seg,
        )
    from litemedsam_jax.imaging import volumes

    try:
        gts, segs = (
            volumes.place_labels(volumes.Volume(file.labels, grid), target, path)
            for file, grid, path in ((truth, truth.grid, pair.gt), (masks, masks.grid, pair.seg))
        )
    except ValueError:
        sizes = (" x ".join(map(str, grid.size)) for grid in (masks.grid, truth.grid))
        raise CaseError(
            "the masks' voxels ({}) are not the ground truth's ({}); resample the masks to the "
            "truth's grid first".format(*sizes),
            pair.seg,
        ) from None
    return LabelPair(gts, segs, spacing)


def _common_grid(truth: Geometry, masks: Geometry) -> Geometry | None:
    """The grid on which labels are compared: the truth's, or None if they do not fit together.

    A DICOM SEG lacks the slices that hold no label, so its grid may end before the other one does.
    """
    if truth.meant_by(masks) or truth.covers_same(masks):
        return truth
    if not (truth.open_ended or masks.open_ended):
        return None
    if truth.open_ended and masks.open_ended:
        return truth.enlarged(masks)
    whole, part = (masks, truth) if truth.open_ended else (truth, masks)
    return whole if whole.enlarged(part).size == whole.size else None


@dataclass(frozen=True)
class _LabelFile:
    labels: np.ndarray
    spacing: np.ndarray | None = None
    grid: Geometry | None = None
    notes: tuple[str, ...] = ()


def _read(path: Path, key: str) -> _LabelFile:
    kind = file_kinds.kind_of(path)
    if kind == "npz":
        from litemedsam_jax.imaging.npz import read_npz

        arrays = read_npz(path, (key,), ("spacing", "origin", "direction"))
        labels = as_labels(arrays[key], f"{path}: {key}")
        placed = labels.ndim == 3 and {"origin", "direction"} <= arrays.keys()
        grid = geometry_of(arrays, labels.shape) if placed else None
        return _LabelFile(labels, arrays.get("spacing"), grid)
    if kind == "image_2d":
        from litemedsam_jax.imaging import label_images

        notes: list[str] = []
        return _LabelFile(label_images.read_mask(path, notes=notes), notes=tuple(notes))
    from litemedsam_jax.imaging import volumes

    volume = volumes.read_labels(path)
    return _LabelFile(volume.array, np.array(volume.geometry.spacing), volume.geometry)


def _case_name(path: Path) -> str:
    # The reference's tables keep the npz's whole name.
    return path.name if path.suffix == ".npz" else file_kinds.stem_of(path)


def _key(path: Path) -> str:
    stem = file_kinds.stem_of(path)
    ending = next((e for e in _IMAGE_ENDINGS + _MASK_ENDINGS if stem.endswith(e)), "")
    return stem.removesuffix(ending)
