"""Adaptation as a whole: learning and holding on with a small network, and what is decided."""

from functools import partial

import jax
import numpy as np
import pytest

from litemedsam_jax.adaptation.adapt import Adapter, Start, adapt, blended
from litemedsam_jax.adaptation.cases import LabelledCase, Score
from litemedsam_jax.config import tiny_for_tests
from litemedsam_jax.imaging.boxes import boxes_of_labels
from litemedsam_jax.imaging.input_frame import Frame, edges_to_input, to_input
from litemedsam_jax.models.lite_medsam import LiteMedSAMNetwork
from litemedsam_jax.training.config import DataConfig, LossConfig, OptimizerConfig, TrainingConfig
from litemedsam_jax.training.embedding_files import EmbeddingFiles
from litemedsam_jax.training.samples import padded_mask
from litemedsam_jax.weights.tree import flatten, unflatten
from tests.support.fake_engine import FakeEngine
from tests.support.small_network import random_variables, small_model

MODEL = small_model()  # of 64x64 pixels
DECODE = jax.jit(partial(LiteMedSAMNetwork(MODEL).apply, method="decode"))
FRAME = Frame(256, 256, 64)


def disc_case(name: str, seed: int, bright: int = 200) -> LabelledCase:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:256, :256]
    y, x = rng.integers(90, 160, 2)
    gts = ((rows - y) ** 2 + (columns - x) ** 2 < 45**2).astype(np.uint8)
    noise = rng.integers(0, 20, gts.shape)
    image = (gts.astype(np.int64) * bright + noise + 35).astype(np.uint8)
    boxes, labels = boxes_of_labels(gts)
    return LabelledCase(name, name.split("_")[0], image, gts, None, boxes, labels)


def encode(image: np.ndarray) -> np.ndarray:
    """(64, 64, 3) -> (1, 16, 16, 16) float32: brightness along a random direction."""
    small = image[..., 0].reshape(16, 4, 16, 4).mean((1, 3))
    return (small[..., None] * np.random.default_rng(0).normal(size=16))[None].astype(np.float32)


class SmallEngine:
    """Decodes with the small network, which the real one does not run."""

    encode = staticmethod(encode)

    def __init__(self, variables: dict):
        self._variables = unflatten(variables)

    def with_decoder(self, variables: dict) -> "SmallEngine":
        return SmallEngine(variables)

    def decode(self, embedding, boxes):
        logits, iou = DECODE(self._variables, embedding, boxes[None])
        return np.asarray(logits)[0, :, 0], np.asarray(iou)[0, :, 0]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    variables, folder = random_variables(MODEL), tmp_path_factory.mktemp("start")
    flat = {name: np.asarray(value) for name, value in flatten(variables).items()}
    files = EmbeddingFiles(folder, "a" * 64, (16, 16, 16), 1 << 30)
    return Start(variables, {}, SmallEngine(flat), files)


@pytest.fixture(scope="module")
def learned(start, tmp_path_factory):
    """Bright discs to learn, dark ones that are anchors; and what came of it."""
    own = [disc_case(f"US_{k}", k) for k in range(3)]
    others = [disc_case(f"MR_{k}", 50 + k, bright=-30) for k in range(3)]
    folder = tmp_path_factory.mktemp("run")
    config = TrainingConfig(
        "finetune",
        MODEL,
        DataConfig(batch_size=4, workers=0, flips=False, prompts="use"),
        OptimizerConfig(freeze=("encoder",), learning_rate=1e-2, schedule="cosine", warmup_steps=2),
        LossConfig(anchor_weight=1.0),
        work_dir=str(folder),
        epochs=1,
        steps_per_epoch=30,
    )
    return own, others, Adapter(config, start, others, "clean").learn(own, "all")


def logits_before_and_after(case, start, end):
    """(64, 64) each, of a disc's box."""
    seen, boxes = encode(to_input(case.image, FRAME)), edges_to_input(case.boxes, FRAME)
    engines = [start.engine, start.engine.with_decoder(flatten(end))]
    return [engine.decode(seen, boxes)[0][0] for engine in engines]


def test_the_decoder_learns_on_cached_embeddings_and_the_encoder_stays(start, learned):
    own, _, end = learned
    inside = padded_mask(own[0].gts, 1, FRAME) > 0
    first, last = logits_before_and_after(own[0], start, end)
    contrast = [one[inside].mean() - one[~inside].mean() for one in (first, last)]
    assert contrast[1] > contrast[0] + 0.2
    before, after = flatten(start.variables["params"]), flatten(end["params"])
    changed = {name.split("/")[0] for name in before if (before[name] != after[name]).any()}
    assert changed == {"prompt_encoder", "mask_decoder"}


def test_anchors_keep_what_the_weights_gave_for_other_images(start, learned):
    """Logits of dark discs stay where those of bright ones, which it learned, move."""
    own, others, end = learned
    moved = []
    for case in (own[0], others[0]):
        first, last = logits_before_and_after(case, start, end)
        moved.append(np.abs(last - first).mean())
    assert moved[1] < 0.5 * moved[0]


def scalar(value: float) -> dict:
    return {"params": {"a": np.float32(value)}, "buffers": {}}


