"""The encoder in strips of rows: the same as on whole images, whatever the strips and weights."""

import jax
import numpy as np
import pytest

from litemedsam_jax.config import lite_medsam, tiny_for_tests
from litemedsam_jax.engine import encoder_plan
from litemedsam_jax.engine.attention_bounds import SAFE, attention_bounds
from litemedsam_jax.engine.engine import Engine
from litemedsam_jax.engine.folding import fold
from litemedsam_jax.engine.program_store import ProgramStore
from litemedsam_jax.models.lite_medsam import LiteMedSAMNetwork, init_variables
from litemedsam_jax.weights.tree import flatten, unflatten
from tests.parity import relative_error

CONFIG = tiny_for_tests()
BLOCK = "params/image_encoder/layers_2/blocks_0/attn/"


@pytest.fixture(scope="module")
def variables() -> dict[str, np.ndarray]:
    """Random ones throughout: biases and offsets that start as zeros hide errors."""
    rng = np.random.default_rng(0)
    tree = jax.eval_shape(lambda: init_variables(CONFIG, jax.random.key(0)))
    found = {}
    for name, leaf in flatten(tree).items():
        fan_in = np.prod(leaf.shape[:-1]) if name.endswith("kernel") else 4
        values = rng.normal(size=leaf.shape) / np.sqrt(fan_in)
        if name.endswith(("scale", "var")):
            values = 1 + abs(values)
        found[name] = values.astype(np.float32)
    return found


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(1).random((256, 256, 3), np.float32)


def whole(variables, image) -> np.ndarray:
    tree = unflatten(variables)
    encode = jax.jit(lambda v, x: LiteMedSAMNetwork(CONFIG).apply(v, x, method="encode"))
    return np.asarray(encode(tree, image[None]))


def in_strips(variables, image, folder) -> np.ndarray:
    return np.asarray(Engine(variables, CONFIG, "cpu", ProgramStore(CONFIG, folder)).encode(image))


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"_SMALL": 0},
        {"_SMALL": 0, "_ATTENTION": 14, "_TRANSFORM": 64, "_FIRST_STAGE": 32},
        {"_SMALL": 0, "_ATTENTION": 70, "_TRANSFORM": 8, "_FIRST_STAGE": 4, "_WASTE": 0.5},
    ],
    ids=["as it is", "all in strips", "other strips", "overlapping strips"],
)
def test_strips_make_the_whole_embedding(sizes, variables, image, tmp_path, monkeypatch):
    for name, value in sizes.items():
        monkeypatch.setattr(encoder_plan, name, value)
    expected = whole(variables, image)
    assert relative_error(in_strips(variables, image, tmp_path), expected) < 3e-5


def test_accelerators_run_the_same_encoder_whole(variables, image):
    ours = Engine(variables, CONFIG, device=None).encode(image)
    assert relative_error(ours, whole(variables, image)) < 3e-5


def test_images_do_not_share_memory(variables, image, tmp_path):
    engine = Engine(variables, CONFIG, "cpu", ProgramStore(CONFIG, tmp_path))
    first = engine.encode(image)
    kept = np.array(first)
    assert abs(np.asarray(engine.encode(1 - image)) - kept).max() > 0.01
    np.testing.assert_array_equal(first, kept)


def test_every_row_is_made_once_or_twice():
    for needed in (True, False):
        for layer, _ in encoder_plan.plan(lite_medsam().image_encoder, lambda _, n=needed: n):
            made = np.zeros(layer.covered, int)
            for start in layer.starts:
                made[start : start + layer.rows] += 1
            assert made[: layer.made].min() == 1
            assert made.sum() <= 1.1 * layer.covered


# ---- attention without shifting its softmax


def largest_logit(folded, rng) -> float:
    """Of the first attention of stage 2, over random and adversarial tokens."""
    biases = folded[BLOCK + "attention_biases"]
    kernel, bias = folded[BLOCK + "qkv/kernel"], folded[BLOCK + "qkv/bias"]
    channels, heads = len(kernel), len(biases)
    tokens = rng.normal(size=(500, channels))
    parts = np.split(kernel.reshape(channels, heads, 3, -1), 3, axis=2)
    for head in range(heads):  # the pair of directions that a head answers most
        left, _, right = np.linalg.svd(parts[0][:, head, 0] @ parts[1][:, head, 0].T)
        tokens = np.concatenate([tokens, left[:, :1].T, right[:1]])
    tokens -= tokens.mean(1, keepdims=True)
    tokens /= tokens.std(1, keepdims=True)
    tokens = np.concatenate([tokens, -tokens, np.zeros((1, channels))])
    qkv = (tokens @ kernel + bias).reshape(len(tokens), heads, 3, -1)
    logits = np.einsum("ihd,jhd->hij", qkv[:, :, 0], qkv[:, :, 1])
    return float((abs(logits).max((1, 2)) + abs(biases).max(1)).max())


def test_no_logit_exceeds_its_bound(variables):
    rng = np.random.default_rng(2)
    folded = fold(variables)
    bound = attention_bounds(folded)[BLOCK + "attention_biases"]
    assert bound / 2 < largest_logit(folded, rng) <= bound


def test_the_published_weights_spare_the_shift_in_two_stages(published_weights):
    folded = fold(published_weights.variables)
    shifted = encoder_plan.shifts(folded)
    steps = encoder_plan.plan(lite_medsam().image_encoder, shifted)
    names = {layer.program for layer, _ in steps if layer.attends}
    assert names == {"encode_attend_1", "encode_block_2", "encode_attend_3_shifted"}


def test_weights_of_large_logits_are_shifted_and_stay_finite(variables, image, tmp_path):
    """exp(500) is infinite: without the shift all would be NaN."""
    large = dict(variables)
    for name in variables:
        if name.endswith("attn/qkv/kernel"):
            large[name] = 20 * variables[name]
    bounds = attention_bounds(fold(large))
    assert min(bounds.values()) > SAFE
    expected = whole(large, image)
    assert np.isfinite(expected).all()
    # Such a softmax picks one key or another by the last digit: the most of the pixels must agree.
    error = abs(in_strips(large, image, tmp_path) - expected) / expected.std()
    assert np.median(error) < 1e-4
    stored = {path.stem for path in tmp_path.rglob("*.xla")}
    assert {f"encode_block_{n}_shifted" for n in (1, 2, 3)} <= stored
