"""Prompts with the masks that the starting weights give for them."""

import numpy as np

from litemedsam_jax.adaptation.anchors import OTHERS, OWN, anchors_on_others, anchors_on_own
from litemedsam_jax.adaptation.cases import LabelledCase, catalog_of
from litemedsam_jax.imaging.boxes import boxes_of_labels
from litemedsam_jax.training.config import DataConfig
from litemedsam_jax.training.samples import FinetuneSample
from tests.support.fake_engine import FakeEngine

DATA = DataConfig(prompts="use", flips=False)


def catalog(name: str, place: int):
    gts = np.zeros((2, 100, 128), np.uint8)
    gts[:, place : place + 30, place : place + 40] = 1
    boxes, labels = boxes_of_labels(gts)
    return catalog_of([LabelledCase(name, "CT", gts * 200, gts, None, boxes, labels)])


def rows_ten_to_twenty(image, box):
    logits = np.full((256, 256), -40.0)
    logits[10:20] = 0.0
    return logits


def test_anchors_lie_on_other_images_and_elsewhere_on_ones_own():
    own, others = catalog("own", 20), catalog("other", 50)
    engine, rng = FakeEngine(rows_ten_to_twenty), np.random.default_rng(0)
    anchors = anchors_on_others(others, FinetuneSample(DATA, 256), engine, rng)
    anchors += anchors_on_own(own, 256, engine, rng)
    assert sum(one.name.startswith("own") for one in anchors) == OWN
    assert sum(one.name.startswith("other") for one in anchors) == OTHERS
    for one in anchors:
        assert one.box.shape == (4,) and (one.box >= 0).all() and (one.box <= 255).all()
        assert one.target[15, 0] == 128 and one.target[100, 0] == 0 and one.iou == 1
    objects = np.array([40, 40, 119, 99])  # of one's own, in the square
    for one in anchors:
        if one.name.startswith("own"):
            low = np.maximum(one.box[:2], objects[:2])
            both = np.prod(np.maximum(np.minimum(one.box[2:], objects[2:]) - low, 0))
            assert both / (79 * 59 + np.prod(one.box[2:] - one.box[:2]) - both) < 0.25
    assert anchors_on_others(catalog_of([]), FinetuneSample(DATA, 256), engine, rng) == []
