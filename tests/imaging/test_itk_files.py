"""Slicer's segmentations in NRRD."""

import numpy as np
import pytest
import SimpleITK as sitk

from litemedsam_jax.imaging import volumes


def _segmentation(path, layers, words):
    image = sitk.GetImageFromArray(layers, isVector=layers.ndim == 4)
    image.SetSpacing((0.8, 0.9, 2.5))
    for key, value in words.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(path), True)


def test_layers_without_a_description_are_labels_1_and_2(tmp_path):
    layers = np.zeros((5, 9, 8, 2), np.uint8)
    layers[1:4, 2:7, 2:6, 0] = 1
    layers[2, 3, 3, 1] = 1
    _segmentation(tmp_path / "s.seg.nrrd", layers, {})
    first, second = volumes.read_label_layers(tmp_path / "s.seg.nrrd")
    np.testing.assert_array_equal(first.array, layers[..., 0])
    np.testing.assert_array_equal(second.array, layers[..., 1] * 2)
    assert first.geometry.spacing == (0.8, 0.9, 2.5)
    with pytest.raises(ValueError, match="overlap in 1 voxels"):
        volumes.read_labels(tmp_path / "s.seg.nrrd")


def test_slicer_s_description_numbers_the_segments(tmp_path):
    layers = np.zeros((5, 9, 8, 2), np.uint8)
    layers[1, 2:7, 2:6, 0], layers[3, 2:7, 2:6, 0], layers[4, 3, 3, 1] = 1, 2, 1
    words = {
        "Segment0_ID": "a", "Segment0_Layer": "0", "Segment0_LabelValue": "1",
        "Segment1_ID": "b", "Segment1_Layer": "0", "Segment1_LabelValue": "2",
        "Segment2_ID": "c", "Segment2_Layer": "1", "Segment2_LabelValue": "1",
    }  # fmt: skip
    _segmentation(tmp_path / "s.seg.nrrd", layers, words)
    labels = volumes.read_labels(tmp_path / "s.seg.nrrd").array  # nothing overlaps
    assert [np.unique(labels[z]).max() for z in (1, 3, 4)] == [1, 2, 3]
    one_layer = layers[..., 0].copy()
    one_layer[one_layer == 2] = 7
    words |= {"Segment1_LabelValue": "7"}
    del words["Segment2_ID"], words["Segment2_LabelValue"]
    _segmentation(tmp_path / "one.seg.nrrd", one_layer, words)
    found = volumes.read_labels(tmp_path / "one.seg.nrrd").array
    np.testing.assert_array_equal(found, one_layer)  # values of one layer stay
