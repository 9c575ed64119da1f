"""Which cases are held out, and what the scores of held-out cases say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from litemedsam_jax.adaptation.cases import LabelledCase
from litemedsam_jax.training.catalog import DataError

# Of the mean DSC, less its standard error. With so few cases a smaller gain was as often a loss
# on the case left out (docs/adapt.md).
SURE_GAIN = 0.01
# Scores of one held-out case: share of what was learned -> DSC; 0: the starting weights.
BlendScores = Mapping[float, float]


@dataclass(frozen=True)
class Estimate:
    """What held-out cases say of learning.

    Attributes:
        blend: the share whose gain on all of them is surest; 0: none is sure.
        before: case -> DSC with the starting weights.
        after: case -> DSC with the share chosen so by the other cases, which did not see this one:
            neither training nor the choice knew the case.
    """

    blend: float
    before: dict[str, float]
    after: dict[str, float]


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


def estimate(scores: Mapping[str, BlendScores]) -> Estimate:
    """The share to take, and what it is worth on a case that nothing was chosen by.

    Args:
        scores: of each held-out case, all with the same shares, 0 among them.
    """
    names = list(scores)
    after = {
        name: scores[name][_best([scores[other] for other in names if other != name])]
        for name in names
    }
    before = {name: scores[name][0.0] for name in names}
    return Estimate(_best(list(scores.values())), before, after)


def _best(scores: Sequence[BlendScores]) -> float:
    """The share whose gain is surest; 0 unless it is `SURE_GAIN` at least."""
    sure = {
        share: _sure_gain(np.array([one[share] - one[0.0] for one in scores]))
        for share in scores[0]
        if share
    }
    best = max(sure, key=lambda share: sure[share])
    return best if sure[best] >= SURE_GAIN else 0.0


def _sure_gain(gains: np.ndarray) -> float:
    """The mean less its standard error; of one case, which has none, half."""
    if len(gains) == 1:
        return float(gains[0]) / 2
    return float(gains.mean() - gains.std(ddof=1) / np.sqrt(len(gains)))
