"""DICOM SEG objects, written for a series and read as labels on a grid."""

import numpy as np
import pydicom
import pytest

from litemedsam_jax.imaging import volumes
from litemedsam_jax.imaging.dicom_seg import write_dicom_seg
from tests.support import dicom_series

highdicom = pytest.importorskip("highdicom")


def test_dicom_seg_lies_on_the_series(tmp_path, series, organs):
    folder = series(tmp_path / "ct")
    write_dicom_seg(folder, organs, tmp_path / "seg.dcm", {5: "spleen"})
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert [s.segment_label for s in seg.SegmentSequence] == ["label 1", "label 2", "spleen"]
    found = seg.get_volume(combine_segments=True, relabel=True)
    geometry = volumes.read_volume(folder).geometry
    for number, label in enumerate((1, 2, 5), start=1):
        there = found.map_indices_to_reference(np.argwhere(found.array == number))
        expected = geometry.to_points(np.argwhere(organs == label)[:, ::-1])
        order, expected_order = np.lexsort(np.round(there, 3).T), np.lexsort(expected.round(3).T)
        np.testing.assert_allclose(there[order], expected[expected_order], atol=1e-3)
    with pytest.raises(ValueError, match="masks are empty"):
        write_dicom_seg(folder, organs * 0, tmp_path / "empty.dcm")


def test_what_was_written_is_read_back(tmp_path, series, organs):
    folder = series(tmp_path / "ct")
    write_dicom_seg(folder, organs, tmp_path / "seg.dcm")
    labels = volumes.read_labels(tmp_path / "seg.dcm")
    assert labels.array.shape == (8, 40, 30)  # slices 3 to 10; empty ones are not stored
    target = volumes.read_volume(folder).geometry
    placed = volumes.place_labels(labels, target, tmp_path / "seg.dcm")
    np.testing.assert_array_equal(placed, organs)


def test_segments_of_others_are_numbered_and_overlap_apart(tmp_path, series, organs):
    folder = series(tmp_path / "ct")
    write_dicom_seg(folder, organs, tmp_path / "a.dcm", {1: "liver", 2: "dust", 5: "spleen"})
    seg = volumes.read_labels(tmp_path / "a.dcm")
    assert np.unique(seg.array).tolist() == [0, 1, 2, 3]
    data = highdicom.seg.segread(tmp_path / "a.dcm")
    for groups in data.PerFrameFunctionalGroupsSequence:  # the spleen's frames twice
        number = groups.SegmentIdentificationSequence[0]
        if number.ReferencedSegmentNumber == 3:
            number.ReferencedSegmentNumber = 2
    # Segment 2 now holds dust and spleen; segment 3 none.
    data.save_as(tmp_path / "b.dcm")
    layers = volumes.read_label_layers(tmp_path / "b.dcm")
    assert sum(int((layer.array == 2).sum()) for layer in layers) == int((organs > 1).sum())


def test_overlapping_segments_come_in_layers_and_are_refused_as_one_map(tmp_path, series, organs):
    folder = series(tmp_path / "ct")
    masks = np.stack([organs == 1, organs > 0], axis=-1).astype(np.uint8)
    sources = [pydicom.dcmread(folder / f"slice{99 - z:03d}.dcm") for z in range(12)]
    seg = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=masks,
        segmentation_type="BINARY",
        segment_descriptions=[
            highdicom.seg.SegmentDescription(
                number, name, *[highdicom.sr.CodedConcept("123037004", "SCT", "Anatomy")] * 2,
                "MANUAL",
            )
            for number, name in ((1, "organ"), (2, "all"))
        ],
        series_instance_uid=highdicom.UID(), series_number=1, sop_instance_uid=highdicom.UID(),
        instance_number=1, manufacturer="x", manufacturer_model_name="x", software_versions="1",
        device_serial_number="1",
    )  # fmt: skip
    seg.save_as(tmp_path / "both.dcm")
    first, second = volumes.read_label_layers(tmp_path / "both.dcm")
    assert int((first.array == 1).sum()) == int((organs == 1).sum())
    assert int((second.array == 2).sum()) == int((organs > 0).sum())
    with pytest.raises(ValueError, match=r"overlap in \d+ voxels"):
        volumes.read_labels(tmp_path / "both.dcm")


