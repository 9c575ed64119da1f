"""A folder of cases from files to files: what is written, skipped, refused, and survived."""

import dataclasses
import os
import re
from pathlib import Path

import numpy as np
import pytest

from litemedsam_jax.batch import folder
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.weights.errors import CheckpointError
from tests.support.batches import BOX, BOX_3D, PICTURE, VOLUME, read_npz, run_batch, save_case


@pytest.fixture
def three(options):
    """Three good cases."""
    save_case(options.inputs, "a", imgs=PICTURE, boxes=BOX)
    save_case(options.inputs, "b", imgs=VOLUME, boxes=BOX_3D)
    save_case(options.inputs, "c", imgs=PICTURE[..., 0], boxes=BOX)
    return options


def _rows(options) -> list[str]:
    return (options.outputs / "efficiency.csv").read_text().splitlines()


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_masks_and_times_of_every_case(three, with_fake_engine):
    summary, lines = run_batch(three)
    assert summary.done == ["a.npz", "b.npz", "c.npz"] and not summary.failed
    assert _names(three.outputs) == ["a.npz", "b.npz", "c.npz", "efficiency.csv"]
    header, *rows = _rows(three)
    assert header == "case,time"
    assert [row.split(",")[0] for row in rows] == summary.done
    assert all(float(row.split(",")[1]) >= 0 for row in rows)
    assert len(lines) == 3 and "[2/3] b.npz" in lines[1]
    for name in summary.done:
        (segs,) = read_npz(three.outputs / name).values()
        assert segs.dtype == np.uint8
    assert list(read_npz(three.outputs / "b.npz")) == ["segs"]
    segs = read_npz(three.outputs / "b.npz")["segs"]
    assert segs.shape == VOLUME.shape and segs[2, 40, 40] == 1 and not segs[[0, 5]].any()


def test_times_are_written_as_they_come(three, with_fake_engine, monkeypatch):
    seen = []
    decode = with_fake_engine.decode

    def look(*arguments):
        seen.append(len(_rows(three)) - 1)
        return decode(*arguments)

    monkeypatch.setattr(with_fake_engine, "decode", look)
    run_batch(three)
    assert seen == [0, *[1] * 4, 2]


def test_existing_masks_are_skipped_on_request(three, with_fake_engine):
    run_batch(three)
    (three.outputs / "b.npz").unlink()
    kept = (three.outputs / "a.npz").stat()
    again = dataclasses.replace(three, skip_existing=True)
    summary, _ = run_batch(again)
    assert summary.done == ["b.npz"] and summary.skipped == ["a.npz", "c.npz"]
    assert (three.outputs / "a.npz").stat() == kept
    assert [row.split(",")[0] for row in _rows(three)] == [
        "case", "a.npz", "b.npz", "c.npz", "b.npz"
    ]  # fmt: skip


def test_existing_masks_are_replaced_otherwise(three, with_fake_engine):
    three.outputs.mkdir()
    save_case(three.outputs, "a", segs=np.full((2, 2), 9))
    run_batch(three)
    assert read_npz(three.outputs / "a.npz")["segs"].shape == (256, 256)
    run_batch(three)
    assert len(_rows(three)) == 4  # a new table


def test_a_table_whose_header_was_lost_gets_one(three, with_fake_engine):
    three.outputs.mkdir()
    (three.outputs / "efficiency.csv").touch()  # a run killed as it began
    run_batch(dataclasses.replace(three, skip_existing=True))
    assert _rows(three)[0] == "case,time" and len(_rows(three)) == 4


