"""`litemedsam prepare` as a user meets it."""

import cv2
import numpy as np
import pytest
import SimpleITK as sitk

from litemedsam_jax.cli import main
from litemedsam_jax.imaging import volumes


@pytest.fixture
def flare(tmp_path, oblique, anatomy, organs):
    """Two cases in folders as FLARE has them, and a mask without its image."""
    for name, array in (("images/a_0000", anatomy), ("images/b_0000", anatomy + 5)):
        (tmp_path / "images").mkdir(exist_ok=True)
        sitk.WriteImage(oblique(array), str(tmp_path / f"{name}.nii.gz"))
    (tmp_path / "labels").mkdir()
    for name in "abc":
        sitk.WriteImage(oblique(organs), str(tmp_path / f"labels/{name}.nii.gz"))
    return tmp_path


def _prepare(folder, *more, kind="volumes", status=0):
    arguments = ["prepare", kind, "-output_path", str(folder / "out"), "-num_workers", "1", *more]
    assert main(arguments) == status
    return folder / "out"


def _folders(folder):
    return "-img_path", str(folder / "images"), "-gt_path", str(folder / "labels")


def test_training_npz_as_the_reference_makes_them(flare, capsys, anatomy, organs):
    out = _prepare(
        flare, *_folders(flare), "--intensity", "reference", "--slices", "labelled",
        "--train-cases", "1", "--remove-labels", "12", status=1,
    )  # fmt: skip
    assert "c: FAILED" in capsys.readouterr().err  # a mask without an image is told, not skipped
    made = np.load(out / "MedSAM_train/CT_Abd/CT_Abd_a.npz")
    assert (out / "MedSAM_test/CT_Abd/CT_Abd_b.npz").is_file()
    # Written out from the specification: clip, scale by the clipped extremes, truncate.
    clipped = np.clip(anatomy.astype(np.float64), -160, 240)
    scaled = (clipped - clipped.min()) / (clipped.max() - clipped.min()) * 255
    np.testing.assert_array_equal(made["imgs"], np.uint8(scaled)[3:9])
    np.testing.assert_array_equal(made["gts"], np.where(organs == 2, 0, organs)[3:9])
    np.testing.assert_allclose(made["spacing"], (0.7, 0.8, 3.0), rtol=1e-6)
    assert made["imgs"].dtype == made["gts"].dtype == np.uint8


def test_slices_between_labels_are_kept_and_the_origin_moves(flare, organs, oblique):
    organs[6] = 0  # an empty slice within the range
    for name in "ab":
        sitk.WriteImage(oblique(organs), str(flare / f"labels/{name}.nii.gz"))
    (flare / "labels/c.nii.gz").unlink()
    out = _prepare(flare, *_folders(flare), "--save_nii")
    made = np.load(out / "MedSAM_train/CT_Abd/CT_Abd_a.npz")
    assert len(made["imgs"]) == 6
    whole = sitk.ReadImage(str(flare / "images/a_0000.nii.gz"))
    expected = whole.TransformIndexToPhysicalPoint((0, 0, 3))
    np.testing.assert_allclose(made["origin"], expected, atol=1e-4)
    saved = sitk.ReadImage(str(out / "MedSAM_train/CT_Abd/CT_Abd_a_gt.nii.gz"))
    np.testing.assert_allclose(saved.GetOrigin(), expected, atol=1e-4)
    np.testing.assert_allclose(saved.GetDirection(), whole.GetDirection(), atol=1e-6)


def test_a_dicom_series_becomes_a_case_and_comes_back_on_its_grid(tmp_path, series, organs, capsys):
    folder = series(tmp_path / "ct")
    image = volumes.read_volume(folder)
    flipped = sitk.Flip(volumes.to_image(organs, image.geometry), (False, True, False))
    sitk.WriteImage(flipped, str(tmp_path / "labels.nii.gz"))
    out = _prepare(
        tmp_path, "-img_path", str(folder), "-gt_path", str(tmp_path / "labels.nii.gz"), "--cases"
    )
    case = np.load(out / "imgs/3DBox_CT_Abd_ct.npz")
    assert case["boxes"].tolist() == [[8, 10, 3, 17, 19, 8], [8, 25, 5, 17, 32, 6]]
    assert case["labels"].tolist() == [1, 5]
    gts = np.load(out / "gts/3DBox_CT_Abd_ct.npz")["gts"]
    assert np.unique(gts).tolist() == [0, 1, 2]  # label k belongs to box k
    assert main(["check", f"{out}/imgs", "-g", f"{out}/gts", "-num_workers", "1"]) == 0

    (tmp_path / "segs").mkdir()
    np.savez(tmp_path / "segs/3DBox_CT_Abd_ct.npz", segs=gts)
    assert main(["export", f"{tmp_path}/segs", "-i", f"{out}/imgs", "-o", f"{tmp_path}/back"]) == 0
    back = volumes.read_labels(tmp_path / "back/3DBox_CT_Abd_ct.nii.gz")
    assert back.geometry.same_as(image.geometry)
    np.testing.assert_array_equal(back.array, np.where(organs == 2, 0, organs))


