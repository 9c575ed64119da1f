"""Held-out cases, and what their scores say."""

import numpy as np
import pytest

from litemedsam_jax.adaptation.cases import LabelledCase, Score
from litemedsam_jax.adaptation.folds import estimate, split_folds
from litemedsam_jax.training.catalog import DataError


def case_of(name: str) -> LabelledCase:
    gts = np.ones((4, 4), np.uint8)
    return LabelledCase(
        name, name.split("_")[0], gts, gts, None, np.array([[0, 0, 3, 3]]), np.array([1])
    )


def test_every_case_is_held_out_once_and_kinds_are_spread():
    cases = [case_of(f"{kind}_{k}") for kind in ("US", "MR") for k in range(3)]
    folds = split_folds(cases, 3, seed=1)
    held = [case.name for _, group in folds for case in group]
    assert sorted(held) == sorted(case.name for case in cases)
    for training, group in folds:
        assert {case.modality for case in group} == {"US", "MR"}
        assert {c.name for c in training} == {c.name for c in cases} - {c.name for c in group}
    assert len(split_folds(cases, 99, seed=1)) == 6
    with pytest.raises(DataError, match="two labelled cases"):
        split_folds(cases[:1], 3, seed=1)


def scored(dsc: dict, nsd: float = 0.5) -> dict:
    return {share: Score(value, nsd) for share, value in dsc.items()}


def test_a_cases_estimate_does_not_know_its_own_scores():
    """The share that is best for a is chosen by b and c alone."""
    scores = {
        "a": scored({0.0: 0.5, 0.5: 0.9, 1.0: 0.4}),
        "b": scored({0.0: 0.5, 0.5: 0.55, 1.0: 0.8}),
        "c": scored({0.0: 0.5, 0.5: 0.55, 1.0: 0.8}),
    }
    estimated = estimate(scores, {})
    after = {name: score.dsc for name, score in estimated.after.items()}
    assert after == {"a": 0.4, "b": 0.55, "c": 0.55}  # optimistic would be 0.9, 0.8, 0.8
    assert set(estimated.before.values()) == {Score(0.5, 0.5)}
    assert estimated.blend == 0.5


def gains(*points: float) -> dict:
    return {str(k): scored({0.0: 0.7, 0.5: 0.7 + gain / 100}) for k, gain in enumerate(points)}


@pytest.mark.parametrize(
    "scores, blend",
    [
        (gains(5, 6, 4), 0.5),
        (gains(1.5, 1.5), 0.5),
        (gains(0.8, 0.8, 0.8), 0.0),  # less than a point
        (gains(9, -4, 1), 0.0),  # two points on average, but no two cases agree
        (gains(-1, -2), 0.0),
    ],
)
def test_only_a_gain_that_cases_agree_on_is_taken(scores, blend):
    assert estimate(scores, {}).blend == blend


def test_a_step_is_taken_first_and_a_share_for_what_it_gains_on_top():
    """Learning mends what the step mends: alone it pays, after the step no more."""
    scores = gains(5, 6, 4)
    cleaned = {
        "hull": {name: scored({0.0: 0.78, 0.5: 0.78}) for name in scores},
        "smooth": {name: scored({0.0: 0.71, 0.5: 0.9}) for name in scores},
    }
    estimated = estimate(scores, cleaned)
    assert (estimated.step, estimated.blend) == ("hull", 0.0)
    assert set(estimated.after.values()) == {Score(0.78, 0.5)}
    assert set(estimated.before.values()) == {Score(0.7, 0.5)}
    cleaned["hull"]["2"] = scored({0.0: 0.5, 0.5: 0.5})  # cases do not agree on it
    estimated = estimate(scores, {"hull": cleaned["hull"]})
    assert (estimated.step, estimated.blend) == ("", 0.5)


@pytest.mark.parametrize("nsd, step", [(0.495, "hull"), (0.48, "smooth")])
def test_what_gains_volume_and_loses_the_surface_is_not_taken(nsd, step):
    scores = gains(0, 0, 0)
    cleaned = {
        "hull": {name: scored({0.0: 0.8, 0.5: 0.8}, nsd) for name in scores},
        "smooth": {name: scored({0.0: 0.75, 0.5: 0.75}) for name in scores},
    }
    assert estimate(scores, cleaned).step == step
