"""Prompts with the masks that the starting weights give for them."""

import numpy as np

from litemedsam_jax.adaptation.anchors import OTHERS, OWN, make_anchors
from litemedsam_jax.adaptation.cases import LabelledCase, catalog_of
from litemedsam_jax.imaging.boxes import boxes_of_labels
from litemedsam_jax.training.config import DataConfig
from litemedsam_jax.training.embedding_files import EmbeddingFiles
from litemedsam_jax.training.samples import FinetuneSample

DATA = DataConfig(prompts="use", flips=False)


def catalog(name: str, place: int):
    gts = np.zeros((2, 100, 128), np.uint8)
    gts[:, place : place + 30, place : place + 40] = 1
    boxes, labels = boxes_of_labels(gts)
    return catalog_of([LabelledCase(name, "CT", gts * 200, gts, None, boxes, labels)])


def decode(embedding, boxes):
    assert boxes.shape == (1, 4) and embedding.shape == (2, 2, 3)
    logits = np.full((1, 256, 256), -40.0)
    logits[0, 10:20] = 0.0
    return logits, np.array([0.75])


def encode(image):
    return np.full((2, 2, 3), image.mean())


def test_anchors_lie_on_other_images_and_elsewhere_on_ones_own(tmp_path):
    files = EmbeddingFiles(tmp_path, "a" * 64, (2, 2, 3), 1 << 20)
    own, others = catalog("own", 20), catalog("other", 50)
    sample = FinetuneSample(DATA, 256, files)
    rng = np.random.default_rng(0)
    anchors = make_anchors(own, others, sample, encode, files, decode, rng)
    assert sum(one.name.startswith("own") for one in anchors) == OWN
    assert sum(one.name.startswith("other") for one in anchors) == OTHERS
    for one in anchors:
        assert one.box.shape == (4,) and (one.box >= 0).all() and (one.box <= 255).all()
        assert one.target[15, 0] == 128 and one.target[100, 0] == 0 and one.iou == 0.75
    objects = np.array([40, 40, 119, 99])  # of one's own, in the square
    for one in anchors:
        if one.name.startswith("own"):
            low = np.maximum(one.box[:2], objects[:2])
            both = np.prod(np.maximum(np.minimum(one.box[2:], objects[2:]) - low, 0))
            assert both / (79 * 59 + np.prod(one.box[2:] - one.box[:2]) - both) < 0.25
    alone = make_anchors(own, None, sample, encode, files, decode, rng)
    assert len(alone) == OWN
