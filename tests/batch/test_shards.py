"""`--shard I/N`: every case done once, whatever runs beside or again."""

import dataclasses

import numpy as np
import pytest

from litemedsam_jax import cli
from tests.support.batches import run_batch

PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.fixture
def five(options):
    for name in "abcde":
        np.savez(options.inputs / f"{name}.npz", imgs=PICTURE, boxes=[[5, 6, 40, 50]])
    return options


@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_shards_share_out_the_cases(five, with_fake_engine, count):
    done = []
    for index in reversed(range(count)):
        summary, _ = run_batch(dataclasses.replace(five, shard=(index, count)))
        table = five.outputs / f"efficiency_{index}_of_{count}.csv"
        assert [row.split(",")[0] for row in table.read_text().splitlines()[1:]] == summary.done
        assert len(summary.done) in (5 // count, 5 // count + 1)  # none does much more than another
        done += summary.done
    assert sorted(done) == [f"{name}.npz" for name in "abcde"]


def test_what_others_have_written_does_not_move_cases(five, with_fake_engine):
    first, _ = run_batch(dataclasses.replace(five, shard=(0, 2)))
    (five.outputs / "c.npz").unlink()
    again = dataclasses.replace(five, shard=(0, 2), skip_existing=True)
    assert run_batch(again)[0].done == ["c.npz"]
    other, _ = run_batch(dataclasses.replace(again, shard=(1, 2)))
    assert (first.done, other.done) == (["a.npz", "c.npz", "e.npz"], ["b.npz", "d.npz"])


def test_on_the_command_line(five, with_fake_engine, capsys):
    folders = ["-i", str(five.inputs), "-o", str(five.outputs)]
    assert cli.main([*folders, "--shard", "1/2"], command="segment") == 0
    assert "2 segmented" in capsys.readouterr().out
    assert not (five.outputs / "a.npz").exists()


@pytest.mark.parametrize(
    "text", ["2/2", "-1/2", "0/0", "1", "a/b", "1/", "/2", "1/2/3", "0x1/4", ""]
)
def test_a_wrong_shard_is_told(five, capsys, text):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["-i", "x", "-o", "y", f"--shard={text}"], command="segment")
    assert "expected I/N with I from 0 to N-1" in capsys.readouterr().err
