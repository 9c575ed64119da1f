"""The page in a real browser, with the published weights."""

import json
import subprocess
import sys

import numpy as np
import pytest

from litemedsam_jax.imaging.npz import write_npz
from tests.conftest import REPOSITORY
from tests.support.browser import Page

DEMO = REPOSITORY / "demo" / "imgs"
FUNDUS, BRAIN = DEMO / "2DBox_Fundus_retina.npz", DEMO / "3DBox_MR_brain1_tumor.npz"


def infer(folder, weights, *options) -> None:
    command = [sys.executable, "infer.py", "-i", folder / "imgs", "-o", folder / "segs"]
    command += ["--weights", weights, *options]
    subprocess.run(list(map(str, command)), cwd=REPOSITORY, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("case", "slice_", "box", "strategy"),
    [
        (FUNDUS, 0, [180, 230, 330, 430], "reference"),
        (BRAIN, 12, [185, 150, 212, 176], "reference"),
        (BRAIN, 12, [185, 150, 212, 176], "best"),
    ],
    ids=["image", "volume", "best"],
)
def test_a_box_is_dragged_and_its_mask_saved(
    case, slice_, box, strategy, open_page, tmp_path, weights_file
):
    page = open_page(case, options=("--strategy", strategy))
    page.wait_for_model()
    assert page.store("position")[2] == slice_
    page.draw_box(box)
    page.key("Control+s")
    page.wait(lambda: page.text("#message").startswith("saved"), "saving")

    with np.load(tmp_path / "out" / case.name) as saved, np.load(case) as source:
        segs, imgs = saved["segs"], source["imgs"]
    z = [slice_, slice_]
    row = box if segs.ndim == 2 else [*box[:2], z[0], *box[2:], z[1]]
    (tmp_path / "imgs").mkdir()
    write_npz(tmp_path / "imgs" / case.name, imgs=imgs, boxes=np.array([row]))
    infer(tmp_path, weights_file, "--strategy", strategy)
    with np.load(tmp_path / "segs" / case.name) as expected:
        assert expected["segs"].any()
        np.testing.assert_array_equal(segs, expected["segs"])

    boxes = json.loads((tmp_path / "out" / f"{case.stem}.boxes.json").read_text())
    assert boxes["boxes"] == [row] and boxes["labels"] == [1]


def test_the_mask_follows_while_the_box_is_dragged_and_only_then(open_page):
    page = open_page(FUNDUS)
    page.wait_for_model()
    covered = "return litemedsam.panes()[0].labels.tried"
    page.draw_box([180, 230, 330, 430], release=False)
    page.wait(lambda: page.script(covered), "a mask at the mouse")
    assert page.store("layers") == []
    page.key("escape")
    page.wait(lambda: page.script(covered) is None, "the mask to go")
    page.mouse("mouseReleased", *page.at(330, 430), button="left", clickCount=1)
    assert page.store("layers") == [] and not page.store("canUndo")


def test_nothing_is_lost_when_the_server_is_killed(open_page):
    page = open_page(FUNDUS)
    page.wait_for_model()
    page.draw_box([180, 230, 330, 430])
    page.draw_box([400, 400, 450, 460])
    page.key("Control+z")
    page.wait(lambda: len(page.store("layers")) == 1, "undo")
    before = page.shown_labels()
    page.server.kill()
    page = open_page(FUNDUS)
    assert before.any()
    np.testing.assert_array_equal(page.shown_labels(), before)
    assert page.store("canUndo") and page.store("canRedo")
    page.key("Control+y")
    page.wait(lambda: len(page.store("layers")) == 2, "redo")


