"""Scores of cleaned masks."""

import numpy as np

from litemedsam_jax.adaptation.cases import LabelledCase
from litemedsam_jax.adaptation.cleaning import STEPS, cleaned_scores
from litemedsam_jax.imaging.boxes import boxes_of_labels


def test_every_step_is_scored_by_itself():
    gts = np.zeros((3, 64, 64), np.uint8)
    gts[:, 10:40, 10:40] = 3
    segs = gts.copy()
    segs[:, 20:30, 20:30] = 0  # a hole
    segs[:, 10:15, 25:30] = 0  # a notch
    case = LabelledCase("CT_1", "CT", gts, gts, None, *boxes_of_labels(gts))
    scores = cleaned_scores(case, segs)
    assert scores.keys() == set(STEPS)
    assert scores["hull"].dsc == 1 > scores["fill-holes"].dsc > scores["largest-part"].dsc
    assert scores["hull"].nsd == 1 > scores["largest-part"].nsd
    assert (segs[:, 20:30, 20:30] == 0).all()
