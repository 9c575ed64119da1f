"""Boxes with which inference asks for an object on a slice."""

import numpy as np

from litemedsam_jax.adaptation.cases import LabelledCase
from litemedsam_jax.adaptation.prompts import use_boxes
from litemedsam_jax.imaging.boxes import boxes_of_labels


def case_of(gts: np.ndarray) -> LabelledCase:
    boxes, labels = boxes_of_labels(gts)
    return LabelledCase("a", "MR", gts, gts, None, boxes, labels)


def test_a_slice_is_asked_with_the_whole_box_its_section_and_its_neighbours_boxes():
    gts = np.zeros((6, 40, 50), np.uint8)
    for z, half in ((1, 4), (2, 8), (3, 6), (4, 2)):
        gts[z, 20 - half : 20 + half, 25 - half : 25 + half] = 3
    known = use_boxes([case_of(gts)])
    assert set(known) == {("a", 3, z) for z in (1, 2, 3, 4)}
    whole, section, below, above = known["a", 3, 2]
    assert whole.tolist() == [17, 12, 32, 27]
    assert section[0] > whole[0] and section[2] < whole[2] and section.sum() == whole.sum()
    assert below.tolist() == [21, 16, 28, 23] and above.tolist() == [19, 14, 30, 25]
    assert len(known["a", 3, 1]) == 3  # no object below the first
    assert use_boxes([case_of(gts[2])]) == {}