class Scripted(Adapter):
    """Learns "a" = 1 from anything; scores are functions of "a"."""

    def __init__(self, folder, own, other=None, anchors=("MR_1",)):
        files = EmbeddingFiles(folder, "a" * 64, (16, 16, 16), 1)
        start = Start(scalar(0), {}, FakeEngine(), files)
        config = TrainingConfig("finetune", tiny_for_tests(), work_dir=str(folder))
        others = [disc_case(name, 1) for name in anchors] if other else []
        super().__init__(config, start, others, "clean")
        self.own, self.other, self.learned = own, other, []
        self.seen = 0  # masks in which no step gains anything; 1: true ones

    def learn(self, cases, name):
        self.learned.append((name, [case.name for case in cases]))
        return scalar(1)

    def scores(self, variables, cases, on_case=None):
        for case in cases if on_case else ():
            on_case(case, case.gts * self.seen)
        score = {"MR": self.other, "US": self.own}
        a = variables["params"]["a"]
        return {c.name: Score(float(score[c.modality](a)), 0.5) for c in cases}


CASES = [disc_case(f"US_{k}", k) for k in range(4)]


@pytest.mark.parametrize(
    "own, other, blend",
    [
        (lambda a: 0.5 + 0.1 * a, None, 0.5),  # no anchors were given; of few cases half at most
        (lambda a: 0.5 + 0.1 * a, lambda a: 0.9, 0.5),
        (lambda a: 0.5 - (a - 0.25) ** 2, lambda a: 0.9, 0.25),  # a quarter of it is best
        (lambda a: 0.5 + 0.1 * a, lambda a: 0.9 - 0.02 * a, 0.25),  # half a point may be lost
        (lambda a: 0.5 + 0.1 * a, lambda a: 0.9 - a, 0.0),  # no gain is worth forgetting
        (lambda a: 0.5 + 0.01 * a, lambda a: 0.9, 0.0),  # a gain that is none
        (lambda a: 0.5 - 0.1 * a, lambda a: 0.9, 0.0),
    ],
)
def test_the_blend_that_gains_most_and_forgets_nothing_is_taken(tmp_path, own, other, blend):
    adapter = Scripted(tmp_path, own, other)
    result = adapt(adapter, CASES, 2)
    assert result.blend == blend and result.variables["params"]["a"] == blend
    assert result.estimate.before == {f"US_{k}": Score(own(0), 0.5) for k in range(4)}
    if blend and other:
        kept, before = result.anchor_after[blend]["MR_1"], result.anchor_before["MR_1"]
        assert kept.dsc == pytest.approx(other(blend)) and before.dsc - kept.dsc <= 0.005 + 1e-9
    gains = max(own(0.5), own(0.25)) > own(0) + 0.01
    assert [name for name, _ in adapter.learned] == ["fold_1", "fold_2"] + ["all"] * gains
    assert len(adapter.learned[0][1]) == 2
    assert set(adapter.pictured["US_0"]) == {0.0, 0.25, 0.5}


def test_a_step_that_cleans_masks_is_taken_without_learning(tmp_path):
    adapter = Scripted(tmp_path, lambda a: 0.5 - 0.1 * a)
    adapter.seen = 1  # as if each step had mended masks of 0.5
    result = adapt(adapter, CASES, 2)
    assert result.blend == 0 and result.estimate.step
    assert min(result.estimate.after.values()) > (0.99, 0) and result.blends[0.0].dsc > 0.99
    assert result.variables["params"]["a"] == 0
    assert [name for name, _ in adapter.learned] == ["fold_1", "fold_2"]


class OneLoses(Scripted):
    """One of nine anchors loses three points with a half, one and a half with a quarter."""

    def scores(self, variables, cases, on_case=None):
        scores = super().scores(variables, cases, on_case)
        lost = 0.06 * float(variables["params"]["a"])
        return {
            name: Score(dsc - lost * (name == "MR_8"), nsd) for name, (dsc, nsd) in scores.items()
        }


def test_no_case_of_other_kinds_may_lose_two_points(tmp_path):
    names = [f"MR_{k}" for k in range(9)]  # 0.3 points on their mean
    adapter = OneLoses(tmp_path, lambda a: 0.5 + 0.1 * a, lambda a: 0.9, names)
    assert adapt(adapter, CASES, 2).blend == 0.25


def test_of_many_cases_all_that_was_learned_may_be_taken(tmp_path):
    cases = [disc_case(f"US_{k}", k) for k in range(6)]
    assert adapt(Scripted(tmp_path, lambda a: 0.5 + 0.1 * a), cases, 2).blend == 1.0


def test_a_blend_lies_between_start_and_end(start):
    end = {**start.variables, "params": random_variables(MODEL, seed=1)["params"]}
    half = blended(start.variables, end, 0.5)
    path = ("mask_decoder", "iou_token", "embedding")

    def value(variables):
        node = variables["params"]
        for name in path:
            node = node[name]
        return node

    expected = (value(start.variables) + value(end)) / 2
    np.testing.assert_allclose(value(half), expected, rtol=1e-5, atol=1e-6)
    assert half["batch_stats"] is start.variables["batch_stats"]