def test_an_anonymised_series_gives_empty_values(tmp_path, anatomy, organs):
    images = dicom_series.slices((anatomy + 1000).astype(np.uint16))
    for data in images:
        for keyword in (
            "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate",
            "StudyTime", "AccessionNumber", "ReferringPhysicianName", "Manufacturer",
            "PositionReferenceIndicator", "SliceThickness", "SeriesNumber",
        ):  # fmt: skip
            del data[keyword]
    folder = dicom_series.write(images, tmp_path / "s")
    write_dicom_seg(folder, organs, tmp_path / "seg.dcm")
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert (seg.PatientID, seg.StudyID, seg.AccessionNumber) == ("", "", "")
    np.testing.assert_array_equal(volumes.read_labels(tmp_path / "seg.dcm").array, organs[3:11])


def test_one_slice_and_unsorted_frames_have_their_object_too(tmp_path, anatomy, organs):
    stored = (anatomy + 1000).astype(np.uint16)
    dicom_series.write(dicom_series.slices(stored)[5:6], tmp_path, "one.dcm")
    write_dicom_seg(tmp_path / "one.dcm", organs[5:6], tmp_path / "one_seg.dcm")
    one = volumes.read_labels(tmp_path / "one_seg.dcm")
    np.testing.assert_array_equal(one.array, organs[5:6])
    assert one.geometry.origin == (-50, -20, 22.5)
    order = [*range(0, 12, 2), *range(1, 12, 2)]
    dicom_series.write([dicom_series.enhanced(stored, order)], tmp_path, "many.dcm")
    write_dicom_seg(tmp_path / "many.dcm", organs, tmp_path / "many_seg.dcm")
    many = volumes.read_labels(tmp_path / "many_seg.dcm")
    np.testing.assert_array_equal(many.array, organs[3:11])


def test_a_2d_image_without_frame_of_reference_is_refused(tmp_path, anatomy):
    data = dicom_series.data_set((anatomy[5] + 1000).astype(np.uint16))
    del data.FrameOfReferenceUID
    dicom_series.write([data], tmp_path, "x.dcm")
    with pytest.raises(ValueError, match=r"FrameOfReferenceUID.*leave out --dicom-seg"):
        write_dicom_seg(tmp_path / "x.dcm", anatomy[5:6] > 0, tmp_path / "seg.dcm")


@pytest.mark.parametrize("held", [[5], [3, 4, 6], [0, 11]])
def test_slices_without_a_label_may_lie_between_and_beyond(tmp_path, series, organs, held):
    folder = series(tmp_path / "ct")
    labels = np.zeros_like(organs)
    labels[held, 10:20, 8:18] = 1
    write_dicom_seg(folder, labels, tmp_path / "seg.dcm")
    target = volumes.read_volume(folder).geometry
    placed = volumes.place_labels(volumes.read_labels(tmp_path / "seg.dcm"), target, "seg")
    np.testing.assert_array_equal(placed, labels)


def test_a_single_slice_of_another_thickness_finds_its_place(tmp_path, series, organs):
    folder = series(tmp_path / "ct")
    labels = np.zeros_like(organs)
    labels[5] = organs[5]
    write_dicom_seg(folder, labels, tmp_path / "seg.dcm")
    data = pydicom.dcmread(tmp_path / "seg.dcm")
    measures = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    del measures.SpacingBetweenSlices
    measures.SliceThickness = 1
    data.save_as(tmp_path / "seg.dcm")
    target = volumes.read_volume(folder).geometry
    placed = volumes.place_labels(volumes.read_labels(tmp_path / "seg.dcm"), target, "seg")
    np.testing.assert_array_equal(placed, labels)
