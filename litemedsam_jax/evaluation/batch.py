"""Folders of masks: pairs found, read and scored, several at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from litemedsam_jax.evaluation.metrics import TOLERANCE, CaseScore, score_case
from litemedsam_jax.imaging import file_kinds
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
class Scores:
    """Of a folder: scores by case, and why the other cases have none."""

    cases: dict[str, CaseScore]
    failed: dict[str, str]


def find_pairs(
    segs: Path, gts: Path, truth_key: str | None = None
) -> tuple[list[Pair], dict[str, str]]:
    """Pairs the files of two folders (or two files) by name; also what lacks its partner.

    The kind may differ (a NIfTI mask, an npz truth), and so may endings like `_mask`. Raises
    ValueError if there is nothing to score.
    """
    key = truth_key or "gts"
    truths, masks = file_kinds.cases_in(gts), file_kinds.cases_in(segs)
    if not truths:
        raise ValueError(f"{gts}: holds no ground truth (.npz, .nii.gz, .nrrd, .mha, .png, ...)")
    if segs.is_file() and gts.is_file():
        return [Pair(_case_name(gts), segs, gts, key)], {}
    exact = {path.name: path for path in masks}
    loose = {_key(path): path for path in masks}
    pairs, missing = [], {}
    for gt in truths:
        seg = exact.get(gt.name) or loose.get(_key(gt))
        if seg is None:
            missing[_case_name(gt)] = f"{segs}: holds no masks for it; segment this case as well"
        else:
            pairs.append(Pair(_case_name(gt), seg, gt, key))
    return pairs, missing


def score_pairs(pairs: Sequence[Pair], options: ScoreOptions, workers: int = 1) -> Scores:
    """Scores each pair; sorted by case. One case at a time per process is in memory."""
    cases: dict[str, CaseScore] = {}
    failed: dict[str, str] = {}
    for outcome in run_each(partial(score_pair, options=options), pairs, workers):
        if outcome.result is None:
            failed[outcome.item.case] = outcome.error or "unknown reason"
        else:
            cases[outcome.item.case] = outcome.result
    return Scores(dict(sorted(cases.items())), dict(sorted(failed.items())))


def score_pair(pair: Pair, options: ScoreOptions) -> CaseScore:
    """Reads and scores one pair. Raises ValueError or OSError that names the file."""
    gts, segs, spacing = read_pair(pair)
    try:
        return score_case(
            gts,
            segs,
            spacing,
            corrected=options.corrected,
            nsd=options.nsd,
            hd95=options.hd95,
            tolerance=options.tolerance,
        )
    except ValueError as error:
        raise ValueError(f"{pair.seg}: {error}") from None


def read_pair(pair: Pair) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Labels of the truth and the masks on one grid, and the spacing x, y, z (None: unknown).

    Two volume files are compared where they lie in space, not index by index.
    """
    if file_kinds.kind_of(pair.gt) == file_kinds.kind_of(pair.seg) == "volume":
        from litemedsam_jax.imaging import volumes

        truth, masks = volumes.read_labels(pair.gt), volumes.read_labels(pair.seg)
        placed = volumes.place_labels(truth, masks.geometry, pair.gt)
        return placed, masks.array, np.array(masks.geometry.spacing)
    gts, spacing = _read(pair.gt, pair.gt_key)
    segs, other = _read(pair.seg, "segs")
    return gts, segs, other if spacing is None else spacing


def _read(path: Path, key: str) -> tuple[np.ndarray, np.ndarray | None]:
    kind = file_kinds.kind_of(path)
    if kind == "npz":
        from litemedsam_jax.imaging.npz import read_npz

        arrays = read_npz(path, (key,), ("spacing",))
        return arrays[key], arrays.get("spacing")
    if kind == "picture":
        from litemedsam_jax.imaging import images_2d

        return images_2d.read_mask(path), None
    from litemedsam_jax.imaging import volumes

    volume = volumes.read_labels(path)
    return volume.array, np.array(volume.geometry.spacing)


def _case_name(path: Path) -> str:
    # The reference's tables keep the npz's whole name.
    return path.name if path.suffix == ".npz" else file_kinds.stem_of(path)


def _key(path: Path) -> str:
    stem = file_kinds.stem_of(path)
    ending = next((e for e in _IMAGE_ENDINGS + _MASK_ENDINGS if stem.endswith(e)), "")
    return stem.removesuffix(ending)
