"""Scores: the challenge's numbers, and the corrected ones where the challenge's are faulty."""

import csv
import warnings

import numpy as np
import pytest

from litemedsam_jax.evaluation import surface
from litemedsam_jax.evaluation.metrics import score_case
from tests.conftest import REPOSITORY

# The reference's own scores (metrics.csv) of the demo cases.
_DEMO = {
    "2DBox_Microscope_dsb2018_crop256": (0.7954, 0.9163),
    "3DBox_MR_brain1_tumor": (0.7095, 0.8708),
    "3DBox_MR_breast1_tumor": (0.6475, 0.9996),
}


def _square(at: int = 10, size: int = 10) -> np.ndarray:
    mask = np.zeros((40, 40), np.uint8)
    mask[at : at + size, 10 : 10 + size] = 1
    return mask


@pytest.mark.parametrize("case", _DEMO)
def test_demo_cases_score_as_the_reference_scores_them(case):
    truth = np.load(REPOSITORY / f"demo/gts/{case}.npz")
    segs = np.load(REPOSITORY / f"tests/data/reference_segs/{case}.npz")["segs"]
    score = score_case(truth["gts"], segs, truth.get("spacing", None))
    assert (round(score.dsc, 4), round(score.nsd, 4)) == _DEMO[case]


def test_shared_cases_score_as_the_reference_scores_them(shared):
    with (shared / "reference/metrics.csv").open() as stream:
        expected = {r["case"]: (float(r["dsc"]), float(r["nsd"])) for r in csv.DictReader(stream)}
    scored = {}
    for case in expected:
        truth = np.load(shared / "cases/gts" / case)
        segs = np.load(shared / "reference/segs" / case)["segs"]
        score = score_case(truth["gts"], segs, truth.get("spacing", None))
        scored[case] = (round(score.dsc, 4), round(score.nsd, 4))
    assert len(expected) == 31
    assert scored == expected


def _distances(gt, seg, spacing, limit=np.inf):
    maps = gt.view(np.uint8), seg.view(np.uint8)
    return dict(surface.label_distances(*maps, [1], spacing, limit))[1]


def _package_distances(gt, seg, spacing):
    from surface_distance import metrics

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names of SciPy that the package uses and SciPy 2 drops
        return metrics.compute_surface_distances(gt, seg, spacing)


