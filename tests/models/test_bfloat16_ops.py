"""bfloat16 with the published weights: nearly the masks of float32, and not by being float32."""

import numpy as np
import pytest

from litemedsam_jax.inference.predictor import LiteMedSAM
from tests.conftest import REPOSITORY

CASE = REPOSITORY / "demo" / "imgs" / "2DBox_Fundus_retina.npz"
# 0.9926 here: a border that float32 itself is unsure of. OpenVINO's bfloat16 falls to 0.86.
LOWEST_DSC = 0.98


@pytest.fixture(scope="module")
def low(weights_file) -> LiteMedSAM:
    return LiteMedSAM.from_pretrained(weights_file, "cpu", "bfloat16")


def test_masks_agree_with_those_of_float32(model, low):
    with np.load(CASE) as case:
        image, boxes = case["imgs"], case["boxes"]
    results = []
    for one in (model, low):
        one.set_image(image)
        results.append(one.predict(boxes))
    (exact, _, exact_logits), (masks, _, logits) = results
    both = 2 * (exact & masks).sum((1, 2)) / (exact.sum((1, 2)) + masks.sum((1, 2)))
    assert both.min() >= LOWEST_DSC
    assert not np.array_equal(exact_logits, logits)
    assert np.abs(exact_logits - logits).max() < 1
