"""Which cases are held out, and what the scores of held-out cases say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

import numpy as np

from litemedsam_jax.adaptation.cases import LabelledCase, Score
from litemedsam_jax.adaptation.cleaning import CleanedScores
from litemedsam_jax.training.catalog import DataError

# Of the mean DSC, less its standard error. With so few cases a smaller gain was as often a loss
# on the case left out (docs/adapt.md).
SURE_GAIN = 0.01
# Of the mean NSD: what gains volume at the price of the surface is not taken.
LARGEST_NSD_LOSS = 0.01
# Scores of one held-out case: share of what was learned -> score; 0: the starting weights.
BlendScores = Mapping[float, Score]
Key = TypeVar("Key", str, float)


@dataclass(frozen=True)
class Estimate:
    """What held-out cases say of learning.

    Attributes:
        blend: the share whose gain on all of them is surest; 0: none is sure.
        before: case -> score with the starting weights.
        after: case -> score with step and share chosen so by the other cases, which did not see
            this one: neither training nor the choice knew the case.
        step: of `--postprocess`, whose gain without any learning is surest; "": none is sure. The
            share's gain is what comes on top.
    """

    blend: float
    before: dict[str, Score]
    after: dict[str, Score]
    step: str = ""


def split_folds(
    cases: Sequence[LabelledCase], count: int, seed: int
) -> list[tuple[list[LabelledCase], list[LabelledCase]]]:
    """(training, held out) for each fold; every case is held out once, modalities spread evenly.

    Args:
        cases: at least two.
        count: folds; at most one a case.
        seed: of the order, by the cases' names.

    Raises:
        DataError: too few cases to hold one out.
    """
    if len({case.name for case in cases}) < 2:
        raise DataError("learning needs two labelled cases at least: one to learn, one to validate")
    order = sorted(
        cases, key=lambda one: (one.modality, sha256(f"{seed}/{one.name}".encode()).digest())
    )
    count = min(max(count, 2), len(order))
    folds = []
    for number in range(count):
        held = {case.name for case in order[number::count]}
        folds.append(
            ([c for c in cases if c.name not in held], [c for c in cases if c.name in held])
        )
    return folds


def estimate(scores: Mapping[str, BlendScores], cleaned: CleanedScores) -> Estimate:
    """Step and share to take, and what they are worth on a case that nothing was chosen by.

    Args:
        scores: of each held-out case, all with the same shares, 0 among them.
        cleaned: the same after each step that may be taken.
    """
    variants = {"": scores, **cleaned}
    after = {}
    for name in scores:
        step, share = _choice(variants, [other for other in scores if other != name])
        after[name] = variants[step][name][share]
    before = {name: scores[name][0.0] for name in scores}
    step, share = _choice(variants, list(scores))
    return Estimate(share, before, after, step)


def _choice(variants: CleanedScores, names: Sequence[str]) -> tuple[str, float]:
    """The step whose gain is surest by these cases, and with it the share."""
    steps = [{step: variants[step][name][0.0] for step in variants} for name in names]
    step = _best(steps, "")
    return step, _best([variants[step][name] for name in names], 0.0)


def _best(scores: Sequence[Mapping[Key, Score]], start: Key) -> Key:
    """The choice whose gain over `start` is surest; `start` unless it is `SURE_GAIN` at least.

    Choices that cost more than `LARGEST_NSD_LOSS` are none.
    """
    best, surest = start, SURE_GAIN
    for choice in scores[0]:
        gains = np.array([np.subtract(one[choice], one[start]) for one in scores])
        sure = _sure_gain(gains[:, 0])
        if choice != start and sure >= surest and gains[:, 1].mean() >= -LARGEST_NSD_LOSS:
            best, surest = choice, sure
    return best


def _sure_gain(gains: np.ndarray) -> float:
    """The mean less its standard error; of one case, which has none, half."""
    if len(gains) == 1:
        return float(gains[0]) / 2
    return float(gains.mean() - gains.std(ddof=1) / np.sqrt(len(gains)))
