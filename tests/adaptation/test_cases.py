"""Labelled cases from npz and NIfTI, and their slices."""

import numpy as np
import pytest
import SimpleITK as sitk

from litemedsam_jax.adaptation.cases import catalog_of, read_cases
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.input_frame import to_input
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.training.samples import frame_of
from tests.support.fake_engine import FakeEngine


@pytest.fixture
def folders(tmp_path):
    for name in ("imgs", "gts"):
        (tmp_path / name).mkdir()
    return tmp_path / "imgs", tmp_path / "gts"


def npz_case(folders, name, shape=(4, 20, 30)):
    images, labels = folders
    gts = np.zeros(shape, np.uint8)
    gts[..., 5:15, 10:20] = 3
    gts[..., 2:4, 2:8] = 1
    if len(shape) == 3:
        gts[0] = 0
    image = np.arange(np.prod(shape), dtype=np.int64).reshape(shape).astype(np.uint8)
    np.savez(images / f"{name}.npz", imgs=image, spacing=np.array([1.0, 1.0, 3.0]))
    np.savez(labels / f"{name}.npz", gts=gts)
    return gts


def test_npz_cases_have_a_box_a_label_and_only_slices_with_objects(folders):
    npz_case(folders, "3DBox_MR_a")
    npz_case(folders, "2DBox_US_b", (20, 30))
    picture, volume = read_cases(*folders)
    assert (picture.modality, volume.modality) == ("US", "MR")
    assert volume.labels.tolist() == [1, 3] and volume.is_volume and not picture.is_volume
    assert volume.boxes[1].tolist() == [10, 5, 1, 19, 14, 3]
    catalog = catalog_of([picture, volume])
    assert [entry.position for entry in catalog.entries] == [None, None, 1, 2, 3]  # a window
    assert catalog.skipped.background == 1 and catalog.entries[2].spacing == (1.0, 1.0, 3.0)
    np.testing.assert_array_equal(catalog[3].image, volume.image[2])
    np.testing.assert_array_equal(catalog[3].gts, volume.gts[2])


def test_nifti_labels_come_onto_the_images_grid(folders, anatomy, organs, oblique):
    images, labels = folders
    sitk.WriteImage(oblique(anatomy), str(images / "CT_1_0000.nii.gz"))
    flipped = sitk.Flip(oblique(organs), (True, False, False))  # stored the other way round
    sitk.WriteImage(flipped, str(labels / "CT_1.nii.gz"))
    (case,) = read_cases(images, labels)
    np.testing.assert_array_equal(case.gts, organs)
    assert case.image.dtype == np.uint8 and case.image.shape == anatomy.shape
    assert case.labels.tolist() == [1, 2, 5]
    assert case.boxes[0].tolist() == [8, 10, 3, 17, 19, 8]


def test_what_cannot_teach_is_refused_by_name(folders):
    images, labels = folders
    npz_case(folders, "MR_a")
    np.savez(labels / "MR_a.npz", gts=np.zeros((4, 20, 30), np.uint8))
    with pytest.raises(CaseError, match="nothing to learn"):
        read_cases(images, labels)
    np.savez(labels / "MR_a.npz", gts=np.ones((4, 20, 31), np.uint8))
    with pytest.raises(CaseError, match=r"\(4, 20, 30\).*\(4, 20, 31\)"):
        read_cases(images, labels)
    (labels / "MR_a.npz").unlink()
    with pytest.raises(CaseError, match="no labels"):
        read_cases(images, labels)
    with pytest.raises(FileNotFoundError, match="no images"):
        read_cases(images, labels, skip_unlabelled=True)


def test_an_images_small_objects_are_seen_enlarged_as_best_sees_them(folders):
    """The window is the very one that inference encodes, so that both share an embedding."""
    images, labels = folders
    gts = np.zeros((400, 500), np.uint8)
    gts[50:70, 60:80], gts[300:316, 400:420] = 1, 2
    image = np.random.default_rng(0).integers(0, 255, gts.shape).astype(np.uint8)
    np.savez(images / "US_a.npz", imgs=image)
    np.savez(labels / "US_a.npz", gts=gts)
    cases = read_cases(images, labels)
    catalog = catalog_of(cases)
    assert [entry.case for entry in catalog.entries] == ["US_a"] * 3
    assert [entry.labels for entry in catalog.entries] == [(1, 2), (1,), (2,)]
    seen = []

    class Engine(FakeEngine):
        def encode(self, image):
            seen.append(image)
            return super().encode(image)

    LiteMedSAM(Engine()).segment_image(cases[0].image, cases[0].boxes, "best")
    for part, expected in zip(catalog, seen, strict=True):
        np.testing.assert_array_equal(to_input(part.image, frame_of(part.image, 256)), expected)