def test_the_shared_series_becomes_the_shared_case(shared, tmp_path):
    raw = shared / "raw/dicom"
    keep = ["1", "5", "6", "7", "8", "52", "63", "79"]
    out = _prepare(
        tmp_path, "-img_path", str(raw / "ct_abdomen"), "--cases",
        "-gt_path", str(raw / "ct_abdomen_labels.nii.gz"), "--keep-labels", *keep,
        "--min-voxels-3d", "0", "--min-pixels-2d", "0",
    )  # fmt: skip
    made = np.load(out / "imgs/3DBox_CT_Abd_ct_abdomen.npz")
    expected = np.load(shared / "cases/imgs/3DBox_CT_totalseg_dicom.npz")
    # The shared case truncates where we round.
    assert np.abs(made["imgs"].astype(int) - expected["imgs"]).max() <= 1
    assert len(made["boxes"]) == 8
    assert (made["boxes"][:2] == expected["boxes"][:2]).all()


def test_pictures_become_cases_and_training_data(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    rng = np.random.default_rng(0)
    labels = np.zeros((50, 60), np.uint8)
    labels[5:20, 5:20], labels[5:20, 40:55], labels[30:45, 10:30] = 1, 1, 2
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"images/{name}.png"), rng.integers(0, 255, (50, 60), np.uint8))
        cv2.imwrite(str(tmp_path / f"labels/{name}.png"), labels)
    cv2.imwrite(str(tmp_path / "labels/b.png"), labels[:40])
    out = _prepare(
        tmp_path, *_folders(tmp_path), "--cases", "--training", "--boxes-per", "component",
        "-modality", "US", "-anatomy", "neck", kind="images", status=1,
    )  # fmt: skip
    assert "the mask is 60x40 and its image 60x50" in capsys.readouterr().err
    case = np.load(out / "imgs/2DBox_US_neck_a.npz")
    assert case["imgs"].shape == (50, 60, 3)
    assert case["boxes"].tolist() == [[5, 5, 19, 19], [40, 5, 54, 19], [10, 30, 29, 44]]
    assert case["labels"].tolist() == [1, 1, 2]
    assert (out / "MedSAM_train/US_neck/US_neck_a.npz").is_file()
    assert (
        main(["npz-to-npy", "-npz_dir", str(out / "MedSAM_train"), "-npy_dir", f"{out}/npy"]) == 0
    )
    assert np.load(out / "npy/imgs/US_neck_a.npy").dtype == np.uint8


