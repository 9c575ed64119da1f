"""Label maps: what is one, and what has no place on another grid."""

import numpy as np
import pytest

from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.geometry import Geometry
from litemedsam_jax.imaging.labels import absent_labels, as_labels, outside_message, voxels_outside

EYE = tuple(np.eye(3).ravel().tolist())


def test_whole_floats_are_labels_and_fractions_are_not():
    assert as_labels(np.array([0.0, 300.0])).dtype == np.uint16
    with pytest.raises(CaseError, match="x: float64 2, with fractions"):
        as_labels(np.array([0, 0.5]), "x")
    with pytest.raises(CaseError, match="labels -1 to 0"):
        as_labels(np.array([0, -1]))


def test_voxels_beyond_a_cropped_image_are_counted_by_label():
    labels = np.zeros((4, 10, 10), np.uint8)
    labels[1, 2:4, 2:4] = 1
    labels[2, 5, 3:9] = 2
    labels[3, 9, 9] = 5
    grid = Geometry((10, 10, 4), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0), EYE)
    crop = Geometry((5, 8, 4), (1.0, 1.0, 3.0), (1.0, 0.0, 0.0), EYE)  # x from 1 to 5
    outside = voxels_outside(labels, grid, crop)
    assert outside == {2: 3, 5: 1}
    assert outside_message(outside) == (
        "4 labelled voxels lie outside the image (label 2: 3, label 5: 1)"
    )
    flipped = Geometry((10, 10, 4), (1.0, 1.0, 3.0), (9.0, 0.0, 0.0), (-1.0, *EYE[1:]))
    assert voxels_outside(labels, grid, flipped) == {}


def test_absent_labels():
    assert absent_labels(np.array([0, 3]), (1, 3, 7)) == [1, 7]
