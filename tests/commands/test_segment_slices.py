"""`litemedsam segment` from a box on one slice to measurements, with the real network."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk

from litemedsam_jax.cli import main
from tests.conftest import REPOSITORY
from tests.support.batches import read_npz

NAME = "3DBox_MR_breast1_tumor"


@pytest.fixture(scope="module")
def tumour() -> tuple[dict, np.ndarray]:
    case = read_npz(REPOSITORY / "demo" / "imgs" / f"{NAME}.npz")
    return case, read_npz(REPOSITORY / "demo" / "gts" / f"{NAME}.npz")["gts"] == 1


def _box(truth: np.ndarray) -> tuple[int, list[int]]:
    index = int(truth.sum(axis=(1, 2)).argmax())
    rows, columns = (np.flatnonzero(truth[index].any(axis=axis)) for axis in (1, 0))
    return index, [int(one) for one in (columns[0], rows[0], columns[-1], rows[-1])]


def _dsc(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def _segment(folder, weights, *more) -> int:
    flags = ["-i", folder / "in", "-o", folder / "out", "--weights", weights, *more]
    return main([str(one) for one in flags], command="segment")


def test_a_volume_file_its_boxes_json_and_what_the_mask_measures(tmp_path, tumour, weights_file):
    case, truth = tumour
    (tmp_path / "in").mkdir()
    image = sitk.GetImageFromArray(case["imgs"].astype(np.int16))
    image.SetSpacing([float(one) for one in case["spacing"]])
    sitk.WriteImage(image, str(tmp_path / "in" / "mr.nii.gz"))
    index, box = _box(truth)
    present = np.flatnonzero(truth.any(axis=(1, 2)))
    ends = [int(present[0]), int(present[-1])]
    entry = {"z": index, "box": box, "range": ends, "label": 7}
    (tmp_path / "boxes.json").write_text(json.dumps({"mr": [entry]}))
    more = ["--boxes", tmp_path / "boxes.json", "--measure", "--postprocess", "largest-part"]
    assert _segment(tmp_path, weights_file, *more, "--overlay", tmp_path / "drawn") == 0
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "mr.nii.gz")))
    assert set(np.unique(mask)) == {0, 7} and _dsc(mask == 7, truth) > 0.6
    assert not mask[: ends[0]].any() and not mask[ends[1] + 1 :].any()
    with (tmp_path / "out" / "measurements.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["label"] == "7" and row["parts"] == "1"
    volume = (mask == 7).sum() * np.prod(case["spacing"]) / 1000
    assert float(row["volume_ml"]) == pytest.approx(volume, rel=0.01)
    assert (tmp_path / "drawn" / "mr.png").exists()


def test_the_challenges_npz_gives_what_the_python_interface_does(
    tmp_path, tumour, model, weights_file
):
    from litemedsam_jax import SliceBox, SlicePrompt

    case, truth = tumour
    index, (x_min, y_min, x_max, y_max) = _box(truth)
    box = {"z_min": 8, "z_max": 10, "z_mid": index, "z_mid_x_min": x_min, "z_mid_y_min": y_min,
           "z_mid_x_max": x_max, "z_mid_y_max": y_max}  # fmt: skip
    (tmp_path / "in").mkdir()
    arrays = {"imgs": case["imgs"], "spacing": case["spacing"], "boxes": [box]}
    np.savez_compressed(tmp_path / "in" / "a.npz", **arrays)
    assert _segment(tmp_path, weights_file) == 0
    prompt = SlicePrompt((SliceBox(index, (x_min, y_min, x_max, y_max)),), 8, 10)
    expected = model.segment_from_slices(case["imgs"], [prompt])
    segs = read_npz(tmp_path / "out" / "a.npz")["segs"]
    np.testing.assert_array_equal(segs, expected)
    assert _dsc(segs == 1, truth) > 0.6
