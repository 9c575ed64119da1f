"""Propagation as the page shows it, with the published weights."""

import json

import numpy as np
import pytest

from litemedsam_jax.imaging.npz import write_npz


@pytest.fixture
def rod(tmp_path):
    """A volume of 40 slices with one long object, which takes a while to propagate."""
    rows, columns = np.mgrid[:96, :96]
    rod = np.where(np.hypot(rows - 40, columns - 50) < 14, 200, 60).astype(np.uint8)
    rod = rod + np.random.default_rng(0).integers(0, 12, (96, 96), np.uint8)
    write_npz(tmp_path / "rod.npz", imgs=np.repeat(rod[None], 40, axis=0))
    return tmp_path / "rod.npz"


@pytest.fixture
def short_rod(rod):
    """Its first eight slices."""
    with np.load(rod) as whole:
        write_npz(rod.with_name("short.npz"), imgs=whole["imgs"][:8])
    return rod.with_name("short.npz")


def test_propagation_fills_the_volume_and_can_be_stopped(open_page, rod, tmp_path):
    page = open_page(rod)
    page.wait_for_model()
    page.draw_box([36, 26, 64, 54])
    page.key("g")
    page.wait(lambda: (page.store("propagating") or {"done": 0})["done"] >= 2, "two slices")
    page.key("escape")
    page.wait(lambda: page.store("propagating") is None, "the end")
    layer = page.store("layers")[0]
    assert layer["kind"] == "propagation" and 2 <= layer["last"] - layer["first"] < 39
    assert "Stopped" in page.text("#message")
    page.key("Control+z")
    page.wait(lambda: page.store("layers")[0]["kind"] == "box", "undo")
    page.key("v")  # three planes; the range is drawn in another one
    page.wait_for_slice()
    page.drag(page.at(30, 16.5, axis=1), page.at(70, 23.5, axis=1))
    page.wait(lambda: page.store("ranges"), "a range")
    assert page.store("ranges") == {"1": [16, 23]}
    page.key("g")
    page.wait(lambda: page.store("propagating") is not None, "propagation")
    page.wait(lambda: page.store("propagating") is None, "the end")
    page.key("Control+s")
    page.wait(lambda: page.text("#message").startswith("saved"), "saving")
    with np.load(tmp_path / "out" / "rod.npz") as saved, np.load(rod) as source:
        segs, bright = saved["segs"], source["imgs"][0] > 99
    assert np.flatnonzero(segs.any(axis=(1, 2))).tolist() == list(range(16, 24))
    assert 2 * (segs[16:24] & bright).sum() / (segs.sum() + 8 * bright.sum()) > 0.9
    boxes = json.loads((tmp_path / "out" / "rod.boxes.json").read_text())
    assert boxes["boxes"] == [[36, 26, 16, 64, 54, 23]]


def test_work_goes_on_while_a_mask_is_propagated(open_page, rod):
    page = open_page(rod)
    page.wait_for_model()
    page.draw_box([36, 26, 64, 54])
    page.key("g")
    page.wait(lambda: page.store("propagating"), "propagation")
    page.add_label("second")
    page.key("home", "d")
    page.wait_for_slice()
    page.drag(page.at(20.5, 80.5), page.at(40.5, 80.5))
    page.wait(lambda: len(page.store("layers")) == 2, "the stroke")
    running = page.store("propagating")
    page.key("Control+z")
    page.wait(lambda: len(page.store("layers")) == 1, "its undo")
    page.key("Control+y")
    page.wait(lambda: len(page.store("layers")) == 2, "its redo")
    assert running is not None and running["label"] == 1
    page.key("escape")
    page.wait(lambda: page.store("propagating") is None, "the end")
    stroke = page.shown_labels() == 2
    assert stroke.any() and page.store("layers")[0]["kind"] == "propagation"
    page.key(*["Control+z"] * 4)  # the stroke, the label's name, the label, the propagation
    page.wait(lambda: [layer["kind"] for layer in page.store("layers")] == ["box"], "undo")


def test_a_killed_propagation_leaves_nothing_unsure(open_page, rod):
    page = open_page(rod)
    page.wait_for_model()
    page.draw_box([36, 26, 64, 54])
    page.key("g")
    page.wait(lambda: (page.store("propagating") or {"done": 0})["done"] >= 2, "two slices")
    page.server.kill()
    page = open_page(rod)
    (layer,) = page.store("layers")
    assert layer["first"] == layer["last"] == layer["slice"]
    page.key("Control+z")
    page.wait(lambda: page.store("layers")[0]["kind"] == "box", "undo")


def test_a_second_box_of_the_object_leads_the_mask(open_page, short_rod):
    page = open_page(short_rod)
    page.wait_for_model()
    page.key("home")
    page.wait(lambda: page.store("position")[2] == 0, "the first slice")
    page.wait_for_slice()
    page.draw_box([36, 26, 64, 54])
    page.key(*["page_up"] * 4)
    page.wait(lambda: page.store("position")[2] == 4, "the slice")
    page.wait_for_slice()
    page.draw_box([35, 25, 65, 55])
    page.key("g")
    page.wait(lambda: page.store("propagating") is not None, "propagation")
    page.wait(lambda: page.store("propagating") is None, "the end")
    assert "Led by the box on slice 1." in page.text("#message")
    kinds = {layer["slice"]: layer["kind"] for layer in page.store("layers")}
    assert kinds == {0: "box", 4: "propagation"}
    page.key(*["page_down"] * 2)  # between the two
    page.wait(lambda: page.store("position")[2] == 2, "the slice")
    page.wait_for_slice()
    rows, columns = np.nonzero(page.shown_labels())
    assert abs(rows.mean() - 40) < 2 and abs(columns.mean() - 50) < 2
