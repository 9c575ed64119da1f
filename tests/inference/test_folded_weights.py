"""Folded weights on disk: used when they are of these weights and whole, else made anew."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest

from litemedsam_jax.config import tiny_for_tests
from litemedsam_jax.inference import folded_weights
from litemedsam_jax.inference.folded_weights import fold_once
from litemedsam_jax.inference.program_store import ProgramStore
from litemedsam_jax.models.lite_medsam import init_variables
from litemedsam_jax.weights import store as weight_store
from litemedsam_jax.weights.folding import fold

CONFIG = tiny_for_tests()
GRID = CONFIG.image_encoder.grid_size


@pytest.fixture(scope="module")
def variables() -> dict[str, np.ndarray]:
    tree = init_variables(CONFIG, jax.random.key(0))
    return {name: np.asarray(value) for name, value in weight_store.flatten(tree).items()}


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

    monkeypatch.setattr(folded_weights, "fold", fold_and_note)
    return counted


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all(
        np.array_equal(found[name], expected[name]) for name in expected
    )


def stored(store: ProgramStore) -> Path:
    return next(store.folder.rglob("*.weights"))


def test_the_second_time_they_are_mapped(variables, store, folds):
    fold_once(variables, GRID, store)
    found = fold_once(variables, GRID, store)
    assert len(folds) == 1
    assert same(found, fold(variables, GRID))
    assert all(array.ctypes.data % 64 == 0 for array in found.values())  # XLA need not copy


def test_a_single_other_value_makes_other_weights(variables, store, folds):
    fold_once(variables, GRID, store)
    for name in ("params/image_encoder/patch_embed/seq_0/c/kernel", max(variables)):
        changed = dict(variables)
        changed[name] = variables[name].copy()
        changed[name].flat[-1] += 1
        assert same(fold_once(changed, GRID, store), fold(changed, GRID))
    assert len(folds) == 3


@pytest.mark.parametrize("name", ["iou_token", "mask_tokens"])
def test_exchanged_values_and_rows_make_other_weights(name, variables, store, folds):
    fold_once(variables, GRID, store)
    key = f"params/mask_decoder/{name}/embedding"
    changed = dict(variables)
    changed[key] = variables[key].copy()
    parts = changed[key] if len(changed[key]) > 1 else changed[key].reshape(-1)
    parts[[0, 1]] = parts[[1, 0]]
    assert same(fold_once(changed, GRID, store), fold(changed, GRID))
    assert len(folds) == 2


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
    name = "params/mask_decoder/iou_token/embedding"
    for number in range(7):
        changed = {**variables, name: variables[name] + np.float32(number)}
        fold_once(changed, GRID, store)
        path = store.folder / "folded" / f"{folded_weights.digest(changed)}.weights"
        os.utime(path, (number, number))
    assert len(list(store.folder.rglob("*.weights"))) == folded_weights._KEPT
    assert path.exists()
