"""The encoder in row tiles: the same as on whole images, whatever the tiles and weights."""

import jax
import numpy as np
import pytest

from litemedsam_jax.config import lite_medsam
from litemedsam_jax.engine import encoder_plan, tiled_encoder
from litemedsam_jax.engine.attention_bounds import SAFE, attention_bounds
from litemedsam_jax.engine.compiler import Compiler
from litemedsam_jax.engine.encoder_plan import TileSizes
from litemedsam_jax.engine.engine import Engine
from litemedsam_jax.engine.folding import fold
from litemedsam_jax.engine.network import all_programs
from litemedsam_jax.engine.program_store import ProgramStore
from litemedsam_jax.engine.programs import compile_program
from litemedsam_jax.models.lite_medsam import LiteMedSAMNetwork, init_variables
from litemedsam_jax.weights.tree import flatten, unflatten
from tests.parity import relative_error
from tests.support.tiny_model import CONFIG

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


def in_tiles(variables, image, sizes: TileSizes) -> np.ndarray:
    """The embedding by programs compiled here, each once."""
    folded = fold(variables, CONFIG.image_encoder.grid_size)
    layers = encoder_plan.plan(CONFIG.image_encoder, encoder_plan.large_logits(folded), sizes)
    programs = {layer.program.name: layer.program for layer in layers}
    compiled = {
        name: compile_program(program, folded, jax.devices("cpu")[0])
        for name, program in programs.items()
    }

    def run(name, scope, *inputs):
        arguments = programs[name].arguments(folded, scope)
        return np.asarray(compiled[name](arguments, *inputs)[0])

    return tiled_encoder.encode(run, layers, image)


def embedding(variables, image, folder) -> np.ndarray:
    """As a run makes it."""
    return np.asarray(Engine(variables, CONFIG, "cpu", ProgramStore(CONFIG, folder)).encode(image))


@pytest.mark.parametrize(
    "sizes",
    [
        TileSizes(),
        TileSizes(whole_grid=0),
        TileSizes(whole_grid=0, attention=14, transform=64, first_stage=32),
        TileSizes(whole_grid=0, attention=70, transform=8, first_stage=4, repeated_windows=0.5),
    ],
    ids=["as it is", "all in tiles", "other tiles", "overlapping tiles"],
)
def test_tiles_make_the_whole_embedding(sizes, variables, image):
    expected = whole(variables, image)
    assert relative_error(in_tiles(variables, image, sizes), expected) < 3e-5


def test_low_tiles_of_attention_are_no_lower_than_a_window():
    """A plan that cannot be cut so would run a layer as one tile, on one core."""
    sizes = TileSizes(attention=7)
    layers = encoder_plan.plan(lite_medsam().image_encoder, lambda _: False, sizes)
    rows = {layer.program.name: layer.tiles.rows for layer in layers if layer.program.attends}
    assert rows == {"encode_attend_1": 7, "encode_attend_2": 14, "encode_attend_3": 7}


def test_accelerators_run_the_same_encoder_whole(variables, image):
    folded = fold(variables, CONFIG.image_encoder.grid_size)
    ours = Compiler(folded, CONFIG, all_programs(CONFIG), None).encode(image)
    assert relative_error(ours, whole(variables, image)) < 3e-5


def test_images_do_not_share_memory(variables, image, tmp_path):
    engine = Engine(variables, CONFIG, "cpu", ProgramStore(CONFIG, tmp_path))
    first = engine.encode(image)
    kept = np.array(first)
    assert abs(np.asarray(engine.encode(1 - image)) - kept).max() > 0.01
    np.testing.assert_array_equal(first, kept)


# ---- attention whose softmax subtracts no maximum


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


def test_the_published_weights_subtract_the_maximum_in_one_stage_alone(published_weights):
    folded = fold(published_weights.variables)
    layers = encoder_plan.plan(lite_medsam().image_encoder, encoder_plan.large_logits(folded))
    names = {layer.program.name for layer in layers if layer.program.attends}
    assert names == {"encode_attend_1", "encode_attend_2", "encode_attend_3_max_subtracted"}


def test_weights_of_large_logits_subtract_the_maximum_and_stay_finite(variables, image, tmp_path):
    """exp(500) is infinite: without the subtraction all would be NaN."""
    large = dict(variables)
    for name in variables:
        if name.endswith("attn/qkv/kernel"):
            large[name] = 20 * variables[name]
    bounds = attention_bounds(fold(large))
    assert min(bounds.values()) > SAFE
    expected = whole(large, image)
    assert np.isfinite(expected).all()
    # Such a softmax picks one key or another by the last digit: the most of the pixels must agree.
    error = abs(embedding(large, image, tmp_path) - expected) / expected.std()
    assert np.median(error) < 1e-4
    stored = {path.stem for path in tmp_path.rglob("*.xla")}
    assert {f"encode_block_{n}_max_subtracted" for n in (1, 2, 3)} <= stored
