"""Label maps are cleaned."""

import numpy as np
import pytest
from scipy import ndimage

from litemedsam_jax.imaging import masks


def test_dust_is_removed_as_scipy_would():
    labels = (np.random.default_rng(3).random((9, 24, 24)) > 0.8).astype(np.uint8)
    labels[:, 12:] *= 2
    expected = np.zeros_like(labels)
    for label in (1, 2):
        parts, _ = ndimage.label(labels == label, np.ones((3, 3, 3)))
        big = np.isin(parts, np.flatnonzero(np.bincount(parts.ravel()) >= 20)) & (parts > 0)
        for z, plane in enumerate(big):
            flat, _ = ndimage.label(plane, np.ones((3, 3)))
            kept = np.isin(flat, np.flatnonzero(np.bincount(flat.ravel()) >= 4)) & (flat > 0)
            expected[z][kept] = label
    np.testing.assert_array_equal(masks.remove_dust(labels, 20, 4), expected)


def test_instances_are_numbered_after_the_largest_label():
    labels = np.zeros((3, 12, 12), np.uint8)
    labels[:, 1:3, 1:3], labels[:, 6:8, 6:8], labels[:, 10, 10] = 4, 4, 2
    split = masks.split_instances(labels, 4)
    assert sorted(np.unique(split).tolist()) == [0, 2, 3, 4]


@pytest.mark.parametrize("shape", [(36, 215), (3, 36, 215)], ids=["2D", "3D"])
def test_parts_are_numbered_without_gaps(shape):
    rng = np.random.default_rng(0)
    for density in (0.02, 0.1, 0.3, 0.5):
        mask = rng.random(shape) < density
        parts = masks.components(mask)
        expected, count = ndimage.label(mask, np.ones((3,) * len(shape)))
        assert np.unique(parts).tolist() == list(range(count + 1))
        # The same parts, whatever their numbers.
        pairs = np.unique(np.stack([parts.ravel(), expected.ravel()]), axis=1)
        assert pairs.shape[1] == count + 1
