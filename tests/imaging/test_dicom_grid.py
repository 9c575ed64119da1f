"""Slices that fill a straight, even, complete grid are placed; all others are refused by name."""

import numpy as np
import pytest
import SimpleITK as sitk

from litemedsam_jax.imaging.volumes import read_volume
from tests.support import dicom_series


@pytest.fixture
def stored() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2000, (8, 6, 5)).astype(np.uint16)


def _refused(images, folder, words):
    dicom_series.write(images, folder)
    with pytest.raises(ValueError, match=words):
        read_volume(folder)


def test_an_oblique_series_lies_where_simpleitk_puts_it(tmp_path, stored):
    row = np.array([0.9, 0.3, -0.2])
    row /= np.linalg.norm(row)
    column = np.cross([0.1, 0.2, 0.97], row)
    column /= np.linalg.norm(column)
    images = dicom_series.slices(stored, 1, -1024)
    for z, data in enumerate(images):
        place = np.array([10.0, -70.0, 33.0]) + 2.5 * z * np.cross(row, column)
        data.ImagePositionPatient = [f"{c:.6f}" for c in place]
        data.ImageOrientationPatient = [f"{c:.6f}" for c in (*row, *column)]
    folder = dicom_series.write(images[::-1], tmp_path / "s")
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    expected = sitk.ReadImage(names)
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(expected))
    corner = (4, 5, 7)
    there = volume.geometry.to_points(np.array([corner]))[0]
    np.testing.assert_allclose(there, expected.TransformIndexToPhysicalPoint(corner), atol=1e-3)


def test_a_gantry_tilt_is_refused_with_its_angle(tmp_path, stored):
    images = dicom_series.slices(stored)
    tilt = np.deg2rad(20)
    for data in images:
        data.ImageOrientationPatient = [1, 0, 0, 0, float(np.cos(tilt)), float(np.sin(tilt))]
    _refused(images, tmp_path / "s", r"aslant by 20 degrees \(gantry tilt\).*dcm2niix")


def test_rounded_cosines_are_no_tilt(tmp_path, stored):
    images = dicom_series.slices(stored)
    for data in images:
        data.ImageOrientationPatient = [1, 0, 0, 0, 0.9999999, 0.0005]
    dicom_series.write(images, tmp_path / "s")
    assert read_volume(tmp_path / "s").geometry.spacing == pytest.approx((0.8, 0.9, 2.5), abs=1e-4)


@pytest.mark.parametrize("last", [3, 7])
def test_a_slice_shifted_sideways_is_named(tmp_path, stored, last):
    images = dicom_series.slices(stored)
    images[last].ImagePositionPatient[0] += 3
    _refused(images, tmp_path / "s", rf"IM000{last}\.dcm: lies 3\.00 mm to the side")


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [
        ("PixelSpacing", [1.8, 1.8], r"IM0005\.dcm: has another PixelSpacing \(1\.8x1\.8 mm\)"),
        (
            "ImageOrientationPatient",
            [0, 1, 0, 0, 0, -1],
            r"IM0005\.dcm: has another orientation .*take it out if it is a localizer",
        ),
        ("ImagePositionPatient", None, r"IM0005\.dcm: does not say where it lies"),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0], r"IM0005\.dcm: its ImageOrientation"),
        ("FrameOfReferenceUID", "1.2.3", r"IM0005\.dcm: has another FrameOfReferenceUID"),
        ("RescaleSlope", 0, r"IM0005\.dcm: its RescaleSlope is 0"),
        ("SeriesInstanceUID", "1.2.3", r"holds 2 DICOM series \(CT 1: 7"),
    ],
)
def test_one_slice_that_is_unlike_the_others_is_named(tmp_path, stored, keyword, value, words):
    images = dicom_series.slices(stored)
    if value is None:
        del images[5][keyword]
    else:
        setattr(images[5], keyword, value)
    _refused(images, tmp_path / "s", words)


def test_a_slice_of_another_size_is_named(tmp_path, stored):
    images = dicom_series.slices(stored)
    images[2].Rows, images[2].Columns = 5, 6
    _refused(images, tmp_path / "s", r"IM0002\.dcm: has another size \(6x5 pixels\)")


def test_missing_and_duplicated_slices_are_told_apart(tmp_path, stored):
    images = dicom_series.slices(stored)
    _refused([*images[:3], *images[4:]], tmp_path / "a", "slices are missing, 1 of them")
    _refused([*images, images[3]], tmp_path / "b", r"IM0003\.dcm and IM0008\.dcm .*duplicated")
    _refused([*images, *images], tmp_path / "c", "holds 2 slices at each of 8 places")
    for data, z in zip(images, np.cumsum([0, 2, 2, 3, 2, 2.6, 2, 2]), strict=True):
        data.ImagePositionPatient[2] = z
    _refused(images, tmp_path / "d", r"2\.00 to 3\.00 mm apart; expected even")


def test_images_without_a_place_are_no_volume(tmp_path, stored):
    images = dicom_series.slices(stored)
    for data in images:
        data.ImagePositionPatient = images[0].ImagePositionPatient
    _refused(images, tmp_path / "cine", r"8 images lie at one place: a cine")
    for data in images:
        del data.ImagePositionPatient
    _refused(images, tmp_path / "none", r"8 images do not say where they lie .*by boxes of 4")
    _refused(images[:2], tmp_path / "xrays", r"2 images do not say where they lie")


def test_frames_of_one_file_are_sorted_by_their_place(tmp_path, stored):
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    dicom_series.write([dicom_series.enhanced(stored, order)], tmp_path, "e.dcm")
    volume = read_volume(tmp_path / "e.dcm")
    np.testing.assert_array_equal(volume.array, stored.astype(int) - 1000)
    assert volume.geometry.origin == (-50, -20, 10)
    assert volume.geometry.spacing == (0.8, 0.9, 2.5)


def test_frames_that_are_no_volume_are_refused(tmp_path, stored):
    def turn(z, groups):
        from pydicom.dataset import Dataset

        plane = Dataset()
        planes = ([1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1])
        plane.ImageOrientationPatient = planes[z % 3]
        groups.PlaneOrientationSequence = [plane]

    for name, data, words in (
        ("gap", dicom_series.enhanced(stored, [0, 1, 2, 4, 5, 6]), "slices are missing, 1 of"),
        ("times", dicom_series.enhanced(stored, [0, 1, 2, 3] * 2), "2 slices at each of 4 places"),
        ("planes", dicom_series.enhanced(stored, range(8), turn), "3 values of orientation"),
    ):
        dicom_series.write([data], tmp_path, f"{name}.dcm")
        with pytest.raises(ValueError, match=words):
            read_volume(tmp_path / f"{name}.dcm")
