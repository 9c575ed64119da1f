"""Whole networks: published weights on real images, random teacher and MobileSAM, counts."""

import functools
import math

import jax
import numpy as np
import pytest
import torch

from litemedsam_jax import config
from litemedsam_jax.config import Execution, lite_medsam, medsam_vit_b, mobile_sam
from litemedsam_jax.models.image_encoder import ImageEncoderViT, ViTBlock
from litemedsam_jax.models.lite_medsam import LiteMedSAM, init_variables
from litemedsam_jax.models.prompt_encoder import PromptEncoder
from litemedsam_jax.models.tiny_vit import TinyViT
from litemedsam_jax.weights import store, torch_checkpoint
from litemedsam_jax.weights.folding import fold
from tests import oracle
from tests.parity import (
    BLOCK,
    EMBEDDING,
    LOGITS,
    exact,
    largest_error,
    nhwc,
    part,
    record_inputs,
    relative_error,
)

BOXES = np.array(
    [[30, 40, 200, 220], [0, 0, 256, 256], [100.5, 90.25, 140.75, 130], [5, 5, 12, 9]], np.float32
)
POINTS = np.array([[[60, 70], [200, 40]], [[128, 128], [10, 250]]], np.float32)
LABELS = np.array([[1, 0], [1, -1]], np.int32)


def _nchw(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(image, -1, 1).copy())


@pytest.fixture(scope="module")
def published(published_weights):
    """apply(method, *arguments, folded=..., **options) with the published weights, compiled."""
    variables = {
        False: store.unflatten(published_weights.variables),
        True: store.unflatten(fold(published_weights.variables)),
    }

    @functools.cache
    def compiled(method, folded, options):
        model = LiteMedSAM(lite_medsam(), Execution(folded=folded))
        return jax.jit(
            lambda v, args, kwargs: model.apply(v, *args, **kwargs, **dict(options), method=method)
        )

    def apply(method, *arguments, folded=False, multimask=None, **arrays):
        options = () if multimask is None else (("multimask", multimask),)
        return compiled(method, folded, options)(variables[folded], arguments, arrays)

    return apply


@pytest.fixture(scope="module")
def embeddings(real_images, published_oracle):
    """The oracle's own embeddings (float64) of the real images: name -> (1, 256, 64, 64)."""
    encoder = published_oracle.image_encoder
    return {name: exact(encoder, _nchw(image[None])) for name, image in real_images.items()}


@pytest.fixture(scope="module")
def decode_exactly(published_oracle):
    """The oracle's prompt encoder and mask decoder in float64, on a float32 embedding."""

    def decode(embedding, boxes=None, points=None, masks=None, multimask=False):
        model = published_oracle.double()
        try:
            with torch.no_grad():
                sparse, dense = model.prompt_encoder(points, boxes, masks)
                logits, iou = model.mask_decoder(
                    embedding.double(),
                    model.prompt_encoder.get_dense_pe(),
                    sparse,
                    dense,
                    multimask_output=multimask,
                )
        finally:
            model.float()
        return logits.numpy(), iou.numpy()

    return decode


