"""Whole networks: published weights on real images, random teacher and MobileSAM, counts."""

import functools
import math

import jax
import numpy as np
import pytest
import torch

from litemedsam_jax import config
from litemedsam_jax.config import Execution, lite_medsam, medsam_vit_b, mobile_sam
from litemedsam_jax.engine.folding import fold
from litemedsam_jax.models import tiny_vit_inference
from litemedsam_jax.models.image_encoder import ImageEncoderViT, ViTBlock
from litemedsam_jax.models.lite_medsam import LiteMedSAMNetwork, init_variables
from litemedsam_jax.models.prompt_encoder import PromptEncoder
from litemedsam_jax.models.tiny_vit import TinyViT
from litemedsam_jax.weights.state_dict import to_variables
from litemedsam_jax.weights.tree import flatten, unflatten
from tests import oracle
from tests.parity import (
    BLOCK,
    EMBEDDING,
    LOGITS,
    largest_error,
    nhwc,
    part,
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
        False: unflatten(published_weights.variables),
        True: unflatten(fold(published_weights.variables)),
    }

    @functools.cache
    def compiled(method, folded, options):
        if method == "encode" and folded:
            encode = tiny_vit_inference.encode
            image_encoder = lite_medsam().image_encoder
            return jax.jit(
                lambda v, args, _: encode(v["params"]["image_encoder"], image_encoder, *args)
            )
        model = LiteMedSAMNetwork(lite_medsam(), Execution(folded=folded))
        return jax.jit(
            lambda v, args, kwargs: model.apply(v, *args, **kwargs, **dict(options), method=method)
        )

    def apply(method, *arguments, folded=False, multimask=None, **arrays):
        options = () if multimask is None else (("multimask", multimask),)
        return compiled(method, folded, options)(variables[folded], arguments, arrays)

    return apply


@pytest.fixture(scope="module")
def embeddings(real_images, published_oracle):
    """The oracle's own embeddings of the real images: name -> (1, 256, 64, 64)."""
    encoder = published_oracle.image_encoder
    with torch.no_grad():
        return {name: encoder(_nchw(image[None])) for name, image in real_images.items()}


@pytest.fixture(scope="module")
def decode_with_oracle(published_oracle):
    """The oracle's prompt encoder and mask decoder: one image, N prompts -> logits, IoU."""
    model = published_oracle

    def decode(embedding, boxes=None, points=None, masks=None, multimask=False):
        if boxes is not None:
            boxes = torch.from_numpy(boxes)[:, None]
        if points is not None:
            points = tuple(map(torch.from_numpy, points))
        with torch.no_grad():
            sparse, dense = model.prompt_encoder(points, boxes, masks)
            positions = model.prompt_encoder.get_dense_pe()
            result = model.mask_decoder(embedding, positions, sparse, dense, multimask)
        return tuple(tensor.numpy() for tensor in result)

    return decode


def _check(actual, expected, image: int = 0):
    logits, iou = actual
    assert largest_error(logits[image], expected[0]) < LOGITS
    assert largest_error(iou[image], expected[1]) < 1e-5


@pytest.mark.parametrize("folded", [False, True], ids=["plain", "folded"])
def test_embedding_of_real_images(folded, published, embeddings, real_images):
    assert len(real_images) == 4
    for name, image in real_images.items():
        ours = published("encode", image[None], folded=folded)
        assert largest_error(ours, nhwc(embeddings[name])) < EMBEDDING, name


@pytest.mark.parametrize("multimask", [False, True], ids=["single", "multimask"])
def test_boxes_of_one_image_in_one_call(multimask, published, embeddings, decode_with_oracle):
    for embedding in embeddings.values():
        expected = decode_with_oracle(embedding, BOXES, multimask=multimask)
        assert expected[0].shape == (4, 3 if multimask else 1, 256, 256)
        ours = published("decode", nhwc(embedding), BOXES[None], multimask=multimask)
        _check(ours, expected)


@pytest.mark.parametrize("folded", [False, True], ids=["plain", "folded"])
def test_image_to_logits(folded, published, real_images, embeddings, decode_with_oracle):
    """End to end: the error of the embedding goes through the decoder too."""
    for name, image in real_images.items():
        ours = published("encode", image[None], folded=folded)
        ours = published("decode", ours, BOXES[None], folded=folded)
        _check(ours, decode_with_oracle(embeddings[name], BOXES))


def test_batch_of_images_with_padded_boxes(published, embeddings, decode_with_oracle):
    """Each image has its own boxes; rows that pad are 0 and change nothing, whatever they hold."""
    pair = list(embeddings.values())[:2]
    boxes = np.stack([BOXES, BOXES[::-1]])
    boxes[1, 2:] = np.nan
    valid = np.array([[True] * 4, [True, True, False, False]])
    logits, iou = published("decode", nhwc(torch.cat(pair)), boxes, valid=valid)
    for index, count in enumerate((4, 2)):
        expected = decode_with_oracle(pair[index], boxes[index, :count])
        _check((logits[:, :count], iou[:, :count]), expected, index)
    assert not np.asarray(logits)[1, 2:].any() and not np.asarray(iou)[1, 2:].any()


