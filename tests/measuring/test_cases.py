"""`litemedsam measure`: files in, CSV and JSON out."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk

from litemedsam_jax.cli import main


@pytest.fixture
def folders(tmp_path):
    """A CT with a ball of 20 mm at (-10, 5, 30) mm whose HU are 50; its mask beside it."""
    z, y, x = np.mgrid[:20, :40, :50].astype(float)
    origin, spacing = (-35.0, -14.0, 0.0), (1.0, 1.0, 3.0)
    place = [a * s + o for a, s, o in zip((x, y, z), spacing, origin, strict=True)]
    ball = sum((a - c) ** 2 for a, c in zip(place, (-10, 5, 30), strict=True)) <= 10**2
    values = np.where(ball, 50, -900).astype(np.int16)
    for folder, name, array in (("imgs", "a_0000", values), ("segs", "a", ball.astype(np.uint8))):
        (tmp_path / folder).mkdir()
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        sitk.WriteImage(image, str(tmp_path / folder / f"{name}.nii.gz"))
    return tmp_path


def _measure(*arguments):
    return main([str(one) for one in arguments], command="measure")


def _rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_folder_to_csv_and_json_with_the_lines_drawn(folders):
    outputs = [folders / "m.csv", folders / "m.json"]
    status = _measure(
        folders / "segs", "--images", folders / "imgs", "-o", outputs[0], "-o", outputs[1],
        "--overlay", folders / "drawn",
    )  # fmt: skip
    assert status == 0 and (folders / "drawn" / "a.png").stat().st_size > 1000
    (row,) = _rows(outputs[0])
    (record,) = json.loads(outputs[1].read_text())
    assert row["case"] == record["case"] == "a" and row["unit"] == "mm"
    assert record["longest_axial"] == pytest.approx(20, abs=1)
    assert record["perpendicular_axial"] == pytest.approx(20, abs=1.5)
    assert record["volume_ml"] == pytest.approx(4 / 3 * np.pi, rel=0.05)
    centre = [record[f"centroid_{axis}_mm"] for axis in "xyz"]
    np.testing.assert_allclose(centre, [-10, 5, 30], atol=0.01)
    assert record["mean"] == 50 and record["sd"] == 0 and record["parts"] == 1
    assert float(row["longest_axial"]) == record["longest_axial"]


def test_masks_alone_are_measured_on_their_own_grid(folders, capsys):
    assert _measure(folders / "segs") == 0
    assert "4.2" in capsys.readouterr().out  # ml


def test_npz_masks_with_their_images(tmp_path):
    imgs, segs = np.zeros((6, 20, 20), np.uint8), np.zeros((6, 20, 20), np.uint8)
    segs[2:4, 5:10, 5:15] = 2
    imgs[0, 0, 0], imgs[segs > 0] = 255, 7
    for folder in ("imgs", "segs"):
        (tmp_path / folder).mkdir()
    np.savez(tmp_path / "imgs" / "3DBox_a.npz", imgs=imgs, spacing=[0.5, 0.5, 4])
    np.savez(tmp_path / "segs" / "3DBox_a.npz", segs=segs)
    out = tmp_path / "m.json"
    assert _measure(tmp_path / "segs", "-i", tmp_path / "imgs", "-o", out) == 0
    (record,) = json.loads(out.read_text())
    assert record["label"] == 2 and record["volume_ml"] == pytest.approx(0.1)
    assert record["mean"] == 7 and record["centroid_x_mm"] is None


def test_what_cannot_be_measured_is_told_and_the_rest_is_done(folders, capsys):
    (folders / "segs" / "b.nii.gz").write_bytes(b"no image")
    out = folders / "m.csv"
    assert _measure(folders / "segs", "-i", folders / "imgs", "-o", out) == 1
    assert len(_rows(out)) == 1
    assert "b.nii.gz: FAILED:" in capsys.readouterr().err
    assert _measure(folders / "none") == 2
