"""Which steps clean the masks of adapted weights, and what is said of it."""

import json

import numpy as np
import pytest

from litemedsam_jax.imaging.postprocess import Step
from litemedsam_jax.weights.adaptation_note import KEY
from litemedsam_jax.weights.adapted_steps import steps_for
from litemedsam_jax.weights.safetensors_file import save
from tests.support.small_network import small_model

SMOOTH = (Step("smooth"),)


@pytest.fixture
def adapted(tmp_path):
    """Writes weights for which a step was chosen."""

    def write(step: str, strategy: str = "best"):
        record = {"summary": "DSC 0.5 -> 0.7", "strategy": strategy, "postprocess": step}
        path = tmp_path / "my.safetensors"
        arrays = {"params/a": np.zeros(3, np.float32)}
        save(path, arrays, small_model(), metadata={KEY: json.dumps(record)})
        return path

    return write


def test_the_step_is_for_masks_of_the_strategy_it_was_chosen_with(adapted):
    path = adapted("hull")
    masks = steps_for(path, "best")
    assert masks.steps == (Step("hull"),)
    assert masks.line == "DSC 0.5 -> 0.7; hull is applied (--postprocess none: without)"
    masks = steps_for(path, "reference")
    assert masks.steps == ()
    assert "was chosen with --strategy best, so it is not applied here" in masks.line


def test_a_step_of_boxes_on_one_slice_is_for_programs_that_draw_them(adapted):
    path = adapted("hull", "slice")
    assert steps_for(path, "reference", by_slice=True).steps == (Step("hull"),)
    masks = steps_for(path, "best")
    assert masks.steps == () and "chosen for volumes with boxes on one slice" in masks.line


def test_what_is_asked_for_takes_its_place(adapted):
    path = adapted("hull")
    assert steps_for(path, "best", ()).steps == ()
    masks = steps_for(path, "best", SMOOTH)
    assert masks.steps == SMOOTH and "applied" not in masks.line


@pytest.mark.parametrize(
    "step, said", [("smooth", "needs the whole mask"), ("melt", "there is no step 'melt' here")]
)
def test_a_step_that_cannot_be_taken_is_named(adapted, step, said):
    masks = steps_for(adapted(step), "best", by_slice=True)
    assert masks.steps == () and said in masks.line


def test_slice_by_slice_no_whole_mask_may_be_asked_for(adapted):
    with pytest.raises(ValueError, match="--postprocess smooth needs the whole mask; here: fill"):
        steps_for(None, "best", SMOOTH, by_slice=True)
    assert steps_for(adapted("hull"), "best", by_slice=True).steps == (Step("hull"),)


def test_other_weights_have_none_and_say_nothing(tmp_path):
    for weights in (None, tmp_path / "none.pth"):
        masks = steps_for(weights, "best")
        assert (masks.steps, masks.line) == ((), "")
        assert steps_for(weights, "best", SMOOTH).steps == SMOOTH
