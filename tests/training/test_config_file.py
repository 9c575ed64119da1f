"""config.json: what a changed option means on --resume."""

import dataclasses

import pytest

from litemedsam_jax.config import lite_medsam
from litemedsam_jax.training.config_file import resume_notes, write_config
from litemedsam_jax.weights.errors import CheckpointError


def test_the_same_options_need_no_note(make_config, tmp_path):
    config = make_config(data={"augment": ("scale",)})
    write_config(tmp_path, config)
    assert resume_notes(tmp_path, config) == []


def test_a_change_of_the_result_is_reported_and_one_of_bookkeeping_is_not(make_config, tmp_path):
    write_config(tmp_path, make_config())
    changed = make_config(
        data={"workers": 3, "batch_size": 1}, optimizer={"learning_rate": 0.5}, epochs=9, keep=1
    )
    assert resume_notes(tmp_path, changed) == [
        "note: data.batch_size was 2 and is 1 now",
        "note: optimizer.learning_rate was 0.001 and is 0.5 now",
        "note: epochs was 2 and is 9 now",
    ]


def test_what_the_checkpoint_cannot_mean_is_refused(make_config, tmp_path):
    config = make_config()
    write_config(tmp_path, config)
    with pytest.raises(CheckpointError, match=r"optimizer\.freeze was none and is encoder now"):
        resume_notes(tmp_path, make_config(optimizer={"freeze": ("encoder",)}))
    with pytest.raises(CheckpointError, match="model was small and is lite_medsam now"):
        resume_notes(tmp_path, dataclasses.replace(config, model=lite_medsam()))


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_missing_or_damaged_file_is_one_note(make_config, tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    (note,) = resume_notes(tmp_path, make_config())
    assert "options were not compared" in note