def test_undo_to_the_start_and_redo_to_the_end(open_page):
    page = open_page(BRAIN)
    page.wait_for_model()
    shown = [page.shown_labels()]
    page.draw_box([185, 150, 212, 176])
    shown.append(page.shown_labels())
    page.add_label("second")
    page.key("d")
    page.drag(page.at(120, 100), page.at(150, 120))
    page.wait(lambda: len(page.store("layers")) == 2, "the stroke")
    shown.append(page.shown_labels())
    page.key("e")
    page.drag(page.at(150, 110), page.at(150, 130))
    page.wait(lambda: len(page.store("layers")) == 3, "the eraser")
    shown.append(page.shown_labels())
    assert [sorted(np.unique(labels)) for labels in shown] == [[0], [0, 1], [0, 1, 2], [0, 1, 2]]
    assert (shown[3] == 2).sum() < (shown[2] == 2).sum()
    while page.store("canUndo"):
        revision = page.store("revision")
        page.key("Control+z")
        page.wait(lambda old=revision: page.store("revision") > old, "undo")
    assert not page.shown_labels().any()
    while page.store("canRedo"):
        revision = page.store("revision")
        page.key("Control+Shift+z")
        page.wait(lambda old=revision: page.store("revision") > old, "redo")
    np.testing.assert_array_equal(page.shown_labels(), shown[3])


def test_what_is_painted_is_kept_to_the_pixel_and_spares_locked_labels(open_page):
    page = open_page(BRAIN)
    page.key("d")
    page.drag(page.at(120.5, 100.5), page.at(140.5, 100.5))
    page.wait(lambda: len(page.store("layers")) == 1, "the stroke")
    first = page.shown_labels()
    page.key("l")
    page.wait(lambda: page.store("labels")[0]["locked"], "the lock")
    page.add_label("second")
    tried = "return Array.from(litemedsam.panes()[0].labels.shown)"
    page.drag(page.at(130.5, 90.5), page.at(130.5, 110.5), release=False)
    before = np.array(page.script(tried)).reshape(first.shape)
    page.mouse("mouseReleased", *page.at(130.5, 110.5), button="left", clickCount=1)
    page.wait(lambda: len(page.store("layers")) == 2, "the second stroke")
    after = page.shown_labels()
    np.testing.assert_array_equal(after, before)
    assert (after[first == 1] == 1).all() and (after == 2).any()


@pytest.fixture
def rod(tmp_path):
    """A volume of 40 slices with one long object, which takes a while to propagate."""
    rows, columns = np.mgrid[:96, :96]
    rod = np.where(np.hypot(rows - 40, columns - 50) < 14, 200, 60).astype(np.uint8)
    rod = rod + np.random.default_rng(0).integers(0, 12, (96, 96), np.uint8)
    write_npz(tmp_path / "rod.npz", imgs=np.repeat(rod[None], 40, axis=0))
    return tmp_path / "rod.npz"


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


def test_the_threshold_takes_the_mask_in(open_page):
    page = open_page(FUNDUS)
    page.wait_for_model()
    page.draw_box([180, 230, 330, 430])
    before = page.shown_labels()
    page.script(
        "const slider = document.querySelector('#box-controls input'); slider.value = 2;"
        "slider.dispatchEvent(new Event('input')); slider.dispatchEvent(new Event('change'))"
    )
    page.wait(lambda: page.store("layers")[0]["threshold"] == 2, "the threshold")
    after = page.shown_labels()
    assert 0 < after.sum() < before.sum() and (before[after > 0] == 1).all()


def test_two_pages_show_the_same(open_page, browser):
    page = open_page(FUNDUS)
    page.wait_for_model()
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    try:
        other = Page(browser, page.server)
        second = browser.current_window_handle
        browser.switch_to.window(first)
        page.draw_box([180, 230, 330, 430])
        expected = page.shown_labels()
        browser.switch_to.window(second)
        other.wait(lambda: len(other.store("layers")) == 1, "the other page's box")
        np.testing.assert_array_equal(other.shown_labels(), expected)
        other.key("Control+z")
        browser.switch_to.window(first)
        page.wait(lambda: page.store("layers") == [], "the other page's undo")
        assert expected.any() and not page.shown_labels().any()
        browser.switch_to.window(second)
        assert other.errors() == []
        browser.close()
    finally:
        browser.switch_to.window(first)


