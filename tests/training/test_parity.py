"""Loss, gradients and trajectory against the torch oracle: published weights, real images.

The trajectory has LITEMEDSAM_TRAJECTORY_STEPS steps: 3 by default, since a step of the full network
takes ten seconds of a small machine in the two frameworks; CI (.ci/run) sets 20.
"""

import copy
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from litemedsam_jax.config import lite_medsam
from litemedsam_jax.preparation.training_set import read_slices
from litemedsam_jax.training import optimizer, steps
from litemedsam_jax.training.catalog import Slice
from litemedsam_jax.training.config import LossConfig, TrainingConfig
from litemedsam_jax.training.samples import FinetuneSample
from litemedsam_jax.weights.state_dict import to_variables
from litemedsam_jax.weights.tree import flatten, unflatten
from tests.conftest import REPOSITORY

torch = pytest.importorskip("torch")

STEPS = int(os.environ.get("LITEMEDSAM_TRAJECTORY_STEPS", "3"))
WEIGHTS = LossConfig(dice=1.0, bce=0.7, iou=1.3)
CONFIG = TrainingConfig("finetune", lite_medsam(), loss=WEIGHTS)


@pytest.fixture(scope="module", autouse=True)
def optimised(compilation_cache):
    """Programs as users have them, unlike those of the other training tests."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="module")
def batches():
    """Samples of the demo's real cases, a batch each, in turn."""
    make = FinetuneSample(CONFIG.data, 256)
    found = []
    for path in sorted((REPOSITORY / "demo" / "gts").glob("*.npz")):
        slices = [s for s in read_slices(path.parents[1] / "imgs" / path.name, path) if s[0].labels]
        sample = make.random_map(Slice(*slices[len(slices) // 2]), np.random.default_rng(7))
        found.append({k: v[None] for k, v in sample.items() if k != "name"})
    return [found[i % len(found)] for i in range(STEPS)]


@pytest.fixture(scope="module")
def gradients():
    """(variables, batch) -> ((loss, (terms, batch_stats)), gradients), compiled once."""
    loss = steps.finetune_loss(CONFIG)

    def compute(variables, batch):
        value = jax.value_and_grad(loss, has_aux=True)
        stats, buffers = variables["batch_stats"], variables["buffers"]
        return value(variables["params"], stats, buffers, batch, True)

    return jax.jit(compute, compiler_options={"xla_cpu_experimental_ynn_fusion_type": ""})


@pytest.fixture
def oracle(published_oracle):
    model = copy.deepcopy(published_oracle).requires_grad_(True)
    return model.train()


@pytest.fixture
def variables(published_weights):
    return jax.tree.map(jnp.asarray, unflatten(published_weights.variables))


def torch_loss(model, batch):
    """The reference's loss; MONAI's Dice written out."""
    image = torch.from_numpy(np.moveaxis(batch["image"], -1, 1).copy())
    mask = torch.from_numpy(batch["mask"])[:, None].float()
    sparse, dense = model.prompt_encoder(
        points=None, boxes=torch.from_numpy(batch["box"])[:, None], masks=None
    )
    logits, iou = model.mask_decoder(
        image_embeddings=model.image_encoder(image),
        image_pe=model.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    p = torch.sigmoid(logits)
    total = (p**2).sum((1, 2, 3)) + (mask**2).sum((1, 2, 3))
    dice = (1 - (2 * (p * mask).sum((1, 2, 3)) + 1e-5) / (total + 1e-5)).mean()
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, mask)
    with torch.no_grad():
        both = ((p > 0.5) & (mask > 0)).sum((1, 2, 3))
        target = (both / ((p > 0.5) | (mask > 0)).sum((1, 2, 3)))[:, None]
    quality = torch.nn.functional.mse_loss(iou, target)
    terms = {"dice": dice, "bce": bce, "iou": quality}
    return WEIGHTS.dice * dice + WEIGHTS.bce * bce + WEIGHTS.iou * quality, terms


def test_loss_terms_and_every_gradient(gradients, oracle, variables, batches):
    total, terms = torch_loss(oracle, batches[0])
    total.backward()
    (ours, (our_terms, stats)), grads = gradients(variables, batches[0])
    np.testing.assert_allclose(float(ours), total.item(), rtol=1e-5)
    for name in ("dice", "bce"):
        np.testing.assert_allclose(
            float(our_terms[name]), terms[name].item(), rtol=1e-5, err_msg=name
        )
    # The square of a difference of two numbers near 1: an ulp of the prediction is 1e-5 of it here.
    errors = np.sqrt([float(our_terms["iou"]), terms["iou"].item()])
    assert abs(errors[0] - errors[1]) <= 3e-7

    found = {
        key: torch.zeros_like(p) if p.grad is None else p.grad
        for key, p in oracle.named_parameters()
    }
    whole = torch.sqrt(sum((g**2).sum() for g in found.values())).item()
    state = {**{k: v.detach() for k, v in oracle.state_dict().items()}, **found}
    theirs = to_variables({k: v.numpy() for k, v in state.items()}, CONFIG.model)
    faults = []
    for path, grad in flatten(grads, "params/").items():
        expected = theirs.variables[path]
        error, norm = np.linalg.norm(np.asarray(grad) - expected), np.linalg.norm(expected)
        # A key's bias, which softmax cancels, or a bias that a BatchNorm cancels: rounding alone.
        nothing = norm < 1e-6 * whole
        if error > (1e-6 * whole if nothing else 1e-3 * norm):
            faults.append(f"{path}: {error:.1e} of {norm:.1e}")
    assert not faults, "\n".join(faults)
    for path, value in flatten(stats, "batch_stats/").items():  # after one batch in training mode
        np.testing.assert_allclose(
            value, theirs.variables[path], rtol=1e-4, atol=1e-5, err_msg=path
        )


def test_trajectory_with_adamw(gradients, oracle, variables, batches):
    theirs = torch.optim.AdamW(oracle.parameters(), lr=5e-5, weight_decay=0.01)
    ours = optimizer.make_optimizer(CONFIG, variables["params"], steps_per_epoch=100)
    update = jax.jit(ours.update)
    state = ours.init(variables["params"])
    for number, batch in enumerate(batches):
        total, _ = torch_loss(oracle, batch)
        theirs.zero_grad()
        total.backward()
        theirs.step()
        (loss, (_, stats)), grads = gradients(variables, batch)
        updates, state = update(grads, state, variables["params"], value=loss)
        params = optax.apply_updates(variables["params"], updates)
        variables = {**variables, "params": params, "batch_stats": stats}
        print(f"step {number + 1}: torch {total.item():.6f}, here {float(loss):.6f}")
        assert abs(float(loss) / total.item() - 1) < 0.01, f"step {number + 1}"
    for key in ("point_embeddings.0.weight", "not_a_point_embed.weight"):
        path = "params/prompt_encoder/" + key.replace(".0", "_0").replace(".weight", "/embedding")
        expected = oracle.prompt_encoder.state_dict()[key].numpy()
        np.testing.assert_array_equal(flatten(variables)[path], expected)
