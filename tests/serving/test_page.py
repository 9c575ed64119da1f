"""The page in a real browser, with the published weights."""

import json
import subprocess
import sys

import numpy as np
import pytest

from litemedsam_jax.imaging.npz import write_npz
from tests.conftest import REPOSITORY

DEMO = REPOSITORY / "demo" / "imgs"
FUNDUS, BRAIN = DEMO / "2DBox_Fundus_retina.npz", DEMO / "3DBox_MR_brain1_tumor.npz"


def infer(folder, weights, *options) -> None:
    command = [sys.executable, "infer.py", "-i", folder / "imgs", "-o", folder / "segs"]
    command += ["--weights", weights, *options]
    subprocess.run(list(map(str, command)), cwd=REPOSITORY, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("case", "slice_", "box"),
    [(FUNDUS, 0, [180, 230, 330, 430]), (BRAIN, 12, [185, 150, 212, 176])],
    ids=["image", "volume"],
)
def test_a_box_is_dragged_and_its_mask_saved(case, slice_, box, open_page, tmp_path, weights_file):
    page = open_page(case)
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
    infer(tmp_path, weights_file)
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
