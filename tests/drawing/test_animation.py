"""Volumes as animations: every slice, in both formats."""

import cv2
import numpy as np
import pytest

from litemedsam_jax.drawing import animation


def test_scrolls_show_every_slice(tmp_path, volume):
    from PIL import Image

    image, boxes, segs = volume
    frames = list(animation.scroll(image[:6], boxes, segs[:6]))
    assert len(frames) == 6 and len({frame.shape for frame in frames}) == 1
    animation.write_scroll(tmp_path / "a.gif", iter(frames))
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 6
    animation.write_scroll(tmp_path / "a.mp4", iter(frames))
    film = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    assert int(film.get(cv2.CAP_PROP_FRAME_COUNT)) == 6
    film.release()
    with pytest.raises(ValueError, match=r"\.gif or \.mp4"):
        animation.write_scroll(tmp_path / "a.avi", iter(frames))


def test_a_2d_case_has_nothing_to_scroll_through(tmp_path):
    image, segs = np.zeros((20, 30), np.uint8), np.ones((20, 30), np.uint8)
    animation.write_case(tmp_path / "a.gif", image, np.array([[1, 2, 9, 9]]), segs)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_small_label_keeps_its_colour_in_a_gif(tmp_path):
    from PIL import Image

    grey = np.random.default_rng(0).integers(0, 256, (200, 200, 1), np.uint8)
    frame = np.repeat(grey, 3, 2)
    frame[90:96, 90:96] = (255, 82, 82)
    animation.write_scroll(tmp_path / "a.gif", iter([frame, frame]))
    with Image.open(tmp_path / "a.gif") as gif:
        shown = np.asarray(gif.convert("RGB"))
    np.testing.assert_allclose(shown[93, 93], (255, 82, 82), atol=8)
