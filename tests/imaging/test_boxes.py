"""Boxes made from label maps."""

import numpy as np
import pytest

from litemedsam_jax.imaging.boxes import (
    Jitter,
    boxes_of_labels,
    fit_boxes,
    objects_of,
    to_pixel_centres,
)
from litemedsam_jax.imaging.errors import CaseError


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


def test_a_thousand_objects_of_many_labels_get_a_box_each():
    labels = np.zeros((1, 200, 200), np.uint16)
    labels[0, ::5, ::5] = np.arange(1, 1601).reshape(40, 40)
    labels[0, 3, 3] = 1  # a second part of label 1
    objects, owners = objects_of(labels, "component")
    assert len(owners) == 1601 and owners[:3].tolist() == [1, 1, 2]
    boxes, numbers = boxes_of_labels(objects)
    assert len(boxes) == 1601 and numbers.tolist() == list(range(1, 1602))
    np.testing.assert_array_equal(boxes[-1], [195, 195, 0, 195, 195, 0])


def test_one_rule_puts_boxes_in_order():
    boxes = np.array([[20.5, 25.5, 3.5, 99], [3, 4, 41, 30]])
    np.testing.assert_array_equal(
        fit_boxes(boxes, (30, 40)), [[3.5, 25.5, 20.5, 30], [3, 4, 40, 30]]
    )
    solid = np.array([[3.25, 4.5, 9, 20.75, 25.5, 0.9]])
    np.testing.assert_array_equal(fit_boxes(solid, (5, 30, 40)), [[3.25, 4.5, 1, 20.75, 25.5, 4]])
    with pytest.raises(CaseError, match="box 2"):
        fit_boxes(np.array([[1, 1, 2, 2], [50, 1, 60, 2]]), (30, 40))
    np.testing.assert_array_equal(
        to_pixel_centres(np.array([[0, 0, 40, 30]]), (30, 40)), [[0, 0, 39, 29]]
    )