def test_one_mask_file_an_object(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels/a").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "images/a.png"), np.full((30, 30, 3), 9, np.uint8))
    for i in range(3):
        mask = np.zeros((30, 30), np.uint8)
        mask[10 * i : 10 * i + 8, 4:20] = 255
        cv2.imwrite(str(tmp_path / f"labels/a/{i}.png"), mask)
    out = _prepare(tmp_path, *_folders(tmp_path), "--cases", "--masks", "objects", kind="images")
    assert len(np.load(out / "imgs/2DBox_US_Abd_a.npz")["boxes"]) == 3


def test_prepare_says_what_is_wrong(flare, capsys):
    _prepare(flare, "-img_path", f"{flare}/none", "-gt_path", f"{flare}/labels", status=2)
    _prepare(flare, *_folders(flare), "-gt_name_suffix", ".mha", status=2)
    _prepare(flare, *_folders(flare), "-window_width", "0", status=2)
    _prepare(flare, *_folders(flare), "-img_name_suffix", ".jpg", status=2)
    one = str(flare / "labels/a.nii.gz")
    _prepare(flare, "-img_path", f"{flare}/images", "-gt_path", one, status=2)
    _prepare(flare, "-img_path", one, "-gt_path", f"{flare}/labels", status=2)
    told = capsys.readouterr().err
    assert "a.jpg: there is no such image for a.nii.gz, nor for any other mask (3)" in told
    assert "give one image, or the folder of a DICOM series" in told
    assert "give one mask as well" in told
    assert "there is no such file or folder" in told
    assert "holds no mask with the ending '.mha'" in told
    assert "width is 0" in told


def test_bad_volumes_leave_the_good_ones_prepared(tmp_path, oblique, anatomy, organs, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    whole, truth = oblique(anatomy), oblique(organs)
    hole = anatomy.astype(np.float32)
    hole[0, 0, 0] = np.nan
    images = {
        "good": whole,
        "time": sitk.JoinSeries([whole, whole]),
        "hole": oblique(hole),
        "small": whole[:20],
        "slice": whole[:, :, 5:6],
        "constant": oblique(anatomy * 0),
        "empty": whole,
    }
    for name, image in images.items():
        sitk.WriteImage(image, str(tmp_path / f"images/{name}_0000.mha"))
        label = oblique(organs * 0) if name == "empty" else truth
        label = truth[:, :, 5:6] if name == "slice" else label
        sitk.WriteImage(label, str(tmp_path / f"labels/{name}.nii.gz"))
    (tmp_path / "images/cut_0000.mha").write_bytes(b"ObjectType = Image, cut short")
    sitk.WriteImage(truth, str(tmp_path / "labels/cut.nii.gz"))
    more = ("--cases", "--mask-grid", "index", "-img_name_suffix", "_0000.mha")
    out = _prepare(tmp_path, *_folders(tmp_path), *more, status=1)
    told = dict(
        line.split(": ", 1) for line in capsys.readouterr().err.splitlines() if ": " in line
    )
    for name, words in {
        "time": "is 4D",
        "hole": "--fill-nan VALUE",
        "small": "30x40x12 voxels and its image 20x40x12",
        "cut": "cannot be read as a volume",
        "empty": "no label is left",
    }.items():
        assert words in told[name]
    written = sorted(path.stem for path in (out / "imgs").iterdir())
    assert written == ["3DBox_CT_Abd_constant", "3DBox_CT_Abd_good", "3DBox_CT_Abd_slice"]
    assert np.load(out / "imgs/3DBox_CT_Abd_slice.npz")["boxes"][:, [2, 5]].max() == 0


def test_dicom_folders_pair_with_masks_by_name(tmp_path, series, organs):
    for name in ("p1", "p2"):
        image = volumes.read_volume(series(tmp_path / f"images/{name}"))
        (tmp_path / "labels").mkdir(exist_ok=True)
        mask = volumes.to_image(organs, image.geometry)
        sitk.WriteImage(mask, str(tmp_path / f"labels/{name}.nii.gz"))
    out = _prepare(tmp_path, *_folders(tmp_path), "-img_name_suffix", "", "--cases")
    assert sorted(p.stem for p in (out / "gts").iterdir()) == [
        "3DBox_CT_Abd_p1",
        "3DBox_CT_Abd_p2",
    ]


def test_each_kind_is_sent_to_the_command_that_takes_it(flare, capsys):
    cv2.imwrite(str(flare / "a.png"), np.full((9, 9), 200, np.uint8))
    picture, volume = str(flare / "a.png"), str(flare / "images/a_0000.nii.gz")
    _prepare(flare, "-img_path", picture, "-gt_path", f"{flare}/labels/a.nii.gz", status=1)
    assert "`litemedsam prepare images` takes it" in capsys.readouterr().err
    _prepare(flare, "-img_path", volume, "-gt_path", picture, kind="images", status=1)
    assert "`litemedsam prepare volumes` takes it" in capsys.readouterr().err


def test_a_folder_of_damaged_dicom_is_told(flare, capfd):
    (flare / "series").mkdir()
    (flare / "series/a.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 50)
    masks = "-gt_path", f"{flare}/labels/a.nii.gz"
    _prepare(flare, "-img_path", f"{flare}/series", *masks, status=1)
    told = capfd.readouterr().err
    assert "a.dcm: cannot be read as a slice of the series" in told
    assert "WARNING" not in told  # ITK's own words