def _as_float32(embedding: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
    """The same embedding for torch (1, C, G, G) and for us (1, G, G, C)."""
    tensor = torch.from_numpy(embedding.astype(np.float32))
    return tensor, nhwc(tensor)


def _check(actual, expected, image: int = 0):
    logits, iou = actual
    assert largest_error(logits[image], expected[0]) < LOGITS
    assert largest_error(iou[image], expected[1]) < 1e-5


def _doubles(*arrays):
    return tuple(
        torch.from_numpy(a).double() if a.dtype == np.float32 else torch.from_numpy(a)
        for a in arrays
    )


@pytest.mark.parametrize("folded", [False, True], ids=["plain", "folded"])
def test_embedding_of_real_images(folded, published, embeddings, real_images):
    assert len(real_images) == 4
    for name, image in real_images.items():
        ours = published("encode", image[None], folded=folded)
        assert largest_error(ours, nhwc(embeddings[name])) < EMBEDDING, name


@pytest.mark.parametrize("multimask", [False, True], ids=["single", "multimask"])
def test_boxes_of_one_image_in_one_call(multimask, published, embeddings, decode_exactly):
    for embedding in embeddings.values():
        tensor, array = _as_float32(embedding)
        boxes = torch.from_numpy(BOXES)[:, None].double()
        expected = decode_exactly(tensor, boxes, multimask=multimask)
        assert expected[0].shape == (4, 3 if multimask else 1, 256, 256)
        _check(published("decode", array, BOXES[None], multimask=multimask), expected)


@pytest.mark.parametrize("folded", [False, True], ids=["plain", "folded"])
def test_image_to_logits(folded, published, real_images, embeddings, decode_exactly):
    """End to end: the error of the embedding goes through the decoder too."""
    name = next(iter(real_images))
    boxes = torch.from_numpy(BOXES)[:, None].double()
    expected = decode_exactly(torch.from_numpy(embeddings[name]), boxes)
    ours = published("encode", real_images[name][None], folded=folded)
    _check(published("decode", ours, BOXES[None], folded=folded), expected)


def test_batch_of_images_with_padded_boxes(published, embeddings, decode_exactly):
    """Each image has its own boxes; rows that pad are 0 and change nothing, whatever they hold."""
    pairs = [_as_float32(embedding) for embedding in list(embeddings.values())[:2]]
    arrays = np.concatenate([array for _, array in pairs])
    boxes = np.stack([BOXES, BOXES[::-1]])
    boxes[1, 2:] = np.nan
    valid = np.array([[True] * 4, [True, True, False, False]])
    logits, iou = published("decode", arrays, boxes, valid=valid)
    for index, count in enumerate((4, 2)):
        wanted = torch.from_numpy(boxes[index, :count, None]).double()
        expected = decode_exactly(pairs[index][0], wanted)
        _check((logits[:, :count], iou[:, :count]), expected, index)
    assert not np.asarray(logits)[1, 2:].any() and not np.asarray(iou)[1, 2:].any()


def test_points(published, embeddings, decode_exactly):
    tensor, array = _as_float32(next(iter(embeddings.values())))
    expected = decode_exactly(tensor, points=_doubles(POINTS, LABELS), multimask=True)
    ours = published("decode", array, points=(POINTS[None], LABELS[None]), multimask=True)
    _check(ours, expected)


def test_points_with_boxes_and_masks(published, embeddings, decode_exactly):
    """All prompts together; the mask is the oracle's own first answer."""
    tensor, array = _as_float32(next(iter(embeddings.values())))
    boxes = torch.from_numpy(BOXES[:2, None]).double()
    first, _ = decode_exactly(tensor, boxes)
    masks = first.astype(np.float32)
    expected = decode_exactly(
        tensor, boxes, _doubles(POINTS, LABELS), torch.from_numpy(masks).double()
    )
    prompts = {"points": (POINTS[None], LABELS[None]), "masks": masks[None, :, 0]}
    _check(published("decode", array, BOXES[None, :2], **prompts), expected)


def test_prompt_encoder_at_1024():
    """The teacher's frame: coordinates are divided by 1024 there."""
    theirs = oracle.fill_randomly(oracle.prompt_encoder(1024))
    state = {f"prompt_encoder.{k}": v.numpy() for k, v in theirs.state_dict().items()}
    weights = torch_checkpoint.to_variables(state, lite_medsam(), ["prompt_encoder"])
    ours = PromptEncoder(lite_medsam().prompt_encoder, 1024, 64)
    variables = part(weights.variables, "prompt_encoder")
    boxes = 4 * BOXES
    sparse, dense = ours.apply(variables, boxes[None])
    expected_sparse, expected_dense = exact(theirs, None, torch.from_numpy(boxes)[:, None], None)
    assert relative_error(sparse[0], expected_sparse) < BLOCK
    assert relative_error(dense[0], nhwc(expected_dense)[:1]) < BLOCK
    positions = ours.apply(variables, method="dense_positions")
    with torch.no_grad():
        expected = nhwc(theirs.double().get_dense_pe().numpy())[0]
    assert relative_error(positions, expected) < BLOCK


def _encoder_variables(theirs, architecture):
    state = {f"image_encoder.{k}": v.numpy() for k, v in theirs.state_dict().items()}
    converted = torch_checkpoint.to_variables(state, architecture, ["image_encoder"])
    return converted.variables


def test_mobile_sam_encoder():
    theirs = oracle.fill_randomly(oracle.mobile_sam_encoder())
    image = torch.rand(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(6))
    variables = _encoder_variables(theirs, mobile_sam())
    ours = jax.jit(TinyViT(mobile_sam().image_encoder).apply)
    result = ours(part(variables, "image_encoder"), nhwc(image))
    # Seventeen blocks in a row, each within its own bound: see test_blocks for the single ones.
    assert relative_error(result, nhwc(exact(theirs, image))) < 3 * BLOCK


def test_teacher():
    """MedSAM's ViT-B: a windowed and a global block exactly, then the whole against float32."""
    theirs = oracle.fill_randomly(oracle.vit_b())
    image = torch.rand(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(7))
    outputs = []
    given = record_inputs(theirs, lambda: outputs.append(theirs(image)))
    architecture = medsam_vit_b()
    variables = _encoder_variables(theirs, architecture)
    ours = jax.jit(ImageEncoderViT(architecture.image_encoder).apply)
    result = ours(part(variables, "image_encoder"), nhwc(image))
    # The oracle is in float32 too here (float64 would take a minute), so both roundings count.
    assert relative_error(result, nhwc(outputs[0])) < 6 * BLOCK
    for index, window in ((1, 14), (2, 0)):
        name = f"blocks.{index}"
        (x,) = given[name]
        block = ViTBlock(architecture.image_encoder, window, Execution())
        result = jax.jit(block.apply)(part(variables, f"image_encoder/blocks_{index}"), x.numpy())
        assert relative_error(result, exact(theirs.get_submodule(name), x)) < BLOCK


def _parameters(architecture: config.ModelConfig) -> dict[str, int]:
    tree = jax.eval_shape(lambda: init_variables(architecture, jax.random.key(0)))
    counts: dict[str, int] = {}
    for name, leaf in store.flatten(tree["params"]).items():
        part_name = name.split("/")[0]
        counts[part_name] = counts.get(part_name, 0) + math.prod(leaf.shape)
    return counts


def test_parameter_counts():
    assert _parameters(lite_medsam()) == {
        "image_encoder": 5_726_740,
        "mask_decoder": 4_058_340,
        "prompt_encoder": 6_220,
    }
    assert _parameters(medsam_vit_b())["image_encoder"] == 89_670_912
