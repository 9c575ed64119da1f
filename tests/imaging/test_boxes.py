"""Boxes made from label maps."""

import numpy as np

from litemedsam_jax.imaging.boxes import Jitter, boxes_of_labels, objects_of


def test_boxes_are_tight_inclusive_and_in_order():
    labels = np.zeros((9, 20, 30), np.uint16)
    labels[2:5, 3:11, 7:20] = 300
    labels[1, 0, 29] = 2
    boxes, owners = boxes_of_labels(labels)
    assert boxes.tolist() == [[29, 0, 1, 29, 0, 1], [7, 3, 2, 19, 10, 4]]
    assert owners.tolist() == [2, 300]
    first, _ = boxes_of_labels(labels, Jitter(5, seed=1))
    again, _ = boxes_of_labels(labels, Jitter(5, seed=1))
    np.testing.assert_array_equal(first, again)
    assert (first[:, :2] <= boxes[:, :2]).all() and (first[:, 3:5] >= boxes[:, 3:5]).all()
    assert first.min() >= 0 and first[:, 3].max() <= 29
    labels[7, 15:18, 2:5] = 300
    objects, owners = objects_of(labels, "component")
    assert (int(objects.max()), owners.tolist()) == (3, [2, 300, 300])
