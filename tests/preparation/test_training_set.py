"""`litemedsam pack`: shards of the cases that can be used, and a line for each that cannot."""

import numpy as np
import pytest

from litemedsam_jax.cli import main
from litemedsam_jax.preparation.training_set import read_index


@pytest.fixture
def cases(tmp_path):
    """Three good cases and one that is damaged."""
    (tmp_path / "npz").mkdir()
    gts = np.zeros((64, 64), np.uint8)
    gts[20:40, 20:40] = 1
    for name in "abc":
        np.savez(tmp_path / f"npz/{name}.npz", imgs=np.full((64, 64), 9, np.uint8), gts=gts)
    (tmp_path / "npz/bad.npz").write_bytes(b"PK no zip")
    return tmp_path


def _pack(folder, *more) -> int:
    arguments = ["-npz_dir", f"{folder}/npz", "-o", f"{folder}/shards", "-num_workers", "1", *more]
    return main(["pack", *arguments])


def test_one_bad_case_leaves_the_others_packed(cases, capsys):
    pytest.importorskip("array_record")
    assert _pack(cases) == 1
    said = capsys.readouterr()
    assert "bad.npz: FAILED: it is no intact npz file" in said.err
    assert "left out of slices-00000.array_record" in said.err
    assert "1 shards, 3 slices" in said.out
    entries = read_index(cases / "shards/slices-00000.array_record")
    assert [entry.name for entry in entries] == ["a", "b", "c"]


def test_a_missing_truth_or_fractions_cost_one_case(cases, capsys):
    pytest.importorskip("array_record")
    np.savez(cases / "npz/bad.npz", imgs=np.zeros((9, 9), np.uint8), gts=np.full((9, 9), 0.5))
    assert _pack(cases, "--gts", f"{cases}/gts") == 2  # none of them is there
    capsys.readouterr()
    (cases / "gts").mkdir()
    for name in ("a", "b", "bad"):
        (cases / f"gts/{name}.npz").write_bytes((cases / f"npz/{name}.npz").read_bytes())
    assert _pack(cases, "--gts", f"{cases}/gts") == 1
    said = capsys.readouterr().err
    assert "gts/c.npz: there is no such file" in said and "with fractions" in said
    assert len(read_index(cases / "shards/slices-00000.array_record")) == 2


def test_a_shard_without_any_usable_case_is_not_written(cases, capsys):
    pytest.importorskip("array_record")
    for name in "abc":
        (cases / f"npz/{name}.npz").unlink()
    assert _pack(cases) == 1
    assert not list((cases / "shards").glob("slices*"))


@pytest.mark.parametrize("content", ["{", "[1]\n", '{"name": "a"}\n', "\x00"])
def test_a_shard_with_a_damaged_index_is_packed_again(cases, capsys, content):
    pytest.importorskip("array_record")
    (cases / "npz/bad.npz").unlink()
    assert _pack(cases) == 0
    index = cases / "shards/slices-00000.jsonl"
    good = index.read_text()
    assert _pack(cases) == 0 and "stay" in capsys.readouterr().out
    index.write_text(content)
    assert _pack(cases) == 0 and index.read_text() == good
