"""DICOM images: their values, their kinds."""

import numpy as np
import pydicom
import pytest

from litemedsam_jax.imaging.volumes import read_volume
from tests.support import dicom_series


@pytest.fixture
def stored() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2000, (4, 6, 5)).astype(np.uint16)


def test_a_series_is_rescaled_ordered_and_placed(tmp_path, series, anatomy):
    volume = read_volume(series(tmp_path / "ct"))
    np.testing.assert_array_equal(volume.array, anatomy // 2 * 2)
    assert volume.array.dtype == np.int16
    assert volume.geometry.size == (30, 40, 12)
    np.testing.assert_allclose(volume.geometry.spacing, (0.8, 0.9, 2.5))
    np.testing.assert_allclose(volume.geometry.origin, (-50, -20, 10))
    assert volume.modality == "CT"


def test_every_slice_has_its_own_slope(tmp_path, stored):
    images = dicom_series.slices(stored)
    slopes = [1, 0.000731, 0.5, 0.25]
    for data, slope in zip(images, slopes, strict=True):
        data.RescaleSlope, data.Modality = slope, "PT"
    volume = read_volume(dicom_series.write(images, tmp_path / "pet"))
    expected = stored * np.array(slopes)[:, None, None]
    assert volume.array.dtype == np.float32
    np.testing.assert_allclose(volume.array, expected, rtol=1e-6)


def test_every_frame_has_its_own_slope(tmp_path, stored):
    def scale(z, groups):
        values = pydicom.Dataset()
        values.RescaleSlope, values.RescaleIntercept = (0.5 * (z + 1), z)
        groups.PixelValueTransformationSequence = [values]

    order = [3, 0, 2, 1]
    dicom_series.write([dicom_series.enhanced(stored, order, scale)], tmp_path, "e.dcm")
    z = np.arange(4)[:, None, None]
    found = read_volume(tmp_path / "e.dcm").array
    np.testing.assert_allclose(found, stored * 0.5 * (z + 1) + z)


def test_whole_numbers_are_held_in_the_type_that_they_need(tmp_path, stored):
    for name, high, intercept, expected in (
        ("a", 200, 0, np.uint8), ("b", 2000, -1024, np.int16), ("c", 65535, -1024, np.int32),
    ):  # fmt: skip
        stored[3, 2, 1] = high  # in a slice that comes late
        clipped = np.minimum(stored, high).astype(np.uint16)
        folder = dicom_series.write(dicom_series.slices(clipped, 1, intercept), tmp_path / name)
        found = read_volume(folder).array
        assert found.dtype == expected
        np.testing.assert_array_equal(found, clipped.astype(int) + intercept)


def test_compressed_slices_are_decoded(tmp_path, stored):
    images = dicom_series.slices(stored, 1, -1024)
    for data in images:
        data.compress(pydicom.uid.RLELossless)
    volume = read_volume(dicom_series.write(images, tmp_path / "rle"))
    np.testing.assert_array_equal(volume.array, stored.astype(int) - 1024)


def test_one_image_without_a_place_is_a_2d_image(tmp_path, stored):
    data = dicom_series.data_set(stored[0])
    data.Modality, data.ImagerPixelSpacing = "DX", [0.2, 0.1]
    dicom_series.write([data], tmp_path, "plus.dcm")
    volume = read_volume(tmp_path / "plus.dcm")
    assert volume.geometry.flat and volume.geometry.spacing[:2] == (0.1, 0.2)
    assert "does not say where it lies" in volume.notes[0]
    data.PhotometricInterpretation = "MONOCHROME1"
    dicom_series.write([data], tmp_path, "minus.dcm")
    negative = read_volume(tmp_path / "minus.dcm").array
    np.testing.assert_array_equal(negative.max() - negative, volume.array - volume.array.min())


def test_one_image_in_colour_is_read_and_a_cine_refused(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (6, 5, 3)).astype(np.uint8)
    data = dicom_series.data_set(colours[..., 0])
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelData = 7, colours.tobytes()
    dicom_series.write([data], tmp_path, "photo.dcm")
    volume = read_volume(tmp_path / "photo.dcm")
    np.testing.assert_array_equal(volume.array[0], colours)
    data.NumberOfFrames, data.PixelData = 2, colours.tobytes() * 2
    dicom_series.write([data], tmp_path, "cine.dcm")
    with pytest.raises(ValueError, match="2 images do not say where they lie"):
        read_volume(tmp_path / "cine.dcm")


def test_truncated_pixels_are_refused_by_name(tmp_path, stored):
    folder = dicom_series.write(dicom_series.slices(stored), tmp_path / "s")
    last = folder / "IM0003.dcm"
    last.write_bytes(last.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"IM0003\.dcm: its pixels are truncated"):
        read_volume(folder)


def test_every_file_that_pydicom_ships_is_read_or_refused():
    """Nearly 200 files of many makers, some damaged: no error but a sentence."""
    import os
    from pathlib import Path

    import pydicom.data

    folder = Path(os.fspath(pydicom.data.__file__)).parent / "test_files"
    if not folder.is_dir():
        pytest.skip("pydicom came without its test files")
    read = 0
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in ("", ".dcm"):
            try:
                read += read_volume(path).array.size > 0
            except ValueError as error:
                assert str(path.parent) in str(error)
    assert read > 70
