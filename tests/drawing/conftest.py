"""Fixtures of drawing."""

import numpy as np
import pytest


@pytest.fixture
def volume():
    """A (20, 60, 80) volume, its labels and boxes; label 2 reaches slices 4 to 7 alone."""
    image = np.random.default_rng(0).integers(0, 120, (20, 60, 80), np.uint8)
    segs = np.zeros(image.shape, np.uint8)
    segs[2:17, 10:30, 10:30], segs[4:8, 35:55, 40:70] = 1, 2
    return image, np.array([[10, 10, 2, 29, 29, 16], [40, 35, 4, 69, 54, 7]]), segs