# Crowded masks, whose elements are neighbours, and sparse ones, most of which lie far apart.
@pytest.mark.parametrize("share", [0.3, 0.003])
@pytest.mark.parametrize(
    "spacing", [(1.0, 1.0), (0.5, 2.0), (1.0, 1.0, 1.0), (0.7, 2.0, 3.0), (0.1, 0.1, 0.1)]
)
def test_distances_equal_the_package_s(spacing, share):
    from surface_distance import metrics

    rng = np.random.default_rng(len(spacing))
    shape = (23, 39, 17)[: len(spacing)]
    gt, seg = (rng.random(shape) < share for _ in range(2))
    gt[3, 4] = seg[20, 30] = True
    expected = _package_distances(gt, seg, spacing)
    found = _distances(gt, seg, spacing)
    assert found.keys() == expected.keys()
    for key in ("distances_gt_to_pred", "distances_pred_to_gt"):
        np.testing.assert_allclose(np.sort(found[key]), expected[key], atol=1e-12)
    for tolerance in (0.5, 1.0, 2.0):
        limited = _distances(gt, seg, spacing, limit=tolerance)
        for distances in (found, limited):
            assert surface.surface_dice(distances, tolerance) == pytest.approx(
                metrics.compute_surface_dice_at_tolerance(expected, tolerance), abs=1e-12
            )
    assert surface.robust_hausdorff(found, 95) == pytest.approx(
        metrics.compute_robust_hausdorff(expected, 95), abs=1e-9
    )


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize(("shape", "spacing"), [((30, 33), (1, 1)), ((9, 20, 21), (2.5, 0.8, 1))])
def test_labels_that_touch_are_measured_each_on_its_own(shape, spacing, kind):
    rng = np.random.default_rng(1)
    numbers = np.array([0, 1, 2, 7, 250 if kind == np.uint8 else 900], kind)
    gts = numbers[
        np.kron(rng.integers(0, 5, [n // 3 for n in shape]), np.ones([3] * len(shape), int))
    ]
    segs = np.roll(gts, 1, -1)
    found = dict(surface.label_distances(gts, segs, numbers[1:].tolist(), spacing))
    assert list(found) == numbers[1:].tolist()
    for label, distances in found.items():
        expected = _package_distances(gts == label, segs == label, spacing)
        for key, values in expected.items():
            np.testing.assert_allclose(np.sort(distances[key]), np.sort(values), atol=1e-12)


def test_2d_nsd_counts_the_area_in_the_challenge_and_the_contour_when_corrected():
    shifted = _square(at=13)
    assert score_case(_square(), shifted).nsd == pytest.approx(0.937, abs=1e-3)
    assert score_case(_square(), shifted, corrected=True).nsd == pytest.approx(0.603, abs=1e-3)


def test_3d_spacing_is_swapped_in_the_challenge_and_right_when_corrected():
    gts, segs = np.zeros((2, 20, 30, 30), np.uint8)
    gts[5:15, 10:20, 10:20] = 1
    segs[6:16, 10:20, 10:20] = 1  # one slice of 5 mm too high
    spacing = (1.0, 1.0, 5.0)
    assert score_case(gts, segs, spacing).nsd == pytest.approx(1.0, abs=1e-3)
    assert score_case(gts, segs, spacing, corrected=True).nsd == pytest.approx(0.904, abs=1e-3)


def test_nsd_below_a_dsc_of_two_tenths():
    far = _square(at=19)
    challenge = score_case(_square(), far)
    assert challenge.dsc == pytest.approx(0.1)
    assert challenge.nsd == 0
    assert "DSC <= 0.2" in challenge.notes[0]
    assert score_case(_square(), far, corrected=True).nsd > 0


def test_a_gap_in_the_labels_is_told_and_corrected():
    gts = _square()
    gts[30:35, 30:35] = 3  # there is no label 2
    challenge = score_case(gts, gts)
    assert np.isnan(challenge.dsc)
    assert "label 2 occurs in neither" in challenge.notes[0]
    corrected = score_case(gts, gts, corrected=True)
    assert (corrected.dsc, corrected.nsd) == (1.0, 1.0)
    assert [label.label for label in corrected.labels] == [1, 3]


def test_a_label_that_one_side_lacks_scores_zero():
    gts, segs = _square(), _square()
    segs[30:35, 30:35] = 2
    assert score_case(gts, segs).dsc == 1.0  # beyond the truth's last: ignored by the challenge
    assert score_case(gts, segs, corrected=True).dsc == 0.5
    missing = score_case(gts, np.zeros_like(gts), corrected=True, hd95=True)
    assert (missing.dsc, missing.nsd) == (0.0, 0.0)
    assert np.isnan(missing.hd95)
    assert any("HD95" in note for note in missing.notes)


@pytest.mark.parametrize("corrected", [False, True])
def test_empty_on_both_sides_is_told(corrected):
    empty = np.zeros((8, 8), np.uint8)
    score = score_case(empty, empty, corrected=corrected)
    assert np.isnan(score.dsc)
    assert "nothing to score" in score.notes[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_255_and_more_labels(dtype):
    count = 255 if dtype == np.uint8 else 300
    gts = np.zeros((2, 20, 20), dtype)
    gts.reshape(-1)[: 2 * count] = np.repeat(np.arange(1, count + 1), 2)
    score = score_case(gts, gts)
    assert (score.dsc, score.nsd, len(score.labels)) == (1.0, 1.0, count)


def test_hd95_is_a_distance_in_millimetres():
    gts, segs = np.zeros((2, 30, 30, 30), np.uint8)
    gts[5:20, 5:20, 5:20] = 1
    segs[5:20, 5:20, 8:23] = 1  # 3 voxels along x
    assert score_case(gts, segs, (2.0, 1.0, 1.0), corrected=True, hd95=True).hd95 == 6.0


@pytest.mark.parametrize(
    ("segs", "words"),
    [
        (np.zeros((40, 41), np.uint8), "same grid"),
        (np.full((40, 40), 0.5), "whole numbers"),
        (np.full((40, 40), np.nan), "whole numbers"),
        (np.full((40, 40), -1), "0 to 65535"),
        (np.full((40, 40), "a"), "whole numbers"),
    ],
)
def test_unusable_masks_are_told(segs, words):
    with pytest.raises(ValueError, match=words):
        score_case(_square(), segs)


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, 1, np.nan)])
def test_unusable_spacing_is_told(spacing):
    volume = np.ones((3, 4, 5), np.uint8)
    with pytest.raises(ValueError, match="three positive numbers"):
        score_case(volume, volume, spacing)


def test_bool_and_integral_floats_are_labels():
    gts = _square()
    assert score_case(gts > 0, gts.astype(np.float32)).dsc == 1.0
