"""Pictures of held-out cases before and after learning."""

import cv2
import numpy as np

from litemedsam_jax.adaptation.cases import LabelledCase
from litemedsam_jax.adaptation.pictures import MOST, draw_held_out, shown_slice
from litemedsam_jax.imaging.boxes import boxes_of_labels


def case_of(gts: np.ndarray, name: str) -> LabelledCase:
    boxes, labels = boxes_of_labels(gts)
    return LabelledCase(name, "MR", gts * 20, gts, None, boxes, labels)


def test_a_row_for_each_case_shows_the_slice_with_the_most_of_it(tmp_path):
    gts = np.zeros((4, 40, 50), np.uint8)
    gts[1, 5:10, 5:10] = 2
    gts[2, 5:30, 5:30] = 2
    volume, image = case_of(gts, "volume"), case_of(gts[2], "image")
    assert shown_slice(volume) == 2 and shown_slice(image) is None
    empty = np.zeros((40, 50), np.uint8)
    heights = []
    for count in (1, 2, MOST + 3):
        cases = [volume, *[image] * (count - 1)]
        masks = {"volume": {0.0: empty, 0.5: gts[2]}, "image": {0.0: empty, 0.5: gts[2]}}
        draw_held_out(tmp_path / "p.png", cases, masks, 0.5)
        heights.append(cv2.imread(str(tmp_path / "p.png")).shape[0])
    assert heights[0] < heights[1] < heights[2] < (MOST + 0.5) * heights[0] * 1.1
