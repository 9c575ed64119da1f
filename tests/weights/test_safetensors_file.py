"""What is written is read back, and other files are refused clearly."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from litemedsam_jax.weights import config_json, safetensors_file
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.load import load


def test_save_and_load(tmp_path, tiny_variables, tiny_config):
    path = tmp_path / "new" / "folder" / "a.safetensors"
    safetensors_file.save(path, tiny_variables, tiny_config, metadata={"note": "hello"})
    weights = load(path)
    variables = weights.variables
    assert weights.config == tiny_config
    assert variables.keys() == tiny_variables.keys()
    for name, value in tiny_variables.items():
        np.testing.assert_array_equal(variables[name], value)
        assert variables[name].dtype == value.dtype and not variables[name].flags.writeable
    assert safetensors_file.read_metadata(path)["note"] == "hello"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.safetensors"]  # no leavings


def test_nested_transposed_and_replaced(tmp_path, tiny_variables, tiny_config):
    """Nested trees and views are written as they read; a second save replaces the first."""
    path = tmp_path / "a.safetensors"
    safetensors_file.save(path, tiny_variables, tiny_config)
    old, _ = safetensors_file.read(path)
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    safetensors_file.save(path, {"params": {"x": array, "scalar": np.float32(3)}}, tiny_config)
    new, _ = safetensors_file.read(path)
    np.testing.assert_array_equal(new["params/x"], array)
    assert new["params/scalar"] == 3
    name = next(iter(tiny_variables))
    np.testing.assert_array_equal(old[name], tiny_variables[name])  # still mapped


def test_other_readers_can_read_it(tmp_path, tiny_variables, tiny_config):
    safetensors_file.save(tmp_path / "a.safetensors", tiny_variables, tiny_config)
    arrays = load_file(tmp_path / "a.safetensors")
    assert arrays.keys() == tiny_variables.keys()


def test_arrays_lie_where_xla_need_not_copy_them(tmp_path, tiny_variables, tiny_config):
    safetensors_file.save(tmp_path / "a.safetensors", tiny_variables, tiny_config)
    variables, _ = safetensors_file.read(tmp_path / "a.safetensors")
    fitting = [array for array in variables.values() if array.nbytes % 64 == 0]
    assert len(fitting) > len(variables) / 2
    assert all(array.ctypes.data % 64 == 0 for array in fitting)


def test_files_that_are_no_weights(tmp_path, tiny_variables, tiny_config):
    good = tmp_path / "good.safetensors"
    safetensors_file.save(good, tiny_variables, tiny_config)
    data = good.read_bytes()
    save_file({"x": np.zeros(3)}, tmp_path / "foreign.safetensors")
    save_file({"x": np.zeros(3)}, tmp_path / "odd.safetensors", {"format": "x", "config": "{}"})
    header = json.dumps({"__metadata__": {"format": "x"}, "x": 3}).encode()
    contents = {
        "empty.safetensors": (b"", "empty or truncated"),
        "header.safetensors": (data[:100], "truncated or damaged"),
        "truncated.safetensors": (data[: len(data) // 2], "truncated or damaged at"),
        "one_byte_short.safetensors": (data[:-1], "truncated or damaged at"),
        "text.safetensors": (b"hello, world", "neither safetensors nor a PyTorch checkpoint"),
        "huge.safetensors": (b"\xff" * 7 + b"\x7f{}", "neither safetensors"),
        "number.safetensors": (len(header).to_bytes(8, "little") + header, "damaged at x"),
    }
    for name, (content, _) in contents.items():
        (tmp_path / name).write_bytes(content)
    faults = {name: fault for name, (_, fault) in contents.items()} | {
        "foreign.safetensors": "no image encoder of LiteMedSAM",
        "odd.safetensors": "not a model configuration",
        "missing.safetensors": "No such file",
        ".": "Is a directory",
    }
    for name, fault in faults.items():
        with pytest.raises(CheckpointError, match=fault) as error:
            load(tmp_path / name)
        assert str(error.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.parametrize(
    "change",
    [
        {"data_offsets": [0, 10**12]},
        {"data_offsets": [-8, 0]},
        {"data_offsets": [8, 0]},
        {"data_offsets": [-8, -4], "shape": [1]},
        {"data_offsets": "no"},
        {"shape": [10**9]},
        {"shape": [-1, -2]},
        {"dtype": "F8_E4M3"},
        {"dtype": None},
    ],
    ids=str,
)
def test_headers_that_lie(tmp_path, change, tiny_config):
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | change
    texts = {"format": safetensors_file.FORMAT, "config": config_json.to_json(tiny_config)}
    header = json.dumps({"__metadata__": texts, "params/x": entry}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError, match="damaged at params/x"):
        load(path)


def test_a_folder_that_cannot_be_written(tmp_path, tiny_variables, tiny_config):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written"):
        safetensors_file.save(tmp_path / "file" / "a.safetensors", tiny_variables, tiny_config)


NEST = b"[" * 100_000


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b'{"a": ' + NEST, "truncated or damaged"),
        (b'{"a": \xff}', "truncated or damaged"),
        (b'{"__metadata__": 3}', "not a dictionary"),
        (b'{"__metadata__": {"format": "x", "config": "3"}}', "not a model configuration"),
        (b'{"__metadata__": {"format": "x", "config": "%s"}}' % NEST, "not a model configuration"),
        (b'{"__metadata__": {"format": "x", "config": 3}}', "not a model configuration"),
    ],
    ids=range(6),
)
def test_hostile_headers(tmp_path, header, words):
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match=words) as caught:
        load(path)
    assert str(path) in str(caught.value) and len(str(caught.value).splitlines()) == 1
