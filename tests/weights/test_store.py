"""The safetensors store: what is written is read back, and other files are refused clearly."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from litemedsam_jax.config import lite_medsam, medsam_vit_b, mobile_sam, tiny_for_tests
from litemedsam_jax.weights import config_json, store
from litemedsam_jax.weights.errors import CheckpointError


@pytest.mark.parametrize("make", [lite_medsam, mobile_sam, medsam_vit_b, tiny_for_tests])
def test_configuration_as_json(make):
    config = make()
    assert config_json.from_json(config_json.to_json(config)) == config


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": "x", "image_encoder": {"type": "y"}}'])
def test_no_configuration(text):
    with pytest.raises(ValueError):
        config_json.from_json(text)


def test_flatten_there_and_back():
    tree = {"params": {"a": {"kernel": 1, "bias": 2}, "b": 3}, "buffers": {"c": 4}}
    flat = store.flatten(tree)
    assert flat == {"params/a/kernel": 1, "params/a/bias": 2, "params/b": 3, "buffers/c": 4}
    assert store.unflatten(flat) == tree


def test_save_and_load(tmp_path, tiny_variables, tiny_config):
    path = tmp_path / "new" / "folder" / "a.safetensors"
    store.save(path, tiny_variables, tiny_config, {"note": "hello"})
    variables, config = store.load(path)
    assert config == tiny_config
    assert variables.keys() == tiny_variables.keys()
    for name, value in tiny_variables.items():
        np.testing.assert_array_equal(variables[name], value)
        assert variables[name].dtype == value.dtype and not variables[name].flags.writeable
    assert store.read_metadata(path)["note"] == "hello"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.safetensors"]  # no leavings


def test_nested_transposed_and_replaced(tmp_path, tiny_variables, tiny_config):
    """Nested trees and views are written as they read; a second save replaces the first."""
    path = tmp_path / "a.safetensors"
    store.save(path, tiny_variables, tiny_config)
    old, _ = store.load(path)
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    store.save(path, {"params": {"x": array, "scalar": np.float32(3)}}, tiny_config)
    new, _ = store.load(path)
    np.testing.assert_array_equal(new["params/x"], array)
    assert new["params/scalar"] == 3
    name = next(iter(tiny_variables))
    np.testing.assert_array_equal(old[name], tiny_variables[name])  # still mapped


def test_other_readers_can_read_it(tmp_path, tiny_variables, tiny_config):
    store.save(tmp_path / "a.safetensors", tiny_variables, tiny_config)
    arrays = load_file(tmp_path / "a.safetensors")
    assert arrays.keys() == tiny_variables.keys()


def test_arrays_lie_where_xla_need_not_copy_them(tmp_path, tiny_variables, tiny_config):
    store.save(tmp_path / "a.safetensors", tiny_variables, tiny_config)
    variables, _ = store.load(tmp_path / "a.safetensors")
    fitting = [array for array in variables.values() if array.nbytes % 64 == 0]
    assert len(fitting) > len(variables) / 2
    assert all(array.ctypes.data % 64 == 0 for array in fitting)


def test_reading_needs_neither_jax_nor_flax(tmp_path, tiny_variables, tiny_config):
    path = tmp_path / "a.safetensors"
    store.save(path, tiny_variables, tiny_config)
    code = (
        "import sys; from litemedsam_jax.weights import store; store.load(sys.argv[1]);"
        "print(sorted({'jax', 'flax', 'torch', 'pickle', 'zipfile'} & sys.modules.keys()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    # numpy imports pickle by itself
    assert set(json.loads(result.stdout.replace("'", '"'))) <= {"pickle"}


def test_files_that_are_no_weights(tmp_path, tiny_variables, tiny_config):
    good = tmp_path / "good.safetensors"
    store.save(good, tiny_variables, tiny_config)
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
        "number.safetensors": (len(header).to_bytes(8, "little") + header, "not written by"),
    }
    for name, (content, _) in contents.items():
        (tmp_path / name).write_bytes(content)
    faults = {name: fault for name, (_, fault) in contents.items()} | {
        "foreign.safetensors": "not written by litemedsam_jax",
        "odd.safetensors": "not a model configuration",
        "missing.safetensors": "No such file",
        ".": "Is a directory",
    }
    for name, fault in faults.items():
        with pytest.raises(CheckpointError, match=fault) as error:
            store.load(tmp_path / name)
        assert str(error.value).startswith(f"{tmp_path / name}: ")
        with pytest.raises(CheckpointError):
            store.load_any(tmp_path / name)


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
    texts = {"format": store.FORMAT, "config": config_json.to_json(tiny_config)}
    header = json.dumps({"__metadata__": texts, "params/x": entry}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(CheckpointError, match="damaged at params/x"):
        store.load(path)


def test_a_folder_that_cannot_be_written(tmp_path, tiny_variables, tiny_config):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written"):
        store.save(tmp_path / "file" / "a.safetensors", tiny_variables, tiny_config)


def test_load_any(tmp_path, published_pth, published_weights, tiny_variables, tiny_config):
    """Either kind of file, by content and not by name."""
    renamed = tmp_path / "weights.safetensors"
    renamed.symlink_to(published_pth)
    variables, config = store.load_any(renamed, expected="lite_medsam")
    assert config == published_weights.config
    assert variables.keys() == published_weights.variables.keys()
    tiny = tmp_path / "tiny.pth"
    store.save(tiny, tiny_variables, tiny_config)
    assert store.load_any(tiny)[1] == tiny_config
    with pytest.raises(CheckpointError, match="tiny_for_tests; lite_medsam was expected"):
        store.load_any(tiny, expected="lite_medsam")
    encoder = {k: v for k, v in tiny_variables.items() if "/image_encoder/" in k}
    store.save(tiny, encoder, tiny_config)
    with pytest.raises(CheckpointError, match="an image encoder alone"):
        store.load_any(tiny)


NEST = b"[" * 100_000


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b'{"a": ' + NEST, "truncated or damaged"),
        (b'{"a": \xff}', "truncated or damaged"),
        (b'{"__metadata__": 3}', "configuration is missing"),
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
        store.load(path)
    assert str(path) in str(caught.value) and len(str(caught.value).splitlines()) == 1