def test_a_large_picture_is_shown_and_masked_at_full_resolution(open_page, tmp_path):
    import cv2

    rng = np.random.default_rng(0)
    image = rng.integers(90, 110, (3000, 4000, 3), np.uint8)
    cv2.circle(image, (2600, 1200), 330, (220, 210, 200), -1)
    image[1200, 2600] = (1, 2, 3)
    cv2.imwrite(str(tmp_path / "large.png"), image)
    page = open_page(tmp_path / "large.png")
    page.wait_for_model()
    page.mouse("mouseMoved", *page.at(2600.5, 1200.5))
    page.draw_box([2250, 850, 2950, 1550])
    labels = page.shown_labels(step=10)
    assert labels.shape == (300, 400)
    rows, columns = np.mgrid[:3000:10, :4000:10]
    circle = np.hypot(rows - 1200, columns - 2600) <= 330
    both = (labels > 0) & circle
    assert 2 * both.sum() / ((labels > 0).sum() + circle.sum()) > 0.95
    corner = page.script(
        "const p = litemedsam.panes()[0];"
        "return Array.from(p.image.getContext('2d').getImageData(2600, 1200, 1, 1).data)"
    )
    assert corner == [3, 2, 1, 255]


def test_all_can_be_done_without_a_mouse(open_page, tmp_path):
    page = open_page(BRAIN)
    page.wait_for_model()
    page.key("page_up")
    page.wait_for_slice()
    page.key("enter")
    page.wait(lambda: len(page.store("layers")) == 1, "a box")
    start = page.store("layers")[0]
    assert start["slice"] == 13 and page.store("selected") == start["number"]
    page.key("right", "right", "down", "Shift+right", "Control+down")
    moved = [start["box"][0] + 12, start["box"][1] + 1, start["box"][2] + 12, start["box"][3] + 2]
    page.wait(lambda: page.store("layers")[0]["box"] == moved, "the box to move")
    page.add_label("new")
    page.key("enter")
    page.wait(lambda: len(page.store("layers")) == 2, "a second box")
    assert page.store("labels")[1]["name"] == "new" and page.store("layers")[1]["label"] == 2
    page.key("tab", "delete")
    page.wait(lambda: len(page.store("layers")) == 1, "the box to go")
    page.key("Control+s")
    page.wait(lambda: page.text("#message").startswith("saved"), "saving")
    names = json.loads((tmp_path / "out" / f"{BRAIN.stem}.labels.json").read_text())
    assert [label["name"] for label in names] == ["label 1", "new"]
    page.key("?")
    page.wait(lambda: page.script("return document.getElementById('help').open"), "the keys")
    page.key("escape")


def test_names_are_text_whatever_they_hold(open_page, tmp_path):
    name = "<img src=x onerror=alert(1)>.npz"
    write_npz(
        tmp_path / name, imgs=np.arange(2000, dtype=np.int64).reshape(40, 50).astype(np.uint8)
    )
    page = open_page(tmp_path / name)
    assert page.text("#case-list .name") == name
    page.add_label("<b>x")
    assert page.script("return document.querySelectorAll('img, b').length") == 0


def test_review_without_a_model_or_the_right_to_write(open_page, tmp_path):
    options = ("--read-only", "--weights", tmp_path / "none.safetensors")
    page = open_page(BRAIN, options=options)
    page.wait(lambda: "no model" in page.text("#model"), "the model's state")
    page.click("#model")
    assert "litemedsam weights" in page.text("#message")
    assert page.script("return document.querySelector('[data-tool=brush]').disabled")
    page.drag(page.at(100, 100), page.at(150, 150))
    assert page.store("layers") == []
    assert not (tmp_path / "out").exists()
