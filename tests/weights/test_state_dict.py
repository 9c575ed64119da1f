"""state_dict <-> variables: every wrapping, every kind of mismatch, bit-exact round trips."""

import numpy as np
import pytest
import torch

from litemedsam_jax.config import lite_medsam, medsam_vit_b, mobile_sam
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.load import load
from litemedsam_jax.weights.state_dict import (
    recognise,
    to_state_dict,
    to_variables,
    unwrap,
)
from tests import oracle


def _tensors(state):
    return {key: torch.from_numpy(np.array(value)) for key, value in state.items()}


def _same(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert value.dtype == second[key].dtype and value.shape == second[key].shape, key
        assert value.tobytes() == second[key].tobytes(), key


def test_every_key_of_the_published_checkpoint_has_its_place(published_weights, published_pth):
    state = torch.load(published_pth, weights_only=True)
    assert len(state) == 435
    assert len(published_weights.variables) == 408 and len(published_weights.counters) == 27
    assert published_weights.config == lite_medsam()
    variables = published_weights.variables
    prefix = "image_encoder.layers.0.blocks.0.conv2"
    path = "image_encoder/layers_0/blocks_0/conv2"
    kernel = state[f"{prefix}.c.weight"].numpy()
    np.testing.assert_array_equal(
        variables[f"params/{path}/c/kernel"], np.moveaxis(kernel, (0, 1), (3, 2))
    )
    np.testing.assert_array_equal(
        variables[f"batch_stats/{path}/bn/var"], state[f"{prefix}.bn.running_var"].numpy()
    )
    matrix = "pe_layer.positional_encoding_gaussian_matrix"
    np.testing.assert_array_equal(
        variables[f"buffers/prompt_encoder/{matrix.replace('.', '/')}"],
        state[f"prompt_encoder.{matrix}"].numpy(),
    )


def test_round_trip_is_bit_exact(published_weights, published_pth):
    original = {k: v.numpy() for k, v in torch.load(published_pth, weights_only=True).items()}
    back = to_state_dict(
        published_weights.variables, published_weights.config, published_weights.counters
    )
    _same(original, back)


def test_round_trip_of_random_tensors_loads_strictly(random_oracle, random_weights):
    """Random counters too; the oracle computes the same after the trip there and back."""
    back = to_state_dict(random_weights.variables, random_weights.config, random_weights.counters)
    _same({key: value.numpy() for key, value in random_oracle.state_dict().items()}, back)
    oracle.lite_medsam().load_state_dict(_tensors(back), strict=True)


def _wrappings(state):
    encoder = {k: v for k, v in state.items() if k.startswith("image_encoder.")}
    bare_encoder = {k.removeprefix("image_encoder."): v for k, v in encoder.items()}
    logger = {"loss": np.float64(0.5), "optimizer": {"state": {}}, "epoch": 7}
    return {
        "bare": (state, False),
        "trainer": ({"model": state, **logger}, False),
        "state_dict": ({"state_dict": state}, False),
        "parallel": ({f"module.{k}": v for k, v in state.items()}, False),
        "parallel trainer": ({"model": {f"module.{k}": v for k, v in state.items()}}, False),
        "compiled": ({f"_orig_mod.{k}": v for k, v in state.items()}, False),
        "compiled encoder": (
            {k.replace("image_encoder.", "image_encoder._orig_mod."): v for k, v in state.items()},
            False,
        ),
        "lightning": (
            {"state_dict": {f"model.{k}": v for k, v in state.items()}, "hyper_parameters": {}},
            False,
        ),
        "all at once": ({f"net.module._orig_mod.{k}": v for k, v in state.items()}, False),
        "encoder": (encoder, True),
        "compiled encoder alone": ({f"_orig_mod.{k}": v for k, v in bare_encoder.items()}, True),
        "encoder without prefix": (bare_encoder, True),
        "distillation": ({"model": bare_encoder, **logger}, True),
    }


WRAPPINGS = [
    "bare",
    "trainer",
    "state_dict",
    "parallel",
    "parallel trainer",
    "compiled",
    "compiled encoder",
    "lightning",
    "all at once",
    "encoder",
    "compiled encoder alone",
    "encoder without prefix",
    "distillation",
]


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrappings(wrapping, tmp_path, tiny_state, tiny_variables, tiny_config):
    saved, encoder_alone = _wrappings(_tensors(tiny_state))[wrapping]
    torch.save(saved, tmp_path / "a.pth")
    converted = load(tmp_path / "a.pth")
    assert converted.config == tiny_config
    expected = {
        name: value
        for name, value in tiny_variables.items()
        if not encoder_alone or "/image_encoder/" in name
    }
    _same(expected, converted.variables)
    counters = {k: int(v) for k, v in tiny_state.items() if k.endswith("num_batches_tracked")}
    assert converted.counters == counters


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("counters_too", [False, True])
def test_half_precision_is_widened_exactly(kind, counters_too, tmp_path, tiny_state):
    halved = {
        key: value.to(kind) if value.is_floating_point() or counters_too else value
        for key, value in _tensors(tiny_state).items()
    }
    torch.save(halved, tmp_path / "half.pth")
    weights = load(tmp_path / "half.pth")
    back = to_state_dict(weights.variables, weights.config)
    for key, value in halved.items():
        if "num_batches" not in key:
            assert back[key].dtype == np.float32
            np.testing.assert_array_equal(back[key], value.float().numpy())
    assert bool(weights.counters) == (not counters_too)


def test_all_mismatches_are_listed_at_once(tiny_state, tiny_config):
    state = dict(tiny_state)
    missing = "mask_decoder.iou_token.weight"
    shape = "image_encoder.neck.0.weight"
    dtype = "prompt_encoder.no_mask_embed.weight"
    statistics = "image_encoder.patch_embed.seq.0.bn.running_mean"
    counter = "image_encoder.patch_embed.seq.0.bn.num_batches_tracked"
    del state[missing], state[statistics]
    state[shape] = state[shape][:, :5]
    state[dtype] = state[dtype].astype(np.float64)
    state[counter] = np.float32(3)
    state["image_encoder.extra.weight"] = np.zeros((2, 3), np.float32)
    state["image_encoder.extra.bn.num_batches_tracked"] = np.int64(3)
    # The network's own spelling means the same variable as torch's: set twice.
    state["image_encoder.neck_1.bias"] = state["image_encoder.neck.1.bias"]
    with pytest.raises(CheckpointError) as error:
        to_variables(state, tiny_config, source="x.pth")
    lines = str(error.value).splitlines()
    assert lines[0] == "x.pth: does not match tiny_for_tests, 8 mismatches:"
    expected = [
        f"missing: {missing} (1, 32)",
        f"missing: {statistics} (4,)",
        f"shape: {shape} (32, 5, 1, 1), (32, 32, 1, 1) was expected",
        f"dtype: {dtype} float64, float32 was expected",
        f"dtype: {counter} float32(), a single int64 was expected",
        "surplus: image_encoder.extra.weight (2, 3)",
        "surplus: image_encoder.extra.bn.num_batches_tracked ()",
        "double: image_encoder.neck_1.bias sets params/image_encoder/neck_1/bias again",
    ]
    assert sorted(line.strip() for line in lines[1:]) == sorted(expected)


def test_a_kernel_that_is_square_but_for_torch_is_turned(tiny_state, tiny_variables, tiny_config):
    """Square kernels fit both ways round: only their values tell."""
    key = "mask_decoder.transformer.layers.0.self_attn.q_proj.weight"
    converted = to_variables(tiny_state, tiny_config)
    path = "params/mask_decoder/transformer/layers_0/self_attn/q_proj/kernel"
    np.testing.assert_array_equal(converted.variables[path], tiny_state[key].T)
    np.testing.assert_array_equal(converted.variables[path], tiny_variables[path])


def test_a_part_that_is_missing_is_no_encoder_alone(tmp_path, tiny_state):
    state = {k: v for k, v in tiny_state.items() if not k.startswith("prompt_encoder.")}
    torch.save(_tensors(state), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"missing: prompt_encoder\.no_mask_embed\.weight"):
        load(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "loaded", [None, [], {}, {"a": 1}, {"model": {}}, {"model": {"a": "b"}}, {"optimizer": {}}]
)
def test_no_state_dict(loaded):
    with pytest.raises(CheckpointError, match="no state_dict"):
        unwrap(loaded, "x.pth")


@pytest.mark.parametrize(
    "key, shape, answer",
    [
        ("patch_embed.seq.0.c.weight", (32, 3, 1, 1), lite_medsam()),
        ("patch_embed.seq.0.c.weight", (32, 3, 3, 3), mobile_sam()),
        ("patch_embed.proj.weight", (768, 3, 16, 16), medsam_vit_b()),
        ("patch_embed.proj.weight", (1024, 3, 16, 16), "SAM's ViT-L"),
        ("patch_embed.proj.weight", (1280, 3, 16, 16), "SAM's ViT-H"),
        ("patch_embed.seq.0.c.weight", (48, 3, 3, 3), "a TinyViT whose first convolution"),
        ("conv1.weight", (64, 3, 7, 7), "no image encoder of LiteMedSAM"),
    ],
)
def test_architectures(key, shape, answer):
    state = {f"image_encoder.{key}": np.broadcast_to(np.float32(0), shape)}
    if isinstance(answer, str):
        with pytest.raises(CheckpointError, match=f"another architecture: {answer}"):
            recognise(state)
    else:
        assert recognise(state) == answer


def test_mobile_sam_with_its_classifier():
    """MobileSAM's encoder has an ImageNet head, which SAM uses nowhere: it alone is ignored."""
    encoder = oracle.fill_randomly(oracle.mobile_sam_encoder())
    full = unwrap({key: value.numpy() for key, value in encoder.state_dict().items()})
    heads = {
        key for key in full if key.startswith(("image_encoder.norm_head", "image_encoder.head"))
    }
    assert len(heads) == 4
    converted = to_variables(full, recognise(full), ["image_encoder"])
    assert converted.config == mobile_sam()
    back = to_state_dict(converted.variables, converted.config, converted.counters)
    _same({key: value for key, value in full.items() if key not in heads}, back)


def test_teacher_round_trip():
    encoder = oracle.fill_randomly(oracle.vit_b())
    state = unwrap({key: value.numpy() for key, value in encoder.state_dict().items()})
    assert len(state) == 177
    converted = to_variables(state, recognise(state), ["image_encoder"])
    assert converted.config == medsam_vit_b()
    _same(state, to_state_dict(converted.variables, converted.config))


def test_inverse_refuses_what_is_not_the_network(tiny_variables, tiny_config):
    variables = dict(tiny_variables)
    del variables["params/mask_decoder/iou_token/embedding"]
    variables["params/mask_decoder/stranger/kernel"] = np.zeros(3)
    with pytest.raises(CheckpointError, match="2 mismatches") as error:
        to_state_dict(variables, tiny_config)
    assert "stranger" in str(error.value) and "iou_token" in str(error.value)
