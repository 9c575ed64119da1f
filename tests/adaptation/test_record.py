"""What is said of an adaptation: the table, and the sentence in the weights."""

import json

from litemedsam_jax.adaptation.adapt import Adaptation
from litemedsam_jax.adaptation.record import metadata_of, summary, table
from litemedsam_jax.training.loop import Outcome
from litemedsam_jax.weights.adaptation_note import KEY

RESULT = Adaptation(
    Outcome(None, "early"), 0.5, {}, {"PET_1": 0.5, "PET_2": 0.75}, {"PET_1": 0.75, "PET_2": 0.74},
    {"MR_1": 0.9}, {"MR_1": 0.897},
)  # fmt: skip


def test_the_table_shows_what_became_better_and_what_worse():
    lines = table(RESULT).splitlines()
    assert any("PET_1" in line and "0.500  0.750  +0.250" in line for line in lines)
    assert any("PET_2" in line and "-0.010" in line for line in lines)
    assert any("other kinds, mean" in line and "-0.003" in line for line in lines)


def test_the_weights_carry_every_score_and_a_sentence():
    record = json.loads(metadata_of(RESULT, "best")[KEY])
    assert record["before"] == RESULT.before and record["after"] == RESULT.after
    assert record["blend"] == 0.5 and record["strategy"] == "best"
    assert record["summary"] == summary(RESULT, "best")
    assert "0.625 -> 0.745 (2 cases, --strategy best)" in record["summary"]
    assert "other kinds 0.900 -> 0.897 (1 cases)" in record["summary"]
