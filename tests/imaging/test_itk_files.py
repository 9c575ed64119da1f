"""MHA and NRRD: truncated files, Slicer's segmentations."""

import numpy as np
import pytest
import SimpleITK as sitk

from litemedsam_jax.imaging import volumes


@pytest.mark.parametrize("packed", [False, True])
def test_a_truncated_mha_is_called_so_and_nothing_is_printed(tmp_path, capfd, packed):
    array = np.random.default_rng(0).integers(0, 99, (4, 20, 30)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "x.mha"), packed)
    whole = (tmp_path / "x.mha").read_bytes()
    (tmp_path / "x.mha").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ValueError, match=r"x\.mha: is truncated \(\d+ of \d+ bytes of values\)"):
        volumes.read_volume(tmp_path / "x.mha")
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "y.mhd"))
    (tmp_path / "y.raw").unlink()
    with pytest.raises(ValueError, match=r"its values, y\.raw, do not lie beside it"):
        volumes.read_volume(tmp_path / "y.mhd")
    (tmp_path / "z.mha").write_text("nothing")
    with pytest.raises(ValueError, match=r"z\.mha: cannot be read as a volume"):
        volumes.read_volume(tmp_path / "z.mha")
    assert capfd.readouterr().err == ""


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
