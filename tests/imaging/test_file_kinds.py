"""What a folder holds."""

import numpy as np
import pytest

from litemedsam_jax.imaging.file_kinds import cases_in, kind_of
from tests.support import dicom_series


@pytest.fixture
def stored() -> np.ndarray:
    return np.zeros((4, 6, 5), np.uint16)


def test_a_series_with_labels_beside_it_is_one_case(tmp_path, stored):
    folder = dicom_series.write(dicom_series.slices(stored), tmp_path / "s")
    (folder / "labels.nii.gz").write_bytes(b"x")
    (folder / "preview.png").write_bytes(b"x")
    assert kind_of(folder) == "dicom" and cases_in(tmp_path) == [folder]


def test_one_dicom_file_among_other_cases_is_a_case_of_its_own(tmp_path, stored):
    dicom_series.write(dicom_series.slices(stored)[:1], tmp_path, "x.dcm")
    for name in ("a.nii.gz", "b.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in cases_in(tmp_path)] == ["a.nii.gz", "b.png", "x.dcm"]


def test_segmentations_are_cases_of_their_own(tmp_path, stored):
    kind = "1.2.840.10008.5.1.4.1.1.66.4"
    dicom_series.write([dicom_series.data_set(stored[0], z, kind) for z in range(2)], tmp_path)
    assert [path.name for path in cases_in(tmp_path)] == ["IM0000.dcm", "IM0001.dcm"]


def test_text_and_zeros_are_no_dicom(tmp_path):
    (tmp_path / "a").write_bytes(bytes(500))
    (tmp_path / "b").write_bytes(b"\x08\0" + b"\xff" * 200)
    (tmp_path / "c").write_text("words " * 50)
    assert cases_in(tmp_path) == [] and kind_of(tmp_path) is None