def test_bad_cases_do_not_take_the_rest_down(three, with_fake_engine):
    (three.inputs / "0.npz").write_bytes(b"")
    (three.inputs / "b.npz").write_bytes(b"no zip")
    (three.inputs / "folder.npz").mkdir()
    save_case(three.inputs, "z", imgs=PICTURE)
    summary, lines = run_batch(three)
    assert summary.done == ["a.npz", "c.npz"]
    assert sorted(summary.failed) == ["0.npz", "b.npz", "folder.npz", "z.npz"]
    assert "no array 'boxes'" in summary.failed["z.npz"]
    assert len(lines) == 6
    assert any(line.startswith("[1/6] 0.npz: FAILED: it is empty (0 bytes)") for line in lines)
    assert _names(three.outputs) == ["a.npz", "c.npz", "efficiency.csv"]


def test_a_table_that_cannot_grow_costs_no_mask(three, with_fake_engine, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder.TimeTable, "add", full)
    summary, _ = run_batch(three)
    assert len(summary.done) == 3 and list(summary.failed) == ["efficiency.csv"]


def test_of_runs_that_start_together_one_begins_the_table(tmp_path):
    path = tmp_path / "efficiency.csv"
    first = folder.TimeTable(path, keep=True)
    first.add("a.npz", 1)
    folder.TimeTable(path, keep=True).add("b.npz", 2)
    assert path.read_text().splitlines() == ["case,time", "a.npz,1.0000", "b.npz,2.0000"]
    path.write_bytes(b"")  # killed before the first line
    folder.TimeTable(path, keep=True)
    assert path.read_text() == "case,time\n"


def test_what_a_kill_left_is_removed_from_the_folders_of_results(three, with_fake_engine):
    three = dataclasses.replace(three, overlays=three.outputs / "png")
    left = ".0123abcd.1.tmp.a.npz"
    three.overlays.mkdir(parents=True)
    for directory in (three.inputs, three.outputs, three.overlays):
        (directory / left).write_bytes(b"half")
        os.utime(directory / left, (0, 0))
    run_batch(three)
    assert (three.inputs / left).exists()  # not ours to clean
    assert not (three.outputs / left).exists() and not (three.overlays / left).exists()


def test_cases_in_a_subfolder_are_named(options):
    deep = options.inputs / "patient" / "study" / "imgs"
    deep.mkdir(parents=True)
    save_case(deep, "a", imgs=PICTURE, boxes=BOX)
    with pytest.raises(CaseError, match=f"{re.escape(str(deep))} holds some: give that folder"):
        run_batch(options)


def test_a_series_in_a_subfolder_is_named(options):
    deep = options.inputs / "patient" / "study" / "series"
    deep.mkdir(parents=True)
    (deep / "IM1").write_bytes(bytes(128) + b"DICM" + bytes(200))
    advice = re.escape(f"DICOM series: give its folder, {deep.parent}")
    with pytest.raises(CaseError, match=f"{advice}$"):
        run_batch(options)


def test_folders_that_cannot_be_used(options):
    with pytest.raises(CaseError, match="no such folder"):
        run_batch(dataclasses.replace(options, inputs=options.inputs / "missing"))
    with pytest.raises(CaseError, match="there are no cases in it; expected npz"):
        run_batch(options)
    (options.inputs / ".hidden.npz").write_bytes(b"macOS leaves such files")
    (options.inputs / "notes.txt").write_text("no case")
    with pytest.raises(CaseError, match="there are no cases"):
        run_batch(options)
    save_case(options.inputs, "a", imgs=PICTURE, boxes=BOX)
    before = (options.inputs / "a.npz").read_bytes()
    with pytest.raises(CaseError, match="would replace the cases"):
        run_batch(dataclasses.replace(options, outputs=options.inputs / ".." / "imgs"))
    assert (options.inputs / "a.npz").read_bytes() == before


def test_weights_that_cannot_be_used_end_the_run(three):
    three.weights.write_bytes(b"these are no weights")
    with pytest.raises(CheckpointError, match="neither safetensors nor a PyTorch checkpoint"):
        run_batch(three)


# `--shard I/N`: every case done once, whatever runs beside or again


@pytest.fixture
def five(options):
    for name in "abcde":
        save_case(options.inputs, name, imgs=PICTURE, boxes=BOX)
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
