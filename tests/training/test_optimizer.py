"""AdamW, its masks and its schedules against torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from litemedsam_jax.config import lite_medsam, medsam_vit_b
from litemedsam_jax.models.lite_medsam import init_variables
from litemedsam_jax.training import optimizer
from litemedsam_jax.training.config import OptimizerConfig
from litemedsam_jax.weights.tree import flatten

PARAMS = {
    "image_encoder": {"neck_0": {"kernel": jnp.array([1.0, -2.0, 3.0])}},
    "prompt_encoder": {"not_a_point_embed": {"embedding": jnp.ones(2)}},
    "mask_decoder": {"output_hypernetworks_mlps_1": {"bias": jnp.ones(2)}},
}


def run(config, gradients, losses=None, steps_per_epoch=1):
    """Applies gradients (of the encoder's kernel; zeros elsewhere) one after the other."""
    made = optimizer.make_optimizer(config, PARAMS, steps_per_epoch)
    params, state = PARAMS, made.init(PARAMS)
    for number, gradient in enumerate(gradients):
        grads = jax.tree.map(jnp.zeros_like, params)
        grads["image_encoder"]["neck_0"]["kernel"] = jnp.asarray(gradient, jnp.float32)
        value = 1.0 if losses is None else losses[number]
        updates, state = made.update(grads, state, params, value=jnp.float32(value))
        params = optax.apply_updates(params, updates)
        yield params, state


def test_adamw_and_its_masks_are_torchs(make_config):
    torch = pytest.importorskip("torch")
    config = make_config(optimizer={"learning_rate": 0.1, "weight_decay": 0.2})
    gradients = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    used = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    zero = torch.nn.Parameter(torch.ones(2))  # reached, with a gradient of zero
    unused = torch.nn.Parameter(torch.ones(2))  # never reached
    theirs = torch.optim.AdamW([used, zero, unused], lr=0.1, weight_decay=0.2)
    for gradient, (params, _) in zip(gradients, run(config, gradients), strict=True):
        used.grad, zero.grad = torch.from_numpy(gradient), torch.zeros(2)
        theirs.step()
        found = flatten(params)
        for path, expected in (
            ("image_encoder/neck_0/kernel", used),
            ("mask_decoder/output_hypernetworks_mlps_1/bias", zero),
            ("prompt_encoder/not_a_point_embed/embedding", unused),
        ):
            np.testing.assert_allclose(found[path], expected.detach(), rtol=1e-5, atol=1e-6)
    assert float(zero.detach()[0]) < 1  # it does decay
    assert float(found["prompt_encoder/not_a_point_embed/embedding"][0]) == 1.0


def test_plateau_is_torchs(make_config):
    torch = pytest.importorskip("torch")
    losses = [1.0] * 15 + [0.5, 0.49999] + [0.5] * 7
    parameter = torch.nn.Parameter(torch.zeros(1))
    theirs = torch.optim.SGD([parameter], lr=1.0)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, factor=0.9, patience=5)
    expected = []
    for loss in losses:
        schedule.step(loss)
        expected.append(theirs.param_groups[0]["lr"])
    # Two steps an epoch, whose mean is the epoch's loss.
    steps = [loss + d for loss in losses for d in (0.125, -0.125)]
    states = list(run(make_config(), np.ones((len(steps), 3)), steps, steps_per_epoch=2))
    found = [optimizer.plateau_factor(state) for _, state in states[1::2]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found[5] == 1 and found[6] == pytest.approx(0.9)  # first at the seventh epoch


def test_cosine_warms_up_and_ends_at_zero(make_config):
    config = make_config(
        optimizer={"schedule": "cosine", "warmup_steps": 4, "learning_rate": 0.5}, epochs=10
    )
    rates = [float(optimizer.learning_rate(config, 2)(step)) for step in range(21)]
    assert rates[0] == 0 and rates[4] == 0.5 and rates[20] == pytest.approx(0, abs=1e-8)
    assert rates[:5] == sorted(rates[:5]) and rates[4:] == sorted(rates[4:], reverse=True)


def test_layer_decay_is_tiny_vits():
    encoder = lite_medsam().image_encoder
    factors = {
        "image_encoder/patch_embed/seq_0/c/kernel": 0.8**11,
        "image_encoder/layers_0/blocks_0/conv1/c/kernel": 0.8**11,
        "image_encoder/layers_0/downsample/conv1/c/kernel": 0.8**10,
        "image_encoder/layers_2/blocks_3/attn/qkv/kernel": 0.8**4,
        "image_encoder/layers_2/downsample/conv3/bn/scale": 0.8**2,
        "image_encoder/layers_3/blocks_1/mlp/fc1/kernel": 1.0,
        "image_encoder/neck_0/kernel": 1.0,
        "mask_decoder/iou_token/embedding": 1.0,
    }
    for path, expected in factors.items():
        assert optimizer.layer_factor(path, encoder, 0.8) == pytest.approx(expected), path
    vit = medsam_vit_b().image_encoder
    assert optimizer.layer_factor("image_encoder/pos_embed", vit, 0.5) == 0.5**11
    assert optimizer.layer_factor("image_encoder/blocks_11/mlp/lin1/kernel", vit, 0.5) == 1


def test_layer_decay_is_applied(make_config):
    parts = ("patch_embed", "neck_0")
    params = {"image_encoder": {name: {"kernel": jnp.ones(1)} for name in parts}}
    config = make_config(
        optimizer={"layer_decay": 0.5, "weight_decay": 0.0, "schedule": "constant"}
    )
    made = optimizer.make_optimizer(config, params, 1)
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = made.update(grads, made.init(params), params, value=1.0)
    blocks = sum(stage.depth for stage in config.model.image_encoder.stages)
    stem, neck = (float(updates["image_encoder"][name]["kernel"][0]) for name in parts)
    assert stem == pytest.approx(neck * 0.5 ** (blocks - 1))


def test_every_parameter_of_the_network_is_accounted_for():
    params = jax.eval_shape(lambda: init_variables(lite_medsam(), jax.random.key(0)))["params"]
    still = [p for p in flatten(params) if not optimizer.trains(p, OptimizerConfig())]
    parents = {path.split("/")[1].rstrip("0123456789").rstrip("_") for path in still}
    assert parents == {"point_embeddings", "not_a_point_embed", "mask_downscaling"}
    assert len([p for p in still if "point_embeddings" in p]) == 2
    frozen = OptimizerConfig(freeze=("encoder", "prompt"))
    moving = {p.split("/")[0] for p in flatten(params) if optimizer.trains(p, frozen)}
    assert moving == {"mask_decoder"}


def test_clipping_bounds_the_gradient(make_config):
    config = make_config(optimizer={"clip_norm": 1e-9, "weight_decay": 0.0, "epsilon": 1.0})
    *_, (params, _) = run(config, np.full((3, 3), 1e6))
    np.testing.assert_allclose(params["image_encoder"]["neck_0"]["kernel"], [1, -2, 3], atol=1e-6)
