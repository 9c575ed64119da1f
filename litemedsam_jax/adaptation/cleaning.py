"""Which step of `--postprocess` suits one's own kind: a choice that needs no training.

Such a step has no parameter to learn, so a few cases tell surely whether it pays, and it changes
nothing for other kinds.
"""

from collections.abc import Mapping

import numpy as np

from litemedsam_jax.adaptation.cases import LabelledCase, Score
from litemedsam_jax.imaging.postprocess import parse, postprocess

STEPS = ("fill-holes", "hull", "largest-part", "smooth")
# step -> case -> share of what was learned -> score
CleanedScores = Mapping[str, Mapping[str, Mapping[float, Score]]]


def cleaned_scores(case: LabelledCase, segs: np.ndarray) -> dict[str, Score]:
    """Step -> score of a case's masks, labelled as the truth, after the step."""
    return {step: case.score(postprocess(segs, parse(step), case.spacing)) for step in STEPS}
