"""Adaptation as a whole on a small decoder: splitting, training, blending, what is written."""

import numpy as np
import pytest

from litemedsam_jax.adaptation import adapt as adaptation
from litemedsam_jax.adaptation.cases import LabelledCase
from litemedsam_jax.config import tiny_for_tests
from litemedsam_jax.imaging.boxes import boxes_of_labels
from litemedsam_jax.training.catalog import DataError
from litemedsam_jax.training.config import DataConfig, OptimizerConfig, TrainingConfig
from litemedsam_jax.training.embedding_files import EmbeddingFiles
from litemedsam_jax.training.loop import Outcome
from tests.support.small_network import random_variables


def disc_case(name: str, seed: int, bright: int = 200) -> LabelledCase:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:256, :256]
    y, x = rng.integers(90, 160, 2)
    gts = ((rows - y) ** 2 + (columns - x) ** 2 < 45**2).astype(np.uint8)
    image = (gts * bright + rng.integers(0, 40, gts.shape)).astype(np.uint8)
    boxes, labels = boxes_of_labels(gts)
    return LabelledCase(name, name.split("_")[0], image, gts, None, boxes, labels)


def encode(image: np.ndarray) -> np.ndarray:
    """(256, 256, 3) -> (1, 64, 64, 32): brightness along a random direction."""
    small = image[..., 0].reshape(64, 4, 64, 4).mean((1, 3))
    direction = np.random.default_rng(0).normal(size=32)
    return (small[..., None] * direction)[None]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    variables = random_variables(tiny_for_tests())
    folder = tmp_path_factory.mktemp("embeddings")
    files = EmbeddingFiles(folder, "a" * 64, (64, 64, 32), 1 << 30)
    return adaptation.Start(variables, {}, encode, files)


def test_the_decoder_learns_and_the_encoder_stays(start, tmp_path):
    config = TrainingConfig(
        "finetune",
        tiny_for_tests(),
        DataConfig(batch_size=4, workers=0, flips=False, prompts="use"),
        OptimizerConfig(freeze=("encoder",), learning_rate=3e-3, schedule="constant"),
        work_dir=str(tmp_path / "run"),
        epochs=3,
        steps_per_epoch=12,
    )
    training = [disc_case(f"US_{k}", k) for k in range(6)]
    validation = [disc_case(f"US_{k}", k) for k in (10, 11)]
    result = adaptation.adapt(config, start, training, validation, [], strategy="clean")
    assert result.blend > 0
    assert np.mean(list(result.after.values())) > np.mean(list(result.before.values())) + 0.05
    encoders = [v["params"]["image_encoder"]["neck_0"]["kernel"] for v in
                (start.variables, result.variables)]  # fmt: skip
    np.testing.assert_array_equal(*encoders)


def scalar(value: float) -> dict:
    return {"params": {"a": np.float32(value)}, "buffers": {}}


@pytest.mark.parametrize(
    "validation, anchor, blend",
    [
        (lambda x: x, lambda x: 1.0, 1.0),  # the more the better
        (lambda x: 1 - (x - 0.5) ** 2, lambda x: 1.0, 0.5),
        (lambda x: x, lambda x: 1 - 0.01 * x, 0.5),  # half a point of loss is allowed
        (lambda x: x, lambda x: 1 - x, 0.0),  # no gain is worth forgetting
        (lambda x: 0.0005 * x, lambda x: 1.0, 0.0),  # a gain that is none
        (lambda x: 1 - x, lambda x: 1.0, 0.0),
    ],
)
def test_the_best_blend_that_forgets_nothing_is_chosen(validation, anchor, blend):
    def scored(name, function):
        return lambda variables: {name: float(function(variables["params"]["a"]))}

    result = adaptation.choose_blend(
        Outcome(None, "done"), scalar(0), scalar(1), scored("v", validation), scored("o", anchor)
    )
    assert result.blend == blend
    assert result.variables["params"]["a"] == blend
    assert result.after["v"] == pytest.approx(validation(blend))
    assert result.anchor_before["o"] - result.anchor_after["o"] <= adaptation.LARGEST_LOSS + 1e-9


def test_cases_are_held_out_whole_of_each_modality_or_of_all_together():
    cases = [disc_case(f"{kind}_{k}", k) for kind in ("US", "MR") for k in range(4)]
    training, validation = adaptation.split_cases(cases, 0.25, seed=1)
    assert {case.modality for case in validation} == {"US", "MR"} and len(validation) == 2
    assert {case.name for case in training}.isdisjoint(case.name for case in validation)
    singles = [disc_case("US_1", 1), disc_case("MR_1", 2)]
    training, validation = adaptation.split_cases(singles, 0.25, seed=1)
    assert len(training) == len(validation) == 1
    with pytest.raises(DataError, match="two labelled cases"):
        adaptation.split_cases(singles[:1], 0.25, seed=1)


def test_a_blend_lies_between_start_and_end(start):
    end = {**start.variables, "params": random_variables(tiny_for_tests(), seed=1)["params"]}
    half = adaptation.blended(start.variables, end, 0.5)
    path = ("mask_decoder", "iou_token", "embedding")

    def value(variables):
        node = variables["params"]
        for name in path:
            node = node[name]
        return node

    expected = (value(start.variables) + value(end)) / 2
    np.testing.assert_allclose(value(half), expected, rtol=1e-5, atol=1e-6)
    assert half["batch_stats"] is start.variables["batch_stats"]
