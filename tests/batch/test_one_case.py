"""One case from file to file: prompts, outputs, overlays, faults in a sentence."""

import dataclasses
import time

import numpy as np
import pytest

from litemedsam_jax.batch.one_case import CaseResult, Segmenter
from litemedsam_jax.drawing import animation
from litemedsam_jax.weights.errors import CheckpointError
from tests.support.batches import BOX, BOX_3D, PICTURE, VOLUME, read_npz, save_case


def _run(options, name: str = "a") -> CaseResult:
    return Segmenter(options).run(options.inputs / f"{name}.npz")


class Counts:
    """What a segmenter reports of its slices."""

    def __init__(self):
        self.begun, self.done = [], 0

    def begin(self, total: int, label: str = "") -> None:
        self.begun.append((total, label))

    def advance(self, count: int = 1) -> None:
        self.done += count


def test_slices_of_volumes_are_counted(options, with_fake_engine):
    boxes = [[20, 30, 1, 60, 80, 4], [5, 5, 3, 9, 9, 5]]  # slices 1 to 5, two of them twice
    save_case(options.inputs, "a", imgs=VOLUME, boxes=boxes)
    save_case(options.inputs, "b", imgs=PICTURE, boxes=BOX)
    counts = Counts()
    segmenter = Segmenter(options, counts)
    for name in "ab":
        assert segmenter.run(options.inputs / f"{name}.npz").error is None
    assert (counts.begun, counts.done) == ([(5, "a")], 5)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "not enough memory"),
        (ZeroDivisionError("1/0"), "unexpected ZeroDivisionError, a bug to report: 1/0"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_whatever_one_case_meets_the_next_one_runs(
    options, with_fake_engine, monkeypatch, error, words
):
    encode, calls = with_fake_engine.encode, []

    def fail_first(image):
        calls.append(image)
        if len(calls) == 1:
            raise error
        return encode(image)

    monkeypatch.setattr(with_fake_engine, "encode", fail_first)
    save_case(options.inputs, "a", imgs=PICTURE, boxes=BOX)
    segmenter = Segmenter(options)
    assert words in segmenter.run(options.inputs / "a.npz").error
    assert segmenter.run(options.inputs / "a.npz").error is None


def test_a_failed_write_leaves_no_half_file_and_the_old_one(options, with_fake_engine, monkeypatch):
    save_case(options.inputs, "a", imgs=PICTURE, boxes=BOX)
    _run(options)
    before = (options.outputs / "a.npz").read_bytes()

    def fill_disk(stream, **_):
        stream.write(b"PK half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fill_disk)
    assert "No space left" in _run(options).error
    assert [path.name for path in options.outputs.iterdir()] == ["a.npz"]
    assert (options.outputs / "a.npz").read_bytes() == before


def test_overlays_only_on_request_and_outside_the_time(options, with_fake_engine, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    decode, draw = with_fake_engine.decode, animation.write_case

    def slow_decode(*arguments):
        clock[0] += 1
        return decode(*arguments)

    def slow_draw(*arguments, **more):
        clock[0] += 100
        draw(*arguments, **more)

    monkeypatch.setattr(with_fake_engine, "decode", slow_decode)
    monkeypatch.setattr(animation, "write_case", slow_draw)
    save_case(options.inputs, "a", imgs=VOLUME, boxes=BOX_3D)
    assert _run(options).seconds == clock[0] == 4
    assert not list(options.outputs.parent.rglob("*.png"))
    drawn = dataclasses.replace(options, overlays=options.outputs / "png")
    assert _run(drawn).seconds == 4
    assert clock[0] == 108
    assert [path.name for path in drawn.overlays.iterdir()] == ["a.png"]


def test_what_was_corrected_is_a_warning(options, with_fake_engine):
    save_case(options.inputs, "a", imgs=PICTURE, boxes=[[60, 80, 20, 999]])
    result = _run(options)
    assert result.error is None and result.warnings[0].startswith("1 of 1 boxes")


# Prompts from ground truth

LABELS = np.zeros((256, 256), np.uint8)
LABELS[30:80, 20:60] = 7
LABELS[100:256, 200:256] = 200


def test_labels_prompt_for_themselves_in_a_picture(options, with_fake_engine):
    save_case(options.inputs, "a", imgs=PICTURE, gts=LABELS, boxes=BOX)
    _run(dataclasses.replace(options, prompts="gt"))
    (call,) = with_fake_engine.calls
    np.testing.assert_array_equal(call[1], [[15, 25, 64, 84], [195, 95, 256, 256]])
    output = read_npz(options.outputs / "a.npz")
    assert sorted(output) == ["gts", "segs"]
    np.testing.assert_array_equal(output["gts"], LABELS)
    assert set(np.unique(output["segs"])) == {0, 7, 200}  # labels, not numbers of boxes


def test_every_slice_of_a_volume_for_itself(options, with_fake_engine):
    gts = np.stack([LABELS * 0, LABELS, (LABELS == 7) * np.uint8(3), LABELS * 0, LABELS, LABELS])
    save_case(options.inputs, "a", imgs=VOLUME, gts=gts, spacing=[0.5, 0.6, 2])
    _run(dataclasses.replace(options, prompts="gt", box_shift=2))
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
    save_case(options.inputs, "a", imgs=PICTURE, gts=gts)
    _run(dataclasses.replace(options, prompts="gt"))
    assert set(np.unique(read_npz(options.outputs / "a.npz")["segs"])) == {4, 9}


def test_ground_truth_of_another_size_is_resized(options, with_fake_engine):
    save_case(options.inputs, "a", imgs=PICTURE, gts=LABELS[::2, ::2])
    _run(dataclasses.replace(options, prompts="gt"))
    np.testing.assert_array_equal(with_fake_engine.calls[0][1][0], [15, 25, 64, 84])
    assert read_npz(options.outputs / "a.npz")["segs"].shape == (256, 256)


def test_the_higher_label_wins_as_in_the_reference(options, with_fake_engine):
    gts = np.zeros((256, 256), np.uint8)
    gts[50:100, 50:100], gts[60:70, 60:70] = 5, 2
    save_case(options.inputs, "a", imgs=PICTURE, gts=gts)
    _run(dataclasses.replace(options, prompts="gt"))
    assert read_npz(options.outputs / "a.npz")["segs"][65, 65] == 5


def test_weights_that_cannot_be_used_end_the_run_whatever_the_case_has(
    options, with_fake_engine, monkeypatch
):
    """They are checked while the case is read, which may fail first."""

    def wait() -> None:
        raise CheckpointError("changed values")

    monkeypatch.setattr(with_fake_engine, "wait", wait)
    (options.inputs / "a.npz").write_bytes(b"no case")
    with pytest.raises(CheckpointError, match="changed values"):
        _run(options)
