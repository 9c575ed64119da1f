"""The contract of every weights file: which variables a configuration has, and of what shape.

Written down once more in plain Python, because a timed start cannot afford to import JAX and Flax
to ask the network itself; a test holds that both say the same.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice, pairwise

import numpy as np

from litemedsam_jax.config import (
    MaskDecoderConfig,
    ModelConfig,
    PromptEncoderConfig,
    TinyViTConfig,
    ViTConfig,
)
from litemedsam_jax.weights.tree import PARTS

DTYPE = np.dtype(np.float32)  # of every variable

Shape = tuple[int, ...]
_Shapes = Iterator[tuple[str, Shape]]  # paths without collection and part
_MOST_VARIABLES = 10_000  # of a part: MedSAM's encoder has 177
_POINT_KINDS = 4  # background, foreground, first and second corner of a box
_BUFFER = "pe_layer/positional_encoding_gaussian_matrix"


def variable_shapes(config: ModelConfig, parts: Iterable[str] = PARTS) -> dict[str, Shape]:
    """Returns path -> shape of every variable that the network's `init` makes.

    Args:
        config: The architecture.
        parts: Of which of `tree.PARTS`.

    Raises:
        ValueError: The configuration (which may come from a file) is of no possible network.
    """
    encoder = config.image_encoder
    shapes = {
        "image_encoder": lambda: (
            _tiny_vit(encoder) if isinstance(encoder, TinyViTConfig) else _vit(encoder)
        ),
        "prompt_encoder": lambda: _prompt_encoder(config.prompt_encoder),
        "mask_decoder": lambda: _mask_decoder(config.mask_decoder),
    }
    result = {}
    try:
        for part in parts:
            for name, shape in islice(shapes[part](), _MOST_VARIABLES):
                result[f"{_collection(name)}/{part}/{name}"] = shape
    except (ArithmeticError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"sizes of which no network can be made ({error})") from error
    return result


def mismatches(
    variables: Mapping[str, np.ndarray],
    shapes: Mapping[str, Shape],
    spell: Callable[[str, Shape], tuple[str, Shape]] = lambda path, shape: (path, shape),
) -> list[str]:
    """Compares variables with the contract.

    Args:
        variables: Path -> array.
        shapes: What was expected, from `variable_shapes`.
        spell: How the file calls a variable, and how it lays out a shape, for the messages.

    Returns:
        One line for each variable that is missing, surplus, or of another shape or type.
    """
    faults = []
    for path, value in variables.items():
        wanted = shapes.get(path)
        name, shape = spell(path, value.shape)
        if wanted is None:
            faults.append(f"surplus: {name} {shape}")
            continue
        if value.shape != wanted:
            faults.append(f"shape: {name} {shape}, {spell(path, wanted)[1]} was expected")
        if value.dtype != DTYPE:
            faults.append(f"dtype: {name} {value.dtype}, {DTYPE} was expected")
    for path in shapes.keys() - variables.keys():
        name, shape = spell(path, shapes[path])
        faults.append(f"missing: {name} {shape}")
    return sorted(faults)


def _collection(name: str) -> str:
    if name.endswith(("/bn/mean", "/bn/var")):
        return "batch_stats"
    return "buffers" if name == _BUFFER else "params"


def _linear(name: str, inputs: int, features: int) -> _Shapes:
    yield f"{name}/kernel", (inputs, features)
    yield f"{name}/bias", (features,)


def _conv(name: str, size: int, inputs: int, features: int, bias: bool = False) -> _Shapes:
    yield f"{name}/kernel", (size, size, inputs, features)
    if bias:
        yield f"{name}/bias", (features,)


def _norm(name: str, features: int) -> _Shapes:
    yield f"{name}/scale", (features,)
    yield f"{name}/bias", (features,)


def _conv_norm(name: str, size: int, inputs: int, features: int) -> _Shapes:
    yield from _conv(f"{name}/c", size, inputs, features)
    yield from _norm(f"{name}/bn", features)
    yield f"{name}/bn/mean", (features,)
    yield f"{name}/bn/var", (features,)


def _neck(inputs: int, features: int) -> _Shapes:
    yield from _conv("neck_0", 1, inputs, features)
    yield from _norm("neck_1", features)
    yield from _conv("neck_2", 3, features, features)
    yield from _norm("neck_3", features)


def _tiny_vit(config: TinyViTConfig) -> _Shapes:
    width, kernel = config.stages[0].dim, config.stem_kernel
    yield from _conv_norm("patch_embed/seq_0", kernel, 3, width // 2)
    yield from _conv_norm("patch_embed/seq_2", kernel, width // 2, width)
    for index, stage in enumerate(config.stages):
        for number in range(stage.depth):
            block = f"layers_{index}/blocks_{number}"
            if index == 0:
                yield from _expanding_convs(block, stage.dim, stage.dim * config.expansion)
            else:
                yield from _window_attention(f"{block}/attn", stage.dim, stage.heads, stage.window)
                yield from _conv_norm(f"{block}/local_conv", 3, 1, stage.dim)
                yield from _norm(f"{block}/mlp/norm", stage.dim)
                hidden = stage.dim * config.mlp_ratio
                yield from _linear(f"{block}/mlp/fc1", stage.dim, hidden)
                yield from _linear(f"{block}/mlp/fc2", hidden, stage.dim)
        if stage.downsample_stride is not None:
            merging, wider = f"layers_{index}/downsample", config.stages[index + 1].dim
            yield from _conv_norm(f"{merging}/conv1", 1, stage.dim, wider)
            yield from _conv_norm(f"{merging}/conv2", 3, 1, wider)
            yield from _conv_norm(f"{merging}/conv3", 1, wider, wider)
    yield from _neck(config.stages[-1].dim, config.out_dim)


def _expanding_convs(block: str, dim: int, hidden: int) -> _Shapes:
    yield from _conv_norm(f"{block}/conv1", 1, dim, hidden)
    yield from _conv_norm(f"{block}/conv2", 3, 1, hidden)
    yield from _conv_norm(f"{block}/conv3", 1, hidden, dim)


def _window_attention(name: str, dim: int, heads: int, window: int) -> _Shapes:
    yield from _norm(f"{name}/norm", dim)
    yield from _linear(f"{name}/qkv", dim, 3 * dim)
    yield from _linear(f"{name}/proj", dim, dim)
    yield f"{name}/attention_biases", (heads, window**2)


def _vit(config: ViTConfig) -> _Shapes:
    dim, grid = config.dim, config.grid_size
    yield from _conv("patch_embed/proj", config.patch_size, 3, dim, bias=True)
    yield "pos_embed", (1, grid, grid, dim)
    for index in range(config.depth):
        block = f"blocks_{index}"
        side = grid if index in config.global_blocks else config.window
        yield from _norm(f"{block}/norm1", dim)
        yield from _linear(f"{block}/attn/qkv", dim, 3 * dim)
        yield from _linear(f"{block}/attn/proj", dim, dim)
        for axis in "hw":
            yield f"{block}/attn/rel_pos_{axis}", (2 * side - 1, dim // config.heads)
        yield from _norm(f"{block}/norm2", dim)
        yield from _linear(f"{block}/mlp/lin1", dim, dim * config.mlp_ratio)
        yield from _linear(f"{block}/mlp/lin2", dim * config.mlp_ratio, dim)
    yield from _neck(dim, config.out_dim)


def _prompt_encoder(config: PromptEncoderConfig) -> _Shapes:
    dim, channels = config.dim, config.mask_channels
    yield _BUFFER, (2, dim // 2)
    points = [f"point_embeddings_{kind}" for kind in range(_POINT_KINDS)]
    for name in (*points, "not_a_point_embed", "no_mask_embed"):
        yield f"{name}/embedding", (1, dim)
    yield from _conv("mask_downscaling_0", 2, 1, channels // 4, bias=True)
    yield from _norm("mask_downscaling_1", channels // 4)
    yield from _conv("mask_downscaling_3", 2, channels // 4, channels, bias=True)
    yield from _norm("mask_downscaling_4", channels)
    yield from _conv("mask_downscaling_6", 1, channels, dim, bias=True)


def _mask_decoder(config: MaskDecoderConfig) -> _Shapes:
    dim, masks = config.dim, config.multimask_outputs + 1
    inner = dim // config.attention_downsample
    yield "iou_token/embedding", (1, dim)
    yield "mask_tokens/embedding", (masks, dim)
    yield from _mlp("iou_prediction_head", (dim, dim, dim, masks))
    for index in range(masks):
        yield from _mlp(f"output_hypernetworks_mlps_{index}", (dim, dim, dim, dim // 8))
    for index, (inputs, features) in ((0, (dim, dim // 4)), (3, (dim // 4, dim // 8))):
        # Transposed: the kernel is (2, 2, out, in).
        yield f"output_upscaling_{index}/kernel", (2, 2, features, inputs)
        yield f"output_upscaling_{index}/bias", (features,)
    yield from _norm("output_upscaling_1", dim // 4)
    for index in range(config.depth):
        layer = f"transformer/layers_{index}"
        yield from _attention(f"{layer}/self_attn", dim, dim)
        yield from _attention(f"{layer}/cross_attn_token_to_image", dim, inner)
        yield from _attention(f"{layer}/cross_attn_image_to_token", dim, inner)
        yield from _linear(f"{layer}/mlp/lin1", dim, config.mlp_dim)
        yield from _linear(f"{layer}/mlp/lin2", config.mlp_dim, dim)
        for number in range(1, 5):
            yield from _norm(f"{layer}/norm{number}", dim)
    yield from _attention("transformer/final_attn_token_to_image", dim, inner)
    yield from _norm("transformer/norm_final_attn", dim)


def _mlp(name: str, widths: tuple[int, ...]) -> _Shapes:
    for index, (inputs, features) in enumerate(pairwise(widths)):
        yield from _linear(f"{name}/layers_{index}", inputs, features)


def _attention(name: str, dim: int, inner: int) -> _Shapes:
    for projection in ("q_proj", "k_proj", "v_proj"):
        yield from _linear(f"{name}/{projection}", dim, inner)
    yield from _linear(f"{name}/out_proj", inner, dim)
