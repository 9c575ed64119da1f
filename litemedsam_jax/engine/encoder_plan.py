"""The image encoder's layers as programs over row tiles; see models.tiny_vit_inference.

A program is compiled once and runs on every tile of every block of its shape: there is less to
load, and the activations of a tile stay in the processor's cache.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from litemedsam_jax.config import StageConfig, TinyViTConfig
from litemedsam_jax.engine.attention_bounds import SAFE, attention_bounds
from litemedsam_jax.engine.precision import FLOAT32, name_in
from litemedsam_jax.engine.programs import Program
from litemedsam_jax.engine.row_tiles import RowTiles

ROOT = "params/image_encoder/"


@dataclass(frozen=True)
class TileSizes:
    """Rows that a tile yields, the fastest of those tried.

    A tile's halo is computed twice, so smaller ones lose.

    Attributes:
        first_stage: of stem and MBConv blocks.
        attention: at least; whole windows are taken.
        transform: of a block's convolution and MLP.
        merge: of patch merging.
        neck: of the neck.
        repeated_windows: which part of the windows may be computed twice; a grid that cannot be
            cut better is taken whole.
        whole_grid: numbers in a grid that is too small to be cut.
    """

    first_stage: int = 8
    attention: int = 14
    transform: int = 8
    merge: int = 16
    neck: int = 16
    repeated_windows: float = 0.1
    whole_grid: int = 64 * 64 * 100


@dataclass(frozen=True)
class EncoderLayer:
    """One step of the encoder.

    Attributes:
        program: what it runs on each tile.
        scope: how its parameters' names begin.
        tiles: of its output.
    """

    program: Program
    scope: str
    tiles: RowTiles


def plan(
    config: TinyViTConfig,
    subtract_max: Callable[[str], bool],
    sizes: TileSizes | None = None,
    precision: str = FLOAT32,
) -> list[EncoderLayer]:
    """The layers in order.

    Args:
        config: of the image encoder.
        subtract_max: whether the softmax of the attention in a scope must subtract its maximum;
            see `large_logits`.
        sizes: of tiles.
        precision: "float32" or "bfloat16", of the weights.
    """
    sizes = sizes or TileSizes()
    layers = [_first_stage(config, sizes)]
    size = layers[0].tiles.output_size
    for index, stage in enumerate(config.stages[1:], start=1):
        for block in range(stage.depth):
            scope = f"{ROOT}layers_{index}/blocks_{block}/"
            layers += _block(index, stage, size, scope, subtract_max(scope), sizes)
        if stage.downsample_stride is not None:
            merge = _merge(index, stage, size, config.stages[index + 1].dim, sizes)
            layers.append(merge)
            size = merge.tiles.output_size
    layers.append(_neck(config, size, sizes))
    return layers if precision == FLOAT32 else [_in_precision(one, precision) for one in layers]


def _in_precision(layer: EncoderLayer, precision: str) -> EncoderLayer:
    name = name_in(precision, layer.program.name)
    return replace(layer, program=replace(layer.program, name=name, precision=precision))


def large_logits(folded: dict[str, np.ndarray]) -> Callable[[str], bool]:
    """For `plan`: the scopes whose attention's logits these weights do not keep small."""
    bounds = attention_bounds(folded)
    return lambda scope: bounds[f"{scope}attn/attention_biases"] > SAFE


def _layer(
    name: str,
    function: Callable[[], Callable],
    tiles: RowTiles,
    *,
    scope: str,
    parameters: tuple[str, ...],
    attends: bool = False,
    sees_edges: bool = False,
) -> EncoderLayer:
    """A layer whose function takes `inside` beside a tile where it `sees_edges`."""
    program = Program(
        name=name,
        function=function,
        parameters=parameters,
        scope=scope,
        input_shapes=tiles.input_shapes if sees_edges else tiles.input_shapes[:1],
        output_shapes=(tiles.output_shape,),
        attends=attends,
        one_core=True,
    )
    return EncoderLayer(program, scope, tiles)


def _first_stage(config: TinyViTConfig, sizes: TileSizes) -> EncoderLayer:
    stage, stride = config.stages[0], config.stages[0].downsample_stride or 1
    output_size = config.image_size // stride
    tiles = RowTiles(
        input_size=config.image_size,
        input_channels=3,
        output_size=output_size,
        output_channels=config.stages[1].dim,
        rows=sizes.first_stage,
        padded_rows=output_size,
        stride=stride,
        halo=stage.depth + 1,
    )

    def function() -> Callable:
        from litemedsam_jax.models.tiny_vit_inference import first_stage

        return lambda params, x, inside: first_stage(params, config, x, inside)

    parameters = ("patch_embed/", "layers_0/")
    return _layer(
        "encode_first", function, tiles, scope=ROOT, parameters=parameters, sees_edges=True
    )


