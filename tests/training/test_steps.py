"""The step: what it leaves alone, what its options mean, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from litemedsam_jax.training import losses, steps
from litemedsam_jax.training.config import LossConfig
from litemedsam_jax.training.optimizer import make_optimizer
from litemedsam_jax.weights.tree import flatten
from tests.support.small_network import random_variables, small_model
from tests.training.conftest import slow

FROZEN = {"freeze": ("encoder",), "epsilon": 1e-3}


@pytest.fixture(scope="module")
def batch():
    """(1, 2, ...): two discs and their boxes."""
    rows, columns = np.mgrid[:64, :64]
    mask = np.stack([(rows - 30) ** 2 + (columns - c) ** 2 < 100 for c in (20, 40)])
    noise = np.random.default_rng(0).normal(0, 0.05, (2, 64, 64, 3))
    image = np.clip(mask[..., None] * 0.6 + 0.2 + noise, 0, 1).astype(np.float32)
    box = np.array([[10, 20, 30, 40], [30, 20, 50, 40]], np.float32)
    return {"image": image[None], "mask": mask[None].astype(np.uint8), "box": box[None]}


@pytest.fixture(scope="module")
def variables():
    return random_variables(small_model())


def run(config, variables, batch, count=1):
    optimizer = make_optimizer(config, variables["params"], 100)
    state = steps.init_state(variables, optimizer, ema=bool(config.optimizer.ema_decay))
    step = jax.jit(steps.make_step(config, steps.finetune_loss(config), optimizer))
    for _ in range(count):
        state, metrics = step(state, batch)
    return state, {name: float(value) for name, value in metrics.items()}


def test_loss_terms_by_hand():
    logits = np.array([[[3.0, -1.0], [0.5, -2.0]]], np.float32)
    mask = np.array([[[1, 0], [0, 1]]], np.float32)
    p = 1 / (1 + np.exp(-logits))
    total, terms = losses.segmentation_loss(
        jnp.asarray(logits), jnp.array([0.9]), jnp.asarray(mask), LossConfig(2.0, 3.0, 5.0)
    )
    dice = 1 - (2 * (p * mask).sum() + 1e-5) / ((p**2).sum() + mask.sum() + 1e-5)
    bce = -(mask * np.log(p) + (1 - mask) * np.log(1 - p)).mean()
    expected = {"dice": dice, "bce": bce, "iou": (0.9 - 1 / 3) ** 2}
    for name, value in expected.items():
        assert float(terms[name]) == pytest.approx(value, rel=1e-5)
    assert float(total) == pytest.approx(2 * dice + 3 * bce + 5 * expected["iou"], rel=1e-5)
    extreme = losses.bce_loss(jnp.full((1, 1, 2), 1e4), jnp.array([[[1.0, 0.0]]]))
    assert float(extreme[0]) == pytest.approx(5e3)


def test_it_learns_with_average_clipping_and_bfloat16(make_config, variables, batch):
    config = make_config(
        optimizer={"learning_rate": 3e-3, "ema_decay": 0.5, "clip_norm": 1.0, "schedule": "cosine",
                   "warmup_steps": 2}, dtype="bfloat16",
    )  # fmt: skip
    _, first = run(config, variables, batch)
    state, last = run(config, variables, batch, 25)
    assert last["loss"] < 0.9 * first["loss"]
    for path, leaf in flatten(state.variables()).items():
        assert leaf.dtype == jnp.float32, path
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state.params, state.ema_params)
    assert max(jax.tree.leaves(moved)) > 0 and int(state.step) == 25


def test_a_frozen_encoder_stays_as_it_is(make_config, variables, batch):
    config = make_config(optimizer=FROZEN)
    state, _ = run(config, variables, batch)
    before, after = flatten(variables["params"]), flatten(state.params)
    changed = {p.split("/")[0] for p in before if not np.array_equal(before[p], after[p])}
    assert changed == {"mask_decoder", "prompt_encoder"}
    for path, value in flatten(state.batch_stats).items():
        np.testing.assert_array_equal(value, flatten(variables["batch_stats"])[path])


def test_accumulation_averages_gradients(make_config, variables, batch):
    # Without an encoder that trains no BatchNorm ties the samples of a batch together.
    whole, one = run(make_config(optimizer=FROZEN), variables, batch)
    parts = jax.tree.map(lambda x: x.reshape(2, 1, *x.shape[2:]), batch)
    split, two = run(make_config(optimizer={**FROZEN, "accumulate": 2}), variables, parts)
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)
    for path, value in flatten(whole.params).items():
        np.testing.assert_allclose(value, flatten(split.params)[path], rtol=1e-4, atol=1e-6)


@slow
def test_rematerialisation_changes_no_number(make_config, variables, batch):
    plain, one = run(make_config(), variables, batch)
    again, two = run(make_config(remat=True), variables, batch)
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-6)
    for path, value in flatten(plain.batch_stats).items():
        np.testing.assert_allclose(value, flatten(again.batch_stats)[path], rtol=1e-4, atol=1e-6)


def test_a_step_that_is_not_finite_changes_nothing(make_config, variables, batch):
    poisoned = {**batch, "image": np.full_like(batch["image"], np.nan)}
    state, metrics = run(make_config(), variables, poisoned)
    assert metrics["finite"] == 0 and int(state.step) == 0
    for path, value in flatten(state.params).items():
        np.testing.assert_array_equal(value, flatten(variables["params"])[path])


def test_an_anchors_loss_is_what_differs_from_its_target():
    """Beside samples, whose loss is that of training without anchors."""
    logits = jnp.asarray([[[3.0, -1.0]], [[0.5, -2.0]]])
    targets = jnp.asarray([[[1.0, 0.0]], [[0.7, 0.2]]])
    iou, anchor = jnp.array([0.9, 0.6]), jnp.array([0.0, 1.0])
    config = LossConfig(2.0, 3.0, 5.0, anchor_weight=7.0)
    total, terms = losses.anchored_loss(logits, iou, targets, jnp.array([0.0, 0.8]), anchor, config)
    own, own_terms = losses.segmentation_loss(logits[:1], iou[:1], targets[:1], config)
    p, q = 1 / (1 + np.exp(-np.array([0.5, -2.0]))), np.array([0.7, 0.2])
    divergence = (q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))).mean()
    assert float(terms["anchor"]) == pytest.approx(divergence, rel=1e-4)
    assert float(total) == pytest.approx(float(own) + 7 * divergence + 5 * 0.04, rel=1e-5)
    assert float(terms["dice"]) == pytest.approx(float(own_terms["dice"]))
    same = losses.anchored_loss(
        jnp.array([[[0.0, -30.0]]]), iou[:1], jnp.array([[[0.5, 0.0]]]), iou[:1], anchor[1:], config
    )
    assert float(same[0]) == pytest.approx(0, abs=1e-6)


def test_an_anchors_loss_is_a_number_for_every_byte_of_its_target():
    """Compiled as one program with the bytes' scaling, where 1 - 255/255 comes out below zero."""
    stored = np.tile(np.arange(256, dtype=np.uint8), (4, 64, 1))
    logits, one = np.zeros(stored.shape, np.float32), np.ones(4, np.float32)

    def loss(logits, stored):
        targets = stored.astype(jnp.float32) / 255
        return losses.anchored_loss(logits, one, targets, one, one, LossConfig())

    (total, _), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(logits, stored)
    assert np.isfinite(total) and np.isfinite(gradient).all()
