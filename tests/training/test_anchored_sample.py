"""Samples with anchors among them."""

import numpy as np

from litemedsam_jax.training.anchored_sample import Anchor, AnchoredSample
from litemedsam_jax.training.config import DataConfig
from litemedsam_jax.training.samples import FinetuneSample


class Means:
    """Embeddings that say which image they are of."""

    def read(self, image):
        return image.mean(axis=(1, 2))


def test_half_of_the_samples_are_anchors_and_all_have_the_same_fields(catalog):
    sample = FinetuneSample(DataConfig(prompts="use"), 64, Means())
    box = np.array([1, 2, 30, 40], np.float32)
    target = np.full((64, 64), 90, np.uint8)
    anchors = [Anchor("a", np.full((20, 30), 7, np.uint8), box, target, 0.5)]
    rng = np.random.default_rng(0)
    both = [AnchoredSample(sample, anchors).random_map(catalog[0], rng) for _ in range(60)]
    assert 20 < sum(int(one["anchor"]) for one in both) < 40
    for one in both:
        assert set(one) == {"embedding", "mask", "box", "name", "iou", "anchor"}
        assert one["mask"].dtype == np.uint8 and one["box"].dtype == np.float32
        if one["anchor"]:
            assert one["name"] == "a" and one["mask"] is target and one["iou"] == 0.5
        else:
            assert set(np.unique(one["mask"])) == {0, 255}
    alone = AnchoredSample(sample, [])
    assert not any(alone.random_map(catalog[0], rng)["anchor"] for _ in range(9))
