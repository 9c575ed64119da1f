"""Which cases are held out, and what the scores of held-out cases say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from litemedsam_jax.adaptation.cases import LabelledCase
from litemedsam_jax.training.catalog import DataError

FINEST_GAIN = 1e-3  # of the mean DSC: less is not told from chance
# Scores of one held-out case: share of what was learned -> DSC; 0: the starting weights.
BlendScores = Mapping[float, float]


@dataclass(frozen=True)
class Estimate:
    """What held-out cases say of learning.

    Attributes:
        blend: the share that does best on all of them; 0: nothing is gained.
        before: case -> DSC with the starting weights.
        after: case -> DSC with the share that does best on the other cases, which did not see this
            one: neither training nor the choice knew the case.
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
    """The share with the best mean; 0 unless it gains `FINEST_GAIN`."""
    means = {share: float(np.mean([one[share] for one in scores])) for share in scores[0]}
    best = max(means, key=lambda share: means[share])
    return best if means[best] > means[0.0] + FINEST_GAIN else 0.0
