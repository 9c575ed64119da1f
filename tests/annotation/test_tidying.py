"""Holes, parts, gaps between slices."""

import numpy as np
import pytest

from litemedsam_jax.annotation import tidying
from litemedsam_jax.annotation.document import Document
from litemedsam_jax.annotation.editor import Editor
from litemedsam_jax.annotation.operations import PutLayer


@pytest.fixture
def editor():
    voxels = np.zeros((7, 40, 40), np.uint8)
    voxels[1, 5:15, 5:15] = 1
    voxels[1, 8:12, 8:12] = 0
    voxels[2, 5:15, 5:15] = 1
    voxels[5, 7:21, 5:25] = 1
    voxels[2, 30:35, 30:35] = 1
    return Editor(Document(voxels.shape, voxels))


def test_holes_are_filled_within_slices_and_nothing_else(editor):
    before = editor.document.voxels.copy()
    editor.do(PutLayer(tidying.fill_holes(editor.document, 1, 1)))
    before[1, 8:12, 8:12] = 1
    np.testing.assert_array_equal(editor.document.voxels, before)
    with pytest.raises(ValueError, match="no holes"):
        tidying.fill_holes(editor.document, 2, 1)


def test_the_largest_part_of_the_volume_is_kept(editor):
    editor.do(PutLayer(tidying.keep_largest(editor.document, 1, 1)))
    voxels = editor.document.voxels
    assert voxels[5].sum() == 280 and voxels.sum() == 280
    with pytest.raises(ValueError, match="no second part"):
        tidying.keep_largest(editor.document, 2, 1)


def test_slices_between_are_interpolated_by_shape(editor):
    editor.do(PutLayer(tidying.keep_largest(editor.document, 1, 1)))
    editor.undo()
    editor.do(PutLayer(tidying.clear(editor.document, 1, 1, 1)))
    before = editor.document.voxels.copy()
    editor.do(PutLayer(tidying.interpolate(editor.document, 2, 1)))
    voxels = editor.document.voxels
    np.testing.assert_array_equal(voxels[[0, 1, 2, 5, 6]], before[[0, 1, 2, 5, 6]])
    sizes = [int(plane.sum()) for plane in voxels[2:6]]
    assert 100 <= sizes[1] <= sizes[2] <= 280
    with pytest.raises(ValueError, match="no slice is missing"):
        tidying.interpolate(editor.document, 3, 1)
