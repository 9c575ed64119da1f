"""Overlays: what is drawn, where, and always the same."""

import cv2
import numpy as np
import pytest

from litemedsam_jax.drawing import overlay


def test_contours_and_boxes_have_their_label_s_colour():
    image, segs = np.zeros((100, 100, 3), np.uint8), np.zeros((100, 100), np.uint8)
    segs[20:60, 30:70] = 2
    drawn = overlay.overlay(image, segs, np.array([[5, 5, 9, 9], [30, 20, 69, 59]]), fill=0)
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    np.testing.assert_allclose(drawn[40, 30], overlay.colour(2), atol=9)  # antialiased
    np.testing.assert_allclose(drawn[5, 7], overlay.colour(1), atol=30)
    assert not drawn[40, 50].any()  # inside, where nothing is filled
    assert not image.any()  # the input stays as it was


def test_colours_differ_and_repeat_after_twenty():
    colours = [overlay.colour(label) for label in range(1, 21)]
    assert len(set(colours)) == 20
    assert overlay.colour(21) == overlay.colour(1)


def test_the_same_case_gives_the_same_bytes(tmp_path, volume):
    for name in ("a", "b"):
        overlay.write_overlay(tmp_path / f"{name}.png", *volume, [1.0, 1.0, 3.0])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_spacing_sets_the_proportions():
    image = np.zeros((100, 100), np.uint8)
    square = overlay.case_overlay(image, None, None)
    tall = overlay.case_overlay(image, None, image, [1.0, 2.0])
    # Two panels beside each other: half as wide at the same height.
    assert tall.shape[0] == square.shape[0]
    assert tall.shape[1] == pytest.approx(square.shape[1] / 2, abs=10)


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 3), (5, 30, 40), (5, 30, 40, 3), (3, 30, 3)])
def test_every_kind_of_case_is_drawn(tmp_path, shape):
    volume = shape in ((5, 30, 40), (5, 30, 40, 3), (3, 30, 3))
    grid = shape[:3] if volume else shape[:2]
    segs = np.zeros(grid, np.uint16)
    segs[..., 5:9, 1:3] = 300
    box = [[1, 5, 0, 2, 8, 2]] if volume else [[1, 5, 2, 8]]
    image = np.random.default_rng(0).random(shape, np.float32) * 900
    path = tmp_path / "case.png"
    overlay.write_overlay(path, image, np.array(box), segs, gts=segs, names=["a", "b"])
    assert cv2.imread(str(path)).ndim == 3
    assert [p.name for p in tmp_path.iterdir()] == ["case.png"]


def test_many_labels_do_not_break_the_legend():
    segs = np.arange(400).reshape(20, 20)
    assert overlay.case_overlay(np.zeros((20, 20), np.uint8), None, segs).shape[2] == 3