def test_no_gradient_passes_through_padding():
    """Training's NaN would come from here: a row that pads may hold anything."""
    tiny = config.tiny_for_tests()
    rng = np.random.default_rng(0)
    tree = jax.eval_shape(lambda: init_variables(tiny, jax.random.key(0)))
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype("float32"), tree)
    embedding = rng.normal(size=(1, 64, 64, 32)).astype("float32")
    decode = functools.partial(LiteMedSAMNetwork(tiny).apply, method="decode")

    @jax.jit
    def gradient(boxes, valid):
        return jax.grad(lambda v: decode(v, embedding, boxes, valid=valid)[0].std())(variables)

    boxes = np.stack([BOXES, np.full_like(BOXES, np.nan)])[None, :, 0]
    padded = gradient(boxes, np.array([[True, False]]))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(padded))


def test_points(published, embeddings, decode_with_oracle):
    embedding = next(iter(embeddings.values()))
    expected = decode_with_oracle(embedding, points=(POINTS, LABELS), multimask=True)
    points = (POINTS[None], LABELS[None])
    _check(published("decode", nhwc(embedding), points=points, multimask=True), expected)


def test_points_with_boxes_and_masks(published, embeddings, decode_with_oracle):
    """All prompts together; the mask is the oracle's own first answer."""
    embedding = next(iter(embeddings.values()))
    masks, _ = decode_with_oracle(embedding, BOXES[:2])
    expected = decode_with_oracle(embedding, BOXES[:2], (POINTS, LABELS), torch.from_numpy(masks))
    prompts = {"points": (POINTS[None], LABELS[None]), "masks": masks[None, :, 0]}
    _check(published("decode", nhwc(embedding), BOXES[None, :2], **prompts), expected)


def test_prompt_encoder_at_1024():
    """The teacher's frame: coordinates are divided by 1024 there."""
    theirs = oracle.fill_randomly(oracle.prompt_encoder(1024))
    state = {f"prompt_encoder.{k}": v.numpy() for k, v in theirs.state_dict().items()}
    weights = to_variables(state, lite_medsam(), ["prompt_encoder"])
    ours = PromptEncoder(lite_medsam().prompt_encoder, 1024, 64)
    variables = part(weights.variables, "prompt_encoder")
    boxes = 4 * BOXES
    sparse, dense = ours.apply(variables, boxes[None])
    with torch.no_grad():
        expected_sparse, expected_dense = theirs(None, torch.from_numpy(boxes)[:, None], None)
        expected_positions = theirs.get_dense_pe()
    assert relative_error(sparse[0], expected_sparse.numpy()) < BLOCK
    everywhere = np.broadcast_to(dense[0], (1, 64, 64, 256))
    assert relative_error(everywhere, nhwc(expected_dense)[:1]) < BLOCK
    positions = ours.apply(variables, method="dense_positions")
    assert relative_error(positions, nhwc(expected_positions)[0]) < BLOCK


def _encoder_variables(theirs, architecture):
    state = {f"image_encoder.{k}": v.numpy() for k, v in theirs.state_dict().items()}
    converted = to_variables(state, architecture, ["image_encoder"])
    return converted.variables


def test_mobile_sam_encoder():
    theirs = oracle.fill_randomly(oracle.mobile_sam_encoder())
    image = torch.rand(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(6))
    variables = _encoder_variables(theirs, mobile_sam())
    ours = jax.jit(TinyViT(mobile_sam().image_encoder).apply)
    result = ours(part(variables, "image_encoder"), nhwc(image))
    # The whole, and the oracle in float32 too: both roundings count.
    assert relative_error(result, nhwc(theirs(image))) < 2 * BLOCK


def test_teacher():
    """MedSAM's ViT-B: the whole, and a windowed and a global block on the oracle's own input."""
    theirs = oracle.fill_randomly(oracle.vit_b())
    image = torch.rand(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(7))
    seen = {}
    for index in (1, 2):
        theirs.blocks[index].register_forward_hook(
            lambda _, given, made, index=index: seen.update({index: (given[0], made)})
        )
    expected = theirs(image)
    architecture = medsam_vit_b()
    variables = _encoder_variables(theirs, architecture)
    ours = jax.jit(ImageEncoderViT(architecture.image_encoder).apply)
    result = ours(part(variables, "image_encoder"), nhwc(image))
    # The whole, and the oracle in float32 too: both roundings count.
    assert relative_error(result, nhwc(expected)) < 2 * BLOCK
    for index, window in ((1, 14), (2, 0)):
        given, made = seen[index]
        block = ViTBlock(architecture.image_encoder, window, Execution())
        variables_of_block = part(variables, f"image_encoder/blocks_{index}")
        result = jax.jit(block.apply)(variables_of_block, given.numpy())
        assert relative_error(result, made.numpy()) < BLOCK


def _parameters(architecture: config.ModelConfig) -> dict[str, int]:
    tree = jax.eval_shape(lambda: init_variables(architecture, jax.random.key(0)))
    counts: dict[str, int] = {}
    for name, leaf in flatten(tree["params"]).items():
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
