"""Which step of `--postprocess` suits one's own kind: a choice that needs no training.

Such a step has no parameter to learn, so a few cases tell surely whether it pays, and it changes
nothing for other kinds.
"""

from collections.abc import Mapping

import numpy as np

from litemedsam_jax.adaptation.cases import LabelledCase
from litemedsam_jax.imaging.postprocess import parse, postprocess

STEPS = ("fill-holes", "hull", "largest-part", "smooth")
# step -> case -> share of what was learned -> DSC
CleanedScores = Mapping[str, Mapping[str, Mapping[float, float]]]


def cleaned_scores(case: LabelledCase, segs: np.ndarray) -> dict[str, float]:
    """Step -> DSC of a case's masks, labelled as the truth, after the step."""
    return {step: case.dsc(postprocess(segs, parse(step), case.spacing)) for step in STEPS}
