"""bfloat16: chosen where it was asked for or fits, and then what is computed; else float32."""

import jax
import numpy as np
import pytest

from litemedsam_jax.engine import encoder_plan
from litemedsam_jax.engine.folded_cache import fold_once
from litemedsam_jax.engine.folding import fold
from litemedsam_jax.engine.network import all_programs
from litemedsam_jax.engine.precision import choose
from litemedsam_jax.engine.program_store import ProgramStore
from litemedsam_jax.engine.programs import Program
from litemedsam_jax.engine.rounding import is_rounded, round_weights
from litemedsam_jax.weights.tree import unflatten
from tests.support.tiny_model import BOXES, CONFIG, IMAGE, other_decoder, tiny_engine

AMX = frozenset({"avx512_bf16", "amx_bf16", "amx_tile"})
GRID = CONFIG.image_encoder.grid_size


@pytest.mark.parametrize(
    ("asked", "device", "features", "chosen", "said"),
    [
        ("float32", "cpu", AMX, "float32", ""),
        ("bfloat16", "cpu", AMX, "bfloat16", ""),
        ("bfloat16", "cpu", frozenset(), "bfloat16", "no faster"),
        ("auto", "cpu", AMX, "bfloat16", "AMX"),
        ("auto", "cpu", frozenset({"avx512_bf16"}), "bfloat16", "AVX-512 BF16"),
        ("auto", "cpu", frozenset({"avx512f"}), "float32", "no bfloat16"),
        ("auto", "gpu", AMX, "float32", "CPUs alone"),
    ],
)
def test_the_choice_and_what_is_said_of_it(asked, device, features, chosen, said):
    choice = choose(asked, device, features)
    assert choice.precision == chosen
    assert said in choice.note and bool(said) == bool(choice.note)


def test_another_word_is_refused_with_the_three(variables, tmp_path):
    with pytest.raises(ValueError, match="'half': expected float32, bfloat16, auto"):
        tiny_engine(variables, tmp_path, precision="half")


def lowered(program: Program, folded: dict[str, np.ndarray]) -> str:
    """What XLA is given to compile."""
    names, function = program.parameter_names(folded), program.function()

    def call(parameters, *inputs):
        return function(unflatten(dict(zip(names, parameters, strict=True))), *inputs)

    inputs = [jax.ShapeDtypeStruct(shape, np.float32) for shape in program.input_shapes]
    return jax.jit(call).lower(program.arguments(folded, program.scope), *inputs).as_text()


def test_products_take_bfloat16_and_sum_in_float32_and_those_of_float32_never(variables):
    folded = fold(variables, GRID)
    layers = encoder_plan.plan(CONFIG.image_encoder, lambda _: False)
    for layer in layers:
        assert "bf16" not in lowered(layer.program, folded)
    rounded = round_weights(folded)
    for layer in encoder_plan.plan(CONFIG.image_encoder, lambda _: False, precision="bfloat16"):
        text = lowered(layer.program, rounded)
        products = [line for line in text.splitlines() if "dot_general" in line]
        types = [line.rpartition(" : ")[2] for line in products]
        assert products and all(one.count("bf16>") == 2 for one in types), layer.program.name
        assert all(one.endswith("xf32>") for one in types), layer.program.name
        # Only the stem's first convolution, of three channels, is left.
        assert text.count("stablehlo.convolution") == ("first" in layer.program.name)


def test_an_engine_runs_its_precisions_programs_from_weights_stored_for_them(variables, tmp_path):
    exact = tiny_engine(variables, tmp_path)
    low = tiny_engine(variables, tmp_path, precision="bfloat16")
    assert (exact.precision, low.precision) == ("float32", "bfloat16")
    one, other = (np.asarray(engine.encode(IMAGE)) for engine in (exact, low))
    assert all(name.endswith("_bfloat16") for name in low.compiled)
    assert not any(name.endswith("_bfloat16") for name in exact.compiled)
    assert not np.array_equal(one, other)
    # Wide: of untrained weights the correction of biases assumes too much (engine.rounding).
    assert np.abs(one - other).max() < 0.25 * np.abs(one).max()
    assert np.abs(one - other).mean() < 0.03 * np.abs(one).max()
    again = tiny_engine(variables, tmp_path, precision="bfloat16")
    assert np.array_equal(again.encode(IMAGE), other) and not again.compiled


def test_boxes_are_decoded_in_bfloat16_with_these_weights_and_with_another_decoders(
    variables, tmp_path
):
    exact = tiny_engine(variables, tmp_path)
    low = tiny_engine(variables, tmp_path, precision="bfloat16")
    embedding = exact.encode(IMAGE)
    expected, logits = (engine.decode(embedding, BOXES)[0] for engine in (exact, low))
    assert not np.array_equal(expected, logits)
    close = {"atol": 0.02 * np.abs(expected).max()}
    np.testing.assert_allclose(logits, expected, **close)
    prompted = low.decode_prompts(embedding, False, boxes=BOXES)[0][:, 0]
    np.testing.assert_allclose(prompted, expected, **close)
    others = other_decoder(variables)
    fresh = tiny_engine(others, tmp_path, precision="bfloat16")
    changed = low.with_decoder(others).decode(embedding, BOXES)[0]
    np.testing.assert_array_equal(changed, fresh.decode(embedding, BOXES)[0])
    assert np.abs(changed - logits).max() > close["atol"]


