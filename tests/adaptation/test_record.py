"""What is said of an adaptation: the table, and the sentence in the weights."""

import json

from litemedsam_jax.adaptation.adapt import Adaptation
from litemedsam_jax.adaptation.cases import Score
from litemedsam_jax.adaptation.folds import Estimate
from litemedsam_jax.adaptation.record import blend_table, metadata_of, summary, table
from litemedsam_jax.weights.adaptation_note import KEY


def scored(**dsc: float) -> dict[str, Score]:
    """NSD is half of DSC."""
    return {name: Score(value, value / 2) for name, value in dsc.items()}


RESULT = Adaptation(
    0.5, {}, Estimate(0.5, scored(PET_1=0.5, PET_2=0.75), scored(PET_1=0.75, PET_2=0.74)),
    {share: Score(dsc, 0.5) for share, dsc in {0.0: 0.625, 0.25: 0.7, 0.5: 0.745, 1: 0.72}.items()},
    scored(MR_1=0.9), {1.0: scored(MR_1=0.85), 0.5: scored(MR_1=0.897)},
)  # fmt: skip


def test_the_table_shows_what_became_better_and_what_worse():
    lines = table(RESULT).splitlines()
    assert any(
        "PET_1" in line and "0.500  0.750  +0.250       0.250  0.375  +0.125" in line
        for line in lines
    )
    assert any("PET_2" in line and "-0.010" in line for line in lines)
    assert any("other kinds, mean" in line and "-0.003" in line for line in lines)


def test_the_weights_carry_every_score_and_a_sentence():
    record = json.loads(metadata_of(RESULT, "best")[KEY])
    assert record["before"]["PET_1"] == {"dsc": 0.5, "nsd": 0.25}
    assert record["after"]["PET_1"] == {"dsc": 0.75, "nsd": 0.375}
    assert record["blend"] == 0.5 and record["strategy"] == "best"
    assert record["summary"] == summary(RESULT, "best")
    assert "DSC of held-out cases 0.625 -> 0.745, NSD 0.312 -> 0.372" in record["summary"]
    assert "(2 cases, --strategy best)" in record["summary"]
    assert "other kinds 0.900 -> 0.897 (1 cases)" in record["summary"]


def test_a_step_without_learning_is_told_as_an_option():
    expected = Estimate(0.0, scored(a=0.5), scored(a=0.75), "hull")
    blends = dict.fromkeys((0.0, 0.5), Score(0.75, 0.375))
    result = Adaptation(0.0, {}, expected, blends, {}, {})
    assert summary(result, "best") == (
        "weights as they were: DSC of held-out cases 0.500 -> 0.750, NSD 0.250 -> 0.375 "
        "(1 cases, --strategy best --postprocess hull)"
    )
    assert json.loads(metadata_of(result, "best")[KEY])["postprocess"] == "hull"
    assert "0.500 -> 0.750" in blend_table(result).splitlines()[0]


def test_every_share_of_what_was_learned_has_a_line():
    lines = blend_table(RESULT).splitlines()
    assert lines[1].split() == ["0.00", "0.625", "+0.000", "0.500", "+0.000", "0.900", "+0.000"]
    assert lines[2].split() == [
        "0.25",
        "0.700",
        "+0.075",
        "0.500",
        "+0.000",
    ]  # anchors were not tried with it
    assert "0.897  -0.003  <- taken" in lines[3] and "0.850  -0.050" in lines[4]
