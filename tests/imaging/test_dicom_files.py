"""Which files of a folder are its series: none too many, and none that is damaged left out."""

import shutil

import numpy as np
import pydicom
import pytest

from litemedsam_jax.imaging.file_kinds import cases_in, kind_of
from litemedsam_jax.imaging.volumes import read_volume
from tests.support import dicom_series


@pytest.fixture
def stored() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2000, (4, 6, 5)).astype(np.uint16)


def _is_the_series(folder, stored):
    assert kind_of(folder) == "dicom" and cases_in(folder) == [folder]
    np.testing.assert_array_equal(read_volume(folder).array, stored)


@pytest.mark.parametrize("name", ["IM{:04d}", "{:04d}.DCM", ".CT..{:04d}.IMA", "1.2.840.{}"])
def test_names_do_not_matter(tmp_path, stored, name):
    _is_the_series(dicom_series.write(dicom_series.slices(stored), tmp_path / "s", name), stored)


def test_what_lies_beside_a_series_is_passed_over(tmp_path, stored):
    folder = dicom_series.write(dicom_series.slices(stored), tmp_path / "s")
    for name in ("AUTORUN.INF", "INDEX.HTM", "LICENSE.TXT", "README", "VIEWER.EXE", ".DS_Store"):
        (folder / name).write_bytes(b"x")
    for number in range(4):
        (folder / f"._IM{number:04d}.dcm").write_bytes(b"\0\5\x16\7" + bytes(4000))
    _is_the_series(folder, stored)


@pytest.mark.parametrize("name", ["IM{:04d}", "IM{:04d}.dcm"])
def test_files_without_preamble(tmp_path, stored, name):
    folder = dicom_series.write(dicom_series.slices(stored), tmp_path / "s", name)
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        bare = pydicom.Dataset()
        bare.update({element.tag: element for element in data})
        bare.save_as(path, implicit_vr=True, little_endian=True)
    _is_the_series(folder, stored)


def test_a_cd_with_its_table_of_contents(tmp_path, stored):
    deep = tmp_path / "cd/PT000000/ST000000/SE000000"
    dicom_series.write(dicom_series.slices(stored), deep, "IM{:06d}")
    contents = dicom_series.data_set(stored[0], kind="1.2.840.10008.1.3.10")
    dicom_series.write([contents], tmp_path / "cd", "DICOMDIR")
    _is_the_series(tmp_path / "cd", stored)
    second = dicom_series.slices(stored)
    for data in second:
        data.SeriesInstanceUID, data.SeriesDescription = "1.2.3", "thin"
    dicom_series.write(second, tmp_path / "cd/PT000000/ST000000/SE000001", "IM{:06d}")
    with pytest.raises(ValueError, match=r"CT thin: 4 in PT000000.ST000000.SE000001"):
        read_volume(tmp_path / "cd")


@pytest.mark.parametrize("name", ["IM{:04d}", "IM{:04d}.DCM", "IM{:04d}.dcm"])
@pytest.mark.parametrize("left", [0, 60, 300, 900])
def test_a_damaged_last_slice_is_named_and_never_dropped(tmp_path, stored, name, left):
    folder = dicom_series.write(dicom_series.slices(stored), tmp_path / "s", name)
    last = folder / name.format(3)
    last.write_bytes(last.read_bytes()[:left])
    with pytest.raises(ValueError, match=last.name):
        read_volume(folder)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("1.2.840.10008.5.1.4.1.1.481.3", r"holds contours \(RTSTRUCT\).*3D Slicer"),
        ("1.2.840.10008.5.1.4.1.1.481.2", r"holds a dose \(RTDOSE\)"),
        ("1.2.840.10008.5.1.4.1.1.88.11", r"holds no image \(Basic Text SR"),
        ("1.2.840.10008.5.1.4.1.1.66.4", r"holds segments \(DICOM SEG\)"),
    ],
)
def test_objects_that_are_no_image_are_refused_by_their_kind(tmp_path, stored, kind, words):
    data = dicom_series.data_set(stored[0], kind=kind)
    if "SR" in words or "STRUCT" in words:
        for keyword in ("Rows", "Columns", "PixelData"):
            del data[keyword]
    dicom_series.write([data], tmp_path, "x.dcm")
    with pytest.raises(ValueError, match=words):
        read_volume(tmp_path / "x.dcm")
    folder = dicom_series.write(dicom_series.slices(stored), tmp_path / "s")
    shutil.copy(tmp_path / "x.dcm", folder)
    np.testing.assert_array_equal(read_volume(folder).array, stored)
