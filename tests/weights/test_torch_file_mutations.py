"""Hundreds of damaged and hostile checkpoints: refused in a sentence or read, nothing run."""

import contextlib
import pickle
import tracemalloc

import pytest

from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.load import load_model
from litemedsam_jax.weights.torch_file import read_torch_file
from tests.weights import mutations


@pytest.fixture(scope="module")
def mutants(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mutants")
    mutations.save_good(folder / "good.pth")
    return list(mutations.write_all(folder, folder / "good.pth", folder / "canary"))


def test_there_are_enough_of_them_and_the_original_is_read(mutants):
    assert len(mutants) >= 200
    assert read_torch_file(mutants[0].with_name("good.pth"))["epoch"] == 3


def test_the_traps_do_work(tmp_path):
    canary = tmp_path / "canary"
    for call in [mutations.calls(canary)[index] for index in (0, 3, 4)]:
        pickle.loads(mutations.pickled(call, 2))
        assert canary.exists()
        canary.unlink()


def test_each_is_refused_in_a_sentence_or_read_and_nothing_is_run(mutants):
    read, refused = set(), set()
    for path in mutants:
        try:
            read_torch_file(path)
            read.add(path)
        except CheckpointError as error:
            refused.add(path)
            told = str(error)
            assert told.startswith(f"{path}: ") and len(told.splitlines()) == 1, told
            assert told.isprintable() and len(told) < 700, told
    assert not mutants[0].with_name("canary").exists()
    assert {path for path in mutants if path.name.startswith("code")} <= refused
    assert len(refused) > len(mutants) * 0.7


def test_as_weights_none_is_taken(mutants):
    """They are no LiteMedSAM, so even what can be read is told to be something else."""
    for path in mutants:
        with pytest.raises(CheckpointError):
            load_model(path)


def test_little_files_take_little_memory(mutants):
    tracemalloc.start()
    try:
        for path in mutants:
            with contextlib.suppress(CheckpointError):
                read_torch_file(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 << 20
