"""`infer.py` on image files: masks of the input's kind, on its grid. The network is a stand-in."""

import json

import cv2
import numpy as np
import pytest
import SimpleITK as sitk

from litemedsam_jax.cli import main
from litemedsam_jax.imaging import box_source, volumes
from litemedsam_jax.inference.predictor import LiteMedSAM
from tests.support.fake_engine import FakeEngine

SHADES = np.arange(40 * 50 * 3, dtype=np.uint8).reshape(40, 50, 3)


class _Filler:
    """Fills every box, so that what comes out can be foretold."""

    engine = FakeEngine()

    def segment_volume(self, image, boxes, *_):
        segs = np.zeros(image.shape[:3], np.uint8)
        for k, (x0, y0, z0, x1, y1, z1) in enumerate(np.asarray(boxes, int), start=1):
            segs[z0 : z1 + 1, y0 : y1 + 1, x0 : x1 + 1] = k
        return segs

    def segment_image(self, image, boxes, *_):
        segs = np.zeros(image.shape[:2], np.uint8)
        for k, (x0, y0, x1, y1) in enumerate(np.asarray(boxes, int), start=1):
            segs[y0 : y1 + 1, x0 : x1 + 1] = k
        return segs


@pytest.fixture(autouse=True)
def filler(monkeypatch):
    monkeypatch.setattr(LiteMedSAM, "from_pretrained", lambda *_, **__: _Filler())