def test_rounded_weights_are_kept_beside_the_others(variables, tmp_path):
    store = ProgramStore(CONFIG, tmp_path)
    expected = round_weights(fold(variables, GRID))
    for _ in range(2):
        for precision, arrays in (("bfloat16", expected), ("float32", fold(variables, GRID))):
            found = fold_once(variables, GRID, store, precision=precision)
            assert found.keys() == arrays.keys()
            for name, array in arrays.items():
                assert found[name].dtype == array.dtype, name
                assert np.array_equal(found[name], array), name
    assert len(list(store.folder.rglob("*.safetensors"))) == 2
    # What a product reads lies in the file; a start converts nothing.
    kept = {name for name, array in expected.items() if array.dtype.name == "bfloat16"}
    assert kept == {name for name, array in expected.items() if is_rounded(name, array.shape)}


def test_some_kernels_are_exact_by_a_low_part_beside_the_high_one():
    kernel = np.random.default_rng(0).normal(size=(1, 1, 64, 16)).astype(np.float32)
    for block in range(2):
        name = f"params/image_encoder/layers_0/blocks_{block}/conv3/c/kernel"
        high, low = np.split(round_weights({name: kernel})[name].astype(np.float32), 2, axis=-1)
        assert np.abs(high - kernel).max() > 0.001
        np.testing.assert_allclose(high + low, kernel, rtol=2**-15)


def test_every_program_has_one_name_in_each_precision():
    names = [set(all_programs(CONFIG, one)) for one in ("float32", "bfloat16")]
    assert not names[0] & names[1]
    assert {name.removesuffix("_bfloat16") for name in names[1]} == names[0]


def test_biases_of_keys_and_values_move_without_a_change_of_the_attention(variables):
    """Exactly so before rounding: the same block of float32 kernels, with either biases."""
    folded = fold(variables, GRID)
    folded |= {name: array + 0.1 for name, array in _biases(folded, "attn/").items()}
    moved = {**folded, **_biases(round_weights(folded), "attn/")}
    attend = next(
        layer
        for layer in encoder_plan.plan(
            CONFIG.image_encoder, lambda _: True, encoder_plan.TileSizes(whole_grid=0)
        )
        if layer.program.name.startswith("encode_attend")
    )
    outputs = [_run(attend, weights) for weights in (folded, moved)]
    bias = f"{attend.scope}attn/qkv/bias"
    assert not np.array_equal(folded[bias], moved[bias])
    np.testing.assert_allclose(*outputs, atol=1e-5)


def test_the_bias_after_gelu_makes_up_for_what_rounding_takes_on_the_mean():
    generator = np.random.default_rng(0)
    shapes = {
        "fc1/kernel": (64, 256),
        "fc1/bias": (256,),
        "fc2/kernel": (256, 64),
        "fc2/bias": (64,),
    }
    root = "params/image_encoder/layers_1/blocks_0/mlp/"
    folded = {
        root + name: generator.normal(0, 0.1, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    rounded = round_weights(folded)
    tokens = generator.normal(size=(20_000, 64)).astype(np.float32)
    tokens -= tokens.mean(1, keepdims=True)
    hidden = tokens @ folded[root + "fc1/kernel"] + folded[root + "fc1/bias"]
    hidden = np.asarray(jax.nn.gelu(hidden, approximate=False))
    kernel, low = (one[root + "fc2/kernel"].astype(np.float32) for one in (folded, rounded))
    lost = (hidden @ (kernel - low)).mean(0)
    corrected = lost - (rounded[root + "fc2/bias"] - folded[root + "fc2/bias"])
    assert np.abs(corrected).mean() < 0.1 * np.abs(lost).mean()


def _biases(variables: dict[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    return {k: v for k, v in variables.items() if part in k and k.endswith("/bias")}


def _run(layer: encoder_plan.EncoderLayer, folded: dict[str, np.ndarray]) -> np.ndarray:
    """A layer's program on noise."""
    names, function = layer.program.parameter_names(folded), layer.program.function()
    tree = unflatten(dict(zip(names, layer.program.arguments(folded, layer.scope), strict=True)))
    tile, *inside = layer.program.input_shapes
    noise = np.random.default_rng(1).normal(size=tile).astype(np.float32)
    return np.asarray(jax.jit(function)(tree, noise, *(np.ones(one, np.float32) for one in inside)))
