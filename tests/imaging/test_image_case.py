"""An image file and its boxes as a case."""

import numpy as np
import pytest
import SimpleITK as sitk

from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.image_case import FileOptions, read_image_case
from litemedsam_jax.imaging.intensity import IntensityOptions
from litemedsam_jax.imaging.label_files import write_labels
from tests.support import dicom_series


@pytest.fixture
def scan(tmp_path, oblique, anatomy, organs):
    """A scan cropped to its first 15 columns, and the labels of the whole one."""
    sitk.WriteImage(oblique(anatomy)[:15], str(tmp_path / "ct.nii.gz"))
    sitk.WriteImage(oblique(organs), str(tmp_path / "labels.nii.gz"))
    return tmp_path / "ct.nii.gz", tmp_path / "labels.nii.gz"


def test_labels_outside_the_image_and_absent_ones_are_warned_of(scan):
    image, mask = scan
    case = read_image_case(image, FileOptions(mask, labels=(1, 9))).case
    np.testing.assert_array_equal(case.boxes, [[8, 10, 3, 14, 19, 8]])
    said = " ".join(case.warnings)
    assert "228 labelled voxels lie outside the image (label 1: 180, label 5: 48)" in said
    assert "holds no label 9 of --labels (it has: 1, 2, 5)" in said


def test_labels_none_of_which_is_there_are_refused(scan):
    image, mask = scan
    with pytest.raises(CaseError, match=r"it has: 1, 2, 5.*that --labels names"):
        read_image_case(image, FileOptions(mask, labels=(9,)))


def _case(path, boxes, **options):
    source = path.parent / "boxes.json"
    source.write_text(str(boxes))
    return read_image_case(path, FileOptions(source, **options))


def test_the_file_s_modality_counts_where_none_is_given(tmp_path, anatomy):
    stored = (anatomy[3:9, 8:30, 8:24] + 1024).astype(np.uint16)  # no air
    expected = {"CT": "its file says CT: taken as CT", "MR": "its file says MR: taken as no CT"}
    for modality, words in expected.items():
        images = dicom_series.slices(stored, 1, -1024)
        for data in images:
            data.Modality = modality
        folder = dicom_series.write(images, tmp_path / modality)
        case = _case(folder, [[2, 2, 1, 9, 9, 4]]).case
        assert words in " ".join(case.warnings)
        other = _case(folder, [[2, 2, 1, 9, 9, 4]], intensity=IntensityOptions("CT")).case
        assert (case.image == other.image).all() == (modality == "CT")


@pytest.mark.parametrize("boxes", [[[2, 3, 9, 12]], [[2, 3, 0, 9, 12, 0]]])
def test_one_dicom_image_is_a_2d_image(tmp_path, anatomy, boxes):
    data = dicom_series.data_set((anatomy[5] + 1000).astype(np.uint16))
    data.Modality = "DX"
    dicom_series.write([data], tmp_path, "x.dcm")
    image = _case(tmp_path / "x.dcm", boxes)
    assert image.case.image.shape == (40, 30) and image.case.boxes.tolist() == [[2, 3, 9, 12]]
    segs = np.zeros((40, 30), np.uint8)
    segs[3:13, 2:10] = 1
    written = sitk.ReadImage(str(write_labels(image, segs, tmp_path / "out")))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), segs)


def test_overlapping_segments_give_a_box_each(tmp_path, anatomy, oblique):
    layers = np.zeros((*anatomy.shape, 2), np.uint8)
    layers[3:9, 10:20, 8:18, 0] = layers[5:7, 12:15, 10:14, 1] = 1
    mask = oblique(anatomy)
    segments = sitk.GetImageFromArray(layers, isVector=True)
    segments.CopyInformation(mask)
    sitk.WriteImage(mask, str(tmp_path / "ct.nrrd"))
    sitk.WriteImage(segments, str(tmp_path / "organs.seg.nrrd"))
    image = read_image_case(tmp_path / "ct.nrrd", FileOptions(tmp_path / "organs.seg.nrrd"))
    assert image.case.boxes.tolist() == [[8, 10, 3, 17, 19, 8], [10, 12, 5, 13, 14, 6]]
    assert image.labels.tolist() == [1, 2]


def test_a_dicom_seg_gives_boxes_on_its_series(tmp_path, series, organs):
    from litemedsam_jax.imaging.dicom_seg import write_dicom_seg

    folder = series(tmp_path / "ct")
    write_dicom_seg(folder, organs, tmp_path / "ct.dcm")
    for source in (tmp_path / "ct.dcm", tmp_path):
        image = read_image_case(folder, FileOptions(source, labels=(1, 5)))
        assert image.case.boxes.tolist() == [[8, 10, 3, 17, 19, 8], [8, 25, 5, 17, 32, 6]]
        assert image.labels.tolist() == [1, 5]


def test_a_dicom_seg_is_written_for_a_single_file(tmp_path, anatomy):
    images = dicom_series.slices((anatomy + 1000).astype(np.uint16))
    dicom_series.write(images[5:6], tmp_path, "x.dcm")
    image = _case(tmp_path / "x.dcm", [[2, 3, 9, 12]])
    write_labels(image, np.ones((40, 30), np.uint8), tmp_path / "out", dicom_seg=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["x.dcm", "x.nii.gz"]
    before = (tmp_path / "x.dcm").read_bytes()
    with pytest.raises(CaseError, match="would replace the image"):
        write_labels(image, np.ones((40, 30), np.uint8), tmp_path, dicom_seg=True)
    assert (tmp_path / "x.dcm").read_bytes() == before


def test_a_png_mask_gives_boxes_of_an_x_ray(tmp_path, anatomy):
    import cv2

    dicom_series.write(
        [dicom_series.data_set((anatomy[5] + 1000).astype(np.uint16))], tmp_path, "x.dcm"
    )
    mask = np.zeros((40, 30), np.uint8)
    mask[10:20, 8:18] = 255
    cv2.imwrite(str(tmp_path / "x_mask.png"), mask)
    image = read_image_case(tmp_path / "x.dcm", FileOptions(tmp_path / "x_mask.png"))
    assert image.case.boxes.tolist() == [[8, 10, 17, 19]]
    cv2.imwrite(str(tmp_path / "x_mask.png"), mask[:30])
    with pytest.raises(CaseError, match="30x30 pixels and its image 30x40x1"):
        read_image_case(tmp_path / "x.dcm", FileOptions(tmp_path / "x_mask.png"))
