"""Scores of cases by a strategy, with embeddings from disk."""

import numpy as np
import pytest

from litemedsam_jax.adaptation.cases import LabelledCase
from litemedsam_jax.adaptation.scoring import (
    CachedEngine,
    mean,
    scores_of_cases,
    slice_prompts,
)
from litemedsam_jax.imaging.boxes import boxes_of_labels
from litemedsam_jax.training.embedding_files import EmbeddingFiles
from litemedsam_jax.weights.adaptation_note import FROM_SLICE
from tests.support.fake_engine import Embedding, FakeEngine


def case_of(name: str, gts: np.ndarray) -> LabelledCase:
    boxes, labels = boxes_of_labels(gts)
    return LabelledCase(name, "other", gts * 20, gts, None, boxes, labels)


def test_the_mask_of_box_k_is_compared_with_the_label_it_came_from():
    gts = np.zeros((5, 256, 256), np.uint8)
    gts[1:4, 50:100, 60:120] = 7
    gts[1:4, 150:200, 60:120] = 2
    engine = FakeEngine()
    volume, image = case_of("volume", gts), case_of("image", gts[2])
    scores = scores_of_cases(engine, [volume, image], "clean")
    assert scores["image"].dsc > 0.97 and scores["volume"].dsc > 0.75
    assert scores["image"].nsd > 0.97 and 0 < scores["volume"].nsd < 1
    assert mean(scores) == pytest.approx(np.add(*scores.values()) / 2)
    assert np.isnan(mean({}).dsc)


def test_every_slice_is_encoded_once_for_any_number_of_decoders(tmp_path):
    gts = np.zeros((4, 256, 256), np.uint8)
    gts[:, 50:100, 60:120] = 1
    fake = FakeEngine()

    class Network:
        """Small embeddings, as the real engine takes and gives them; masks of the fake one."""

        def encode(self, image):
            fake.encode(image)
            return np.full((1, 2, 2, 3), image.mean(), np.float32)

        def decode(self, embedding, boxes):
            assert embedding.shape == (1, 2, 2, 3) and embedding.dtype == np.float32
            return fake.decode(Embedding(fake.images[0]), boxes)

    files = EmbeddingFiles(tmp_path, "a" * 64, (2, 2, 3), 1 << 20)
    for _ in range(2):
        engine = CachedEngine(Network(), files)
        assert scores_of_cases(engine, [case_of("volume", gts)], "clean")["volume"].dsc > 0.8
    assert len(fake.images) == 1  # its slices are the same image


def test_a_volume_is_scored_from_one_box_on_one_slice_of_each_object():
    gts = np.zeros((5, 256, 256), np.uint8)
    gts[1:4, 50:100, 60:120] = 7
    gts[2, 40:110, 60:120] = 7
    gts[1:4, 150:200, 60:120] = 2
    case = case_of("volume", gts)
    first, second = slice_prompts(case)
    assert (first.label, second.label) == (1, 2)  # of labels 2 and 7
    assert second.boxes[0].index == 2 and second.boxes[0].box == (60, 40, 119, 109)
    engine = FakeEngine()
    scores = scores_of_cases(engine, [case, case_of("image", gts[2])], FROM_SLICE)
    assert 0 < scores["volume"].dsc <= 1 and scores["image"].dsc > 0.97
