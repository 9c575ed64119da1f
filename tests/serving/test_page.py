"""The page in a real browser, with the published weights."""

import json
import re
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


def test_a_pictures_masks_and_boxes_are_what_infer_makes_of_them(open_page, tmp_path, weights_file):
    import cv2

    with np.load(FUNDUS) as case:
        cv2.imwrite(str(tmp_path / "eye.png"), case["imgs"][..., ::-1])
    page = open_page(tmp_path / "eye.png")
    page.wait_for_model()
    page.draw_box([180, 230, 330, 430])
    page.add_label("second")
    page.draw_box([400, 400, 450, 460])
    page.key("Control+s")
    page.wait(lambda: page.text("#message").startswith("saved"), "saving")
    (tmp_path / "imgs").mkdir()
    (tmp_path / "eye.png").rename(tmp_path / "imgs" / "eye.png")
    infer(tmp_path, weights_file, "--boxes", tmp_path / "out" / "eye.boxes.json")
    drawn, expected = (
        cv2.imread(str(tmp_path / folder / "eye.png"), cv2.IMREAD_UNCHANGED)
        for folder in ("out", "segs")
    )
    assert set(np.unique(expected)) == {0, 1, 2}
    np.testing.assert_array_equal(drawn, expected)


def test_wheel_and_pinch_zoom_about_the_mouse(open_page):
    page = open_page(BRAIN)
    place = "const p = litemedsam.panes()[0]; return p.view.toPixel(arguments[0], arguments[1])"
    x, y = page.at(160, 140)
    bounds = "return litemedsam.panes()[0].element.getBoundingClientRect()"
    corner = page.script(bounds)
    inside = x - corner["left"], y - corner["top"]
    zoom, index = "return litemedsam.panes()[0].view.zoom", "return litemedsam.panes()[0].wanted"
    before, slice_ = page.script(zoom), page.script(index)
    control = 2
    page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-300, modifiers=control)
    page.wait(lambda: page.script(zoom) > 1.5 * before, "the zoom")
    assert page.script(index) == slice_
    np.testing.assert_allclose(page.script(place, *inside), [160, 140], atol=0.3)
    page.key("0")
    page.wait(lambda: page.script(zoom) == before, "the whole image")
    page.mouse("mouseWheel", x, y, deltaX=0, deltaY=100)
    page.wait(lambda: page.script(index) == slice_ + 1, "the next slice")


def test_diameters_are_shown_beside_the_label(open_page):
    page = open_page(BRAIN)
    page.wait_for_model()
    page.draw_box([185, 150, 212, 176])
    page.key("t")
    page.wait(
        lambda: re.search(r"ml · [\d.]+ × [\d.]+ mm", page.text("#labels .size")), "diameters"
    )
    page.key("home")
    page.wait_for_slice()
    page.click("#labels .size")
    page.wait(lambda: page.store("position")[2] == 12, "the slice of the diameters")


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
    page.key("q", "q", "q", "w")
    page.wait(lambda: page.store("layers")[0]["threshold"] == 0.4, "the threshold")
    page.add_label("new")
    page.key("enter")
    page.wait(lambda: len(page.store("layers")) == 2, "a second box")
    page.key("u")
    assert page.store("label") == 1
    page.key("j")
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
