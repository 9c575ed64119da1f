"""Whole cases against the masks that the PyTorch reference makes of them."""

from pathlib import Path

import numpy as np
import pytest

from litemedsam_jax.imaging.case import read_case
from tests.conftest import REPOSITORY
from tests.support.batches import read_npz

DEMO = sorted(path.stem for path in (REPOSITORY / "demo" / "imgs").glob("*.npz"))
# Few and small: the whole set is the benchmark's business.
SHARED = [
    "2DBox_US_usgra_0000",
    "2DBox_Endoscopy_kvasir_cju0roawv",
    "3DBox_MR_totalseg_lowres",  # seven organs, whose propagation depends on their labels
]


def _scores(model, case_path: Path, reference: Path) -> list[float]:
    """DSC of every label of a case."""
    case = read_case(case_path)
    assert case.boxes is not None
    segment = model.segment_volume if case.is_volume else model.segment_image
    ours, theirs = segment(case.image, case.boxes), read_npz(reference)["segs"]
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    labels = np.union1d(np.unique(ours), np.unique(theirs))
    return [
        2 * np.sum((ours == k) & (theirs == k)) / (np.sum(ours == k) + np.sum(theirs == k))
        for k in labels[labels > 0]
    ]


def _check(scores: list[float]) -> None:
    assert len(scores) > 0
    assert np.mean(scores) >= 0.9995
    assert min(scores) >= 0.995


@pytest.mark.parametrize("name", DEMO)
def test_masks_of_the_demo_are_the_references(model, name):
    reference = REPOSITORY / "tests" / "data" / "reference_segs" / f"{name}.npz"
    _check(_scores(model, REPOSITORY / "demo" / "imgs" / f"{name}.npz", reference))


@pytest.mark.parametrize("name", SHARED)
def test_masks_of_other_cases_are_the_references(model, shared, name):
    case = shared / "cases" / "imgs" / f"{name}.npz"
    if not case.exists():
        pytest.skip(f"{case} is missing: its masks are not compared")
    _check(_scores(model, case, shared / "reference" / "segs" / f"{name}.npz"))


def test_the_masks_compared_are_those_that_infer_makes(model):
    """Without a device named, and without an accelerator, it is the CPU's path in row tiles."""
    assert model.engine.device == "cpu"
