"""What adapted weights say of themselves, and that other files say nothing."""

import json

import numpy as np
import pytest

from litemedsam_jax.weights.adaptation_note import KEY, adaptation_note
from litemedsam_jax.weights.safetensors_file import save
from tests.support.small_network import small_model


def write(path, **metadata):
    save(path, {"params/a": np.zeros(3, np.float32)}, small_model(), metadata=metadata)
    return path


def test_the_summary_is_one_printable_line(tmp_path):
    record = json.dumps({"summary": "DSC 0.5 -> 0.7\n\x1b[31m" + "x" * 999, "postprocess": "\x1b["})
    note = adaptation_note(write(tmp_path / "a.safetensors", **{KEY: record}))
    assert note is not None and note.summary.startswith("DSC 0.5 -> 0.7 ")
    assert note.summary.isprintable() and len(note.summary) <= 300
    assert note.postprocess == " [" and note.strategy == ""


@pytest.mark.parametrize("record", [None, "{", "[]", '{"summary": 3}', "[" * 9999])
def test_other_weights_say_nothing(tmp_path, record):
    metadata = {} if record is None else {KEY: record}
    assert adaptation_note(write(tmp_path / "a.safetensors", **metadata)) is None


def test_files_that_are_no_weights_say_nothing(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"PK\x03\x04 and more")
    assert adaptation_note(tmp_path / "a.pth") is None
    assert adaptation_note(tmp_path / "missing.safetensors") is None
