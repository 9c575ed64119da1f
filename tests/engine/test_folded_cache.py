"""Folded weights on disk: used when they are of these weights and whole, else made anew."""

import os
import sys
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from litemedsam_jax.config import tiny_for_tests
from litemedsam_jax.engine import folded_cache
from litemedsam_jax.engine.engine import Engine
from litemedsam_jax.engine.folded_cache import fold_once
from litemedsam_jax.engine.folding import fold, is_read
from litemedsam_jax.engine.program_store import ProgramStore
from litemedsam_jax.models.lite_medsam import init_variables
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.tree import flatten
from litemedsam_jax.weights.values_digest import DigestCheck, values_digest
from tests.support.tiny_model import BOXES, IMAGE

CONFIG = tiny_for_tests()
GRID = CONFIG.image_encoder.grid_size

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")


@pytest.fixture(scope="module")
def variables() -> dict[str, np.ndarray]:
    tree = init_variables(CONFIG, jax.random.key(0))
    return {name: np.asarray(value) for name, value in flatten(tree).items()}


@pytest.fixture
def store(tmp_path) -> ProgramStore:
    return ProgramStore(CONFIG, tmp_path)


@pytest.fixture
def folds(monkeypatch) -> list[int]:
    """Grows by one whenever weights are folded."""
    counted: list[int] = []

    def fold_and_note(variables, grid_size):
        counted.append(1)
        return fold(variables, grid_size)

    monkeypatch.setattr(folded_cache, "fold", fold_and_note)
    return counted


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all(
        np.array_equal(found[name], expected[name]) for name in expected
    )


def stored(store: ProgramStore) -> Path:
    return next(store.folder.rglob("*.safetensors"))


def test_the_second_time_they_are_mapped(variables, store, folds):
    fold_once(variables, GRID, store)
    found = fold_once(variables, GRID, store)
    assert len(folds) == 1
    assert same(found, fold(variables, GRID))


READ = [
    "params/image_encoder/patch_embed/seq_0/c/kernel",
    "params/image_encoder/layers_1/blocks_0/mlp/norm/scale",
    "batch_stats/image_encoder/layers_0/downsample/conv1/bn/var",
    "buffers/prompt_encoder/pe_layer/positional_encoding_gaussian_matrix",
]


@pytest.mark.parametrize("name", READ)
def test_a_single_other_value_makes_other_weights(name, variables, store, folds):
    fold_once(variables, GRID, store)
    changed = {**variables, name: variables[name].copy()}
    changed[name].flat[-1] += 1
    assert same(fold_once(changed, GRID, store), fold(changed, GRID))
    assert len(folds) == 2


@pytest.mark.parametrize("name", READ)
def test_exchanged_channels_make_other_weights(name, variables, store, folds):
    distinct = np.arange(1, variables[name].size + 1, dtype=np.float32)
    variables = {**variables, name: distinct.reshape(variables[name].shape)}
    fold_once(variables, GRID, store)
    changed = {**variables, name: variables[name].copy()}
    changed[name][..., [0, 1]] = changed[name][..., [1, 0]]
    assert same(fold_once(changed, GRID, store), fold(changed, GRID))
    assert len(folds) == 2


def test_weights_forged_to_the_same_crc_are_other_weights(variables, store):
    """A CRC is linear: the bits of its polynomial, anywhere, leave it as it is."""
    name = "params/image_encoder/layers_1/blocks_0/mlp/fc1/kernel"
    forged = {**variables, name: variables[name].copy()}
    polynomial = np.array([int(bit) for bit in f"{0x104C11DB7:b}"], np.uint8)
    data = forged[name].reshape(-1).view(np.uint8)
    data[64:69] ^= np.packbits(polynomial, bitorder="little")
    assert zlib.crc32(forged[name]) == zlib.crc32(variables[name])
    assert not np.array_equal(forged[name], variables[name])
    fold_once(forged, GRID, store)
    assert same(fold_once(variables, GRID, store), fold(variables, GRID))


@posix
def test_a_second_start_maps_whatever_the_umask(variables, store, folds):
    before = os.umask(0o002)  # a group's members share their files: usual on some hosts
    try:
        fold_once(variables, GRID, store)
        fold_once(variables, GRID, store)
    finally:
        os.umask(before)
    assert len(folds) == 1


@posix
def test_in_a_folder_that_others_may_write_to_nothing_is_kept(variables, store):
    folder = store.folder / "folded"
    folder.mkdir(parents=True)
    folder.chmod(0o775)
    assert same(fold_once(variables, GRID, store), fold(variables, GRID))
    assert not list(folder.iterdir())


def test_a_stated_digest_finds_the_file_and_keeps_nothing_unchecked(variables, store, folds):
    honest = DigestCheck(variables, values_digest(variables), "w")
    fold_once(variables, GRID, store, honest)
    fold_once(variables, GRID, store, honest)
    assert len(folds) == 1 and stored(store).stem == honest()
    lying = DigestCheck(variables, "0" * 64, "w")
    with pytest.raises(CheckpointError, match="not those that were written"):
        fold_once(variables, GRID, store, lying)
    assert stored(store).stem == honest()


def test_no_result_comes_of_weights_that_state_another_models_digest(variables, store):
    """The other model's fold is found, and used ahead of the check."""
    fold_once(variables, GRID, store)
    changed = {name: array + 1 for name, array in variables.items()}
    check = DigestCheck(changed, values_digest(variables), "w")
    engine = Engine(changed, CONFIG, "cpu", store, check=check)
    with pytest.raises(CheckpointError, match="not those that were written"):
        engine.encode(IMAGE)
    with pytest.raises(CheckpointError, match="not those that were written"):
        engine.decode(np.zeros((1, GRID, GRID, 1), np.float32), BOXES)


def test_what_folding_leaves_alone_is_not_kept(variables, store, folds):
    """The decoder's weights, most of all: they come from the caller, whatever lies on the disk."""
    fold_once(variables, GRID, store)
    changed = {name: array if is_read(name) else array + 1 for name, array in variables.items()}
    assert same(fold_once(changed, GRID, store), fold(changed, GRID))
    kept = load_file(stored(store))
    assert not any("mask_decoder" in name or "neck" in name for name in kept)


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other_json(path: Path) -> None:
    header = b'{"params/x": [1, 2]}'
    path.write_bytes(len(header).to_bytes(8, "little") + header)


def let_others_write(path: Path) -> None:
    path.chmod(0o666)


@pytest.mark.parametrize("fault", [spoil, cut_short, empty, other_json, let_others_write])
def test_what_cannot_be_trusted_is_folded_anew_and_mended(fault, variables, store, folds):
    fold_once(variables, GRID, store)
    fault(stored(store))
    expected = fold(variables, GRID)
    assert same(fold_once(variables, GRID, store), expected)
    assert same(fold_once(variables, GRID, store), expected)
    assert len(folds) == 2


def test_nothing_can_be_stored(variables, tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = ProgramStore(CONFIG, tmp_path / "file" / "programs")
    assert same(fold_once(variables, GRID, store), fold(variables, GRID))


def test_few_are_kept_the_last_used_ones(variables, store):
    for number in range(7):
        changed = {**variables, READ[0]: variables[READ[0]] + np.float32(number)}
        before = set(store.folder.rglob("*.safetensors"))
        fold_once(changed, GRID, store)
        (path,) = set(store.folder.rglob("*.safetensors")) - before
        os.utime(path, (number, number))
    assert len(list(store.folder.rglob("*.safetensors"))) == folded_cache.KEPT
    assert path.exists()
