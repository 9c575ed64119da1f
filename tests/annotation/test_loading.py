"""Masks loaded into work that has begun."""

import numpy as np
import pytest

from litemedsam_jax.annotation.document import Document
from litemedsam_jax.annotation.editor import Editor
from litemedsam_jax.annotation.layers import Label, default_label
from litemedsam_jax.annotation.loading import loaded
from litemedsam_jax.annotation.operations import PutLabel

SHAPE = (4, 20, 30)


@pytest.fixture
def editor():
    return Editor(Document(SHAPE, labels=[default_label(1), Label(2, "vein", "#ffffff")]))


@pytest.fixture
def voxels():
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[1:3, 5:10, 5:10], voxels[2, 12, 20:25], voxels[0, 0, 0] = 2, 5, 1
    return voxels


def test_labels_are_added_as_one_step(editor, voxels):
    editor.do(*loaded(editor.document, editor.next_number(), voxels))
    np.testing.assert_array_equal(editor.document.voxels, voxels)
    assert editor.document.labels[2].name == "vein" and set(editor.document.labels) == {1, 2, 5}
    editor.undo()
    assert not editor.document.voxels.any() and not editor.can_undo
    assert set(editor.document.labels) == {1, 2}


@pytest.mark.parametrize(
    ("value", "message"), [(0, "no label"), (300, "labels 1 to"), (1, "locked")]
)
def test_what_cannot_be_loaded_is_said(editor, value, message):
    editor.do(PutLabel(Label(1, "bone", "#ffffff", locked=True)))
    with pytest.raises(ValueError, match=message):
        loaded(editor.document, 1, np.full(SHAPE, value, np.uint16))
