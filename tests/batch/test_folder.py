"""A folder of cases from files to files: what is written, skipped, refused, and survived."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from litemedsam_jax.batch import folder, one_case
from litemedsam_jax.imaging import case
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.weights.errors import CheckpointError
from tests.support.batches import read_npz, run_batch

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (256, 256, 3), np.uint8)
VOLUME = RNG.integers(0, 256, (6, 256, 256), np.uint8)
BOX = np.array([[20, 30, 60, 80]])
BOX_3D = np.array([[20, 30, 1, 60, 80, 4]])


def _save(folder: Path, name: str, **arrays: np.ndarray) -> None:
    np.savez_compressed(folder / f"{name}.npz", **arrays)


@pytest.fixture
def three(options):
    """Three good cases."""
    _save(options.inputs, "a", imgs=PICTURE, boxes=BOX)
    _save(options.inputs, "b", imgs=VOLUME, boxes=BOX_3D)
    _save(options.inputs, "c", imgs=PICTURE[..., 0], boxes=BOX)
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
    _save(three.outputs, "a", segs=np.full((2, 2), 9))
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
    _save(three.inputs, "z", imgs=PICTURE)
    summary, lines = run_batch(three)
    assert summary.done == ["a.npz", "c.npz"]
    assert sorted(summary.failed) == ["0.npz", "b.npz", "folder.npz", "z.npz"]
    assert "no array 'boxes'" in summary.failed["z.npz"]
    assert len(lines) == 6
    assert any(line.startswith("[1/6] 0.npz: FAILED: it is empty (0 bytes)") for line in lines)
    assert _names(three.outputs) == ["a.npz", "c.npz", "efficiency.csv"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "not enough memory"),
        (ZeroDivisionError("1/0"), "unexpected ZeroDivisionError, a bug to report: 1/0"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_whatever_one_case_meets_the_others_run(three, with_fake_engine, monkeypatch, error, words):
    encode, calls = with_fake_engine.encode, []

    def fail_first(image):
        calls.append(image)
        if len(calls) == 1:
            raise error
        return encode(image)

    monkeypatch.setattr(with_fake_engine, "encode", fail_first)
    summary, _ = run_batch(three)
    assert words in summary.failed["a.npz"] and summary.done == ["b.npz", "c.npz"]


def test_a_failed_write_leaves_no_half_file_and_the_old_one(three, with_fake_engine, monkeypatch):
    run_batch(three)
    before = (three.outputs / "a.npz").read_bytes()

    def fill_disk(stream, **_):
        stream.write(b"PK half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(case.np, "savez_compressed", fill_disk)
    summary, _ = run_batch(three)
    assert len(summary.failed) == 3 and "No space left" in summary.failed["a.npz"]
    assert _names(three.outputs) == ["a.npz", "b.npz", "c.npz", "efficiency.csv"]
    assert (three.outputs / "a.npz").read_bytes() == before


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


def test_pictures_only_on_request_and_outside_the_time(three, with_fake_engine, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(one_case.time, "perf_counter", lambda: clock[0])
    decode, draw = with_fake_engine.decode, one_case._write_overlay

    def slow_decode(*arguments):
        clock[0] += 1
        return decode(*arguments)

    def slow_draw(*arguments):
        clock[0] += 100
        draw(*arguments)

    monkeypatch.setattr(with_fake_engine, "decode", slow_decode)
    monkeypatch.setattr(one_case, "_write_overlay", slow_draw)
    run_batch(three)
    assert clock[0] == 6 and not list(three.outputs.parent.rglob("*.png"))
    run_batch(dataclasses.replace(three, overlays=three.outputs / "png"))
    assert _names(three.outputs / "png") == ["a.png", "b.png", "c.png"]
    assert [float(row.split(",")[1]) for row in _rows(three)[1:]] == [1, 4, 1]


def test_warnings_are_told(options, with_fake_engine):
    _save(options.inputs, "a", imgs=PICTURE, boxes=[[60, 80, 20, 999]])
    summary, lines = run_batch(options)
    assert summary.done == ["a.npz"]
    assert lines[0].startswith("[1/1] a.npz: warning: 1 of 1 boxes")


def test_folders_that_cannot_be_used(options):
    with pytest.raises(CaseError, match="no such folder"):
        run_batch(dataclasses.replace(options, inputs=options.inputs / "missing"))
    with pytest.raises(CaseError, match="there are no cases in it; expected npz"):
        run_batch(options)
    (options.inputs / ".hidden.npz").write_bytes(b"macOS leaves such files")
    (options.inputs / "notes.txt").write_text("no case")
    with pytest.raises(CaseError, match="there are no cases"):
        run_batch(options)
    _save(options.inputs, "a", imgs=PICTURE, boxes=BOX)
    before = (options.inputs / "a.npz").read_bytes()
    with pytest.raises(CaseError, match="would replace the cases"):
        run_batch(dataclasses.replace(options, outputs=options.inputs / ".." / "imgs"))
    assert (options.inputs / "a.npz").read_bytes() == before


def test_weights_that_cannot_be_used_end_the_run(three):
    three.weights.write_bytes(b"these are no weights")
    with pytest.raises(CheckpointError, match="neither safetensors nor a PyTorch checkpoint"):
        run_batch(three)


# Prompts from ground truth

LABELS = np.zeros((256, 256), np.uint8)
LABELS[30:80, 20:60] = 7
LABELS[100:256, 200:256] = 200


def test_labels_prompt_for_themselves_in_a_picture(options, with_fake_engine):
    _save(options.inputs, "a", imgs=PICTURE, gts=LABELS, boxes=BOX)
    run_batch(dataclasses.replace(options, prompts="gt"))
    (call,) = with_fake_engine.calls
    np.testing.assert_array_equal(call[1], [[15, 25, 64, 84], [195, 95, 256, 256]])
    output = read_npz(options.outputs / "a.npz")
    assert sorted(output) == ["gts", "segs"]
    np.testing.assert_array_equal(output["gts"], LABELS)
    assert set(np.unique(output["segs"])) == {0, 7, 200}  # labels, not numbers of boxes


def test_every_slice_of_a_volume_for_itself(options, with_fake_engine):
    gts = np.stack([LABELS * 0, LABELS, (LABELS == 7) * np.uint8(3), LABELS * 0, LABELS, LABELS])
    _save(options.inputs, "a", imgs=VOLUME, gts=gts, spacing=[0.5, 0.6, 2])
    run_batch(dataclasses.replace(options, prompts="gt", box_shift=2))
    assert [boxes.tolist() for _, boxes in with_fake_engine.calls[:2]] == [
        [[18, 28, 61, 81], [198, 98, 256, 256]],
        [[18, 28, 61, 81]],
    ]
    assert len(with_fake_engine.images) == 4  # slices without a label are not encoded
    output = read_npz(options.outputs / "a.npz")
    assert sorted(output) == ["gts", "segs", "spacing"]
    assert output["spacing"].tolist() == [0.5, 0.6, 2]
    assert [set(np.unique(z)) for z in output["segs"][:3]] == [{0}, {0, 7, 200}, {0, 3}]


def test_no_label_is_lost_where_there_is_no_background(options, with_fake_engine):
    gts = np.full((256, 256), 4, np.uint8)
    gts[100:] = 9
    _save(options.inputs, "a", imgs=PICTURE, gts=gts)
    run_batch(dataclasses.replace(options, prompts="gt"))
    assert set(np.unique(read_npz(options.outputs / "a.npz")["segs"])) == {4, 9}


def test_ground_truth_of_another_size_is_resized(options, with_fake_engine):
    _save(options.inputs, "a", imgs=PICTURE, gts=LABELS[::2, ::2])
    run_batch(dataclasses.replace(options, prompts="gt"))
    np.testing.assert_array_equal(with_fake_engine.calls[0][1][0], [15, 25, 64, 84])
    assert read_npz(options.outputs / "a.npz")["segs"].shape == (256, 256)


def test_the_higher_label_wins_as_in_the_reference(options, with_fake_engine):
    gts = np.zeros((256, 256), np.uint8)
    gts[50:100, 50:100], gts[60:70, 60:70] = 5, 2
    _save(options.inputs, "a", imgs=PICTURE, gts=gts)
    run_batch(dataclasses.replace(options, prompts="gt"))
    assert read_npz(options.outputs / "a.npz")["segs"][65, 65] == 5