def _block(
    index: int, stage: StageConfig, size: int, scope: str, subtract_max: bool, sizes: TileSizes
) -> list[EncoderLayer]:
    if size**2 * stage.dim > sizes.whole_grid:
        return [
            _attend(index, stage, size, scope, subtract_max, sizes),
            _transform(index, stage, size, scope, sizes),
        ]

    def function() -> Callable:
        from litemedsam_jax.models.tiny_vit_inference import block

        return lambda params, x: block(params, x, stage.window, subtract_max)

    name = _attention_name(f"encode_block_{index}", subtract_max)
    parameters = ("attn/", "local_conv/", "mlp/")
    tiles = _same_size(stage, size, rows=size)
    return [_layer(name, function, tiles, scope=scope, parameters=parameters, attends=True)]


def _attend(
    index: int, stage: StageConfig, size: int, scope: str, subtract_max: bool, sizes: TileSizes
) -> EncoderLayer:
    window = stage.window
    windows = -(-size // window)  # rows of windows
    tile_count = min(windows, -(-windows * window // sizes.attention))
    windows_each = -(-windows // tile_count)
    if windows_each * tile_count > windows * (1 + sizes.repeated_windows):
        windows_each = windows

    def function() -> Callable:
        from litemedsam_jax.models.inference_attention import attend

        return lambda params, x: attend(params, x, window, subtract_max)

    name = _attention_name(f"encode_attend_{index}", subtract_max)
    tiles = _same_size(stage, size, rows=windows_each * window, padded_rows=windows * window)
    return _layer(name, function, tiles, scope=scope, parameters=("attn/",), attends=True)


def _attention_name(name: str, subtract_max: bool) -> str:
    return f"{name}_max_subtracted" if subtract_max else name


def _transform(
    index: int, stage: StageConfig, size: int, scope: str, sizes: TileSizes
) -> EncoderLayer:
    def function() -> Callable:
        from litemedsam_jax.models.tiny_vit_inference import transform

        return lambda params, x: transform(params, x)

    tiles = _same_size(stage, size, rows=sizes.transform, halo=1)
    parameters = ("local_conv/", "mlp/")
    name = f"encode_transform_{index}"
    return _layer(name, function, tiles, scope=scope, parameters=parameters)


def _same_size(
    stage: StageConfig, size: int, *, rows: int, padded_rows: int | None = None, halo: int = 0
) -> RowTiles:
    """Tiles of a layer whose output has its input's size and channels."""
    return RowTiles(
        input_size=size,
        input_channels=stage.dim,
        output_size=size,
        output_channels=stage.dim,
        rows=rows,
        padded_rows=padded_rows or size,
        halo=halo,
    )


def _merge(
    index: int, stage: StageConfig, size: int, output_channels: int, sizes: TileSizes
) -> EncoderLayer:
    stride = stage.downsample_stride or 1
    output_size = size // stride
    tiles = RowTiles(
        input_size=size,
        input_channels=stage.dim,
        output_size=output_size,
        output_channels=output_channels,
        rows=min(sizes.merge, output_size),
        padded_rows=output_size,
        stride=stride,
        halo=1,
    )

    def function() -> Callable:
        from litemedsam_jax.models.tiny_vit_inference import merge

        return lambda params, x, inside: merge(params, x, inside, stride)

    scope = f"{ROOT}layers_{index}/downsample/"
    return _layer(
        f"encode_merge_{index}",
        function,
        tiles,
        scope=scope,
        parameters=("conv",),
        sees_edges=True,
    )


def _neck(config: TinyViTConfig, size: int, sizes: TileSizes) -> EncoderLayer:
    tiles = RowTiles(
        input_size=size,
        input_channels=config.stages[-1].dim,
        output_size=size,
        output_channels=config.out_dim,
        rows=min(sizes.neck, size),
        padded_rows=size,
        halo=1,
    )

    def function() -> Callable:
        from litemedsam_jax.models.tiny_vit_inference import neck

        return neck

    return _layer(
        "encode_neck", function, tiles, scope=ROOT, parameters=("neck_",), sees_edges=True
    )