def _segment(source, out, boxes, *more) -> int:
    return main(["segment", "-i", str(source), "-o", str(out), "--boxes", str(boxes), *more])


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_volume_with_boxes_in_millimetres(tmp_path, oblique, anatomy, suffix):
    image = oblique(anatomy)
    source = tmp_path / f"ct{suffix}"
    sitk.WriteImage(image, str(source))
    corners = [image.TransformIndexToPhysicalPoint(c) for c in ((8, 10, 3), (17, 19, 8))]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"units": "mm", "boxes": [[*corners[0], *corners[1]]]}))
    assert _segment(source, tmp_path / "out", path, "--overlay", f"{tmp_path}/png") == 0
    made = sitk.ReadImage(str(tmp_path / f"out/ct{suffix}"))
    assert made.GetSize() == image.GetSize()
    np.testing.assert_allclose(made.GetOrigin(), image.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(made.GetSpacing(), image.GetSpacing(), atol=1e-6)
    np.testing.assert_allclose(made.GetDirection(), image.GetDirection(), atol=1e-6)
    # On a turned grid the box that encloses the millimetre box is larger than the object.
    assert (sitk.GetArrayFromImage(made)[3:9, 10:20, 8:18] == 1).all()
    assert (tmp_path / "png/ct.png").is_file()


def test_a_dicom_series_with_its_label_file(tmp_path, series, organs, capsys):
    highdicom = pytest.importorskip("highdicom")
    folder = series(tmp_path / "ct")
    image = volumes.read_volume(folder)
    flipped = sitk.Flip(volumes.to_image(organs, image.geometry), (False, True, False))
    sitk.WriteImage(flipped, str(tmp_path / "organs.nii.gz"))
    done = _segment(
        folder, tmp_path / "out", tmp_path / "organs.nii.gz", "--dicom-seg", "--labels", "1", "5"
    )
    assert done == 0
    made = volumes.read_labels(tmp_path / "out/ct.nii.gz")
    assert made.geometry.same_as(image.geometry)
    # The organs are boxes, which the stand-in fills; their labels are kept.
    np.testing.assert_array_equal(made.array, np.where(organs == 2, 0, organs))
    seg = highdicom.seg.segread(tmp_path / "out/ct.dcm")
    assert [s.segment_label for s in seg.SegmentSequence] == ["label 1", "label 5"]
    assert "taken as CT, window 40/400" in capsys.readouterr().out
    command = ["evaluate", "-s", f"{tmp_path}/out/ct.nii.gz", "-g", f"{tmp_path}/organs.nii.gz"]
    tables = ["-csv_dir", f"{tmp_path}/m.csv", "--per-label", f"{tmp_path}/l.csv"]
    assert main([*command, *tables, "--corrected"]) == 0
    assert "organs,5,1.0,1.0" in (tmp_path / "l.csv").read_text()


def test_a_volume_s_overlay_scrolls_on_request(tmp_path, oblique, anatomy):
    sitk.WriteImage(oblique(anatomy), str(tmp_path / "ct.nii.gz"))
    (tmp_path / "b.json").write_text("[[8, 10, 3, 17, 19, 8]]")
    more = ("--overlay", f"{tmp_path}/film", "--overlay-format", "gif")
    assert _segment(tmp_path / "ct.nii.gz", tmp_path / "out", tmp_path / "b.json", *more) == 0
    assert (tmp_path / "film/ct.gif").read_bytes().startswith(b"GIF89a")


def test_a_folder_of_pictures_with_boxes_in_one_table(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.jpg", "c.tif", "d.png"):
        cv2.imwrite(str(tmp_path / "in" / name), SHADES)
    rows = "".join(f"{name},5,6,20,30\n" for name in "abc")
    (tmp_path / "boxes.csv").write_text(f"case,x_min,y_min,x_max,y_max\n{rows}")
    np.savez(
        tmp_path / "in/e.npz",
        imgs=SHADES,
        boxes=np.array([[1, 2, 10, 20]]),
    )
    assert _segment(tmp_path / "in", tmp_path / "out", tmp_path / "boxes.csv") == 1
    assert "d.png: FAILED" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "a.png", "b.png", "c.png", "e.npz", "efficiency.csv",
    ]  # fmt: skip
    labels = cv2.imread(str(tmp_path / "out/b.png"), cv2.IMREAD_UNCHANGED)
    assert labels.shape == (40, 50)
    assert (labels[6:31, 5:21] == 1).all() and labels.sum() == 25 * 16


def test_faults_are_told_and_nothing_is_overwritten(tmp_path, oblique, anatomy, organs, capsys):
    sitk.WriteImage(oblique(anatomy), str(tmp_path / "ct.nii.gz"))
    sitk.WriteImage(oblique(organs * 0), str(tmp_path / "empty.nii.gz"))
    sitk.WriteImage(oblique(organs)[:20], str(tmp_path / "small.nii.gz"))
    before = (tmp_path / "ct.nii.gz").read_bytes()
    source, out = tmp_path / "ct.nii.gz", tmp_path / "out"
    (tmp_path / "flat.json").write_text("[[1, 2, 3, 4]]")
    (tmp_path / "far.json").write_text("[[100, 100, 50, 120, 130, 60]]")
    for boxes, words in {
        "empty.nii.gz": "holds no label to box",
        "flat.json": "boxes have 6 numbers",
        "far.json": "lies wholly outside",
    }.items():
        assert _segment(source, out, tmp_path / boxes) == 1
        assert words in capsys.readouterr().err
    assert _segment(source, out, tmp_path / "small.nii.gz", "--mask-grid", "index") == 1
    assert "20x40x12 voxels and its image 30x40x12" in capsys.readouterr().err
    assert _segment(source, out, tmp_path / "nowhere.json") == 2
    assert main(["segment", "-i", str(source), "-o", str(out)]) == 1
    assert "--boxes FILE or DIR" in capsys.readouterr().err
    (tmp_path / "box.json").write_text("[[1, 2, 3, 10, 12, 5]]")
    assert _segment(source, tmp_path, tmp_path / "box.json") == 1
    assert "which the masks would replace" in capsys.readouterr().err
    assert (tmp_path / "ct.nii.gz").read_bytes() == before


def test_a_picture_beside_npz_cases_is_no_case_without_boxes_for_it(tmp_path):
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in/preview.png"), np.zeros((5, 5), np.uint8))
    box, image = np.array([[1, 2, 10, 20]]), SHADES
    np.savez(tmp_path / "in/e.npz", imgs=image, boxes=box)
    assert main(["segment", "-i", f"{tmp_path}/in", "-o", f"{tmp_path}/out"]) == 0


def test_images_and_masks_in_one_folder_find_each_other(tmp_path):
    names = ("a_0000.nii.gz", "a.nii.gz", "b_image.nrrd", "b_mask.nrrd", "c.png", "c.json")
    paths = [tmp_path / name for name in names]
    for path in paths:
        path.write_bytes(b"")
    assert box_source.find_boxes(paths[0], tmp_path) == paths[1]
    assert box_source.find_boxes(paths[2], tmp_path) == paths[3]
    assert box_source.find_boxes(paths[4], tmp_path) == paths[5]
    assert box_source.without_boxes(paths[:5], tmp_path) == [paths[0], paths[2], paths[4]]
