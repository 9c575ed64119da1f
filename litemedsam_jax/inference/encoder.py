"""The image encoder's layers as programs over strips of rows; see models.folded_tiny_vit.

A program is compiled once and runs on every strip of every block of its shape: there is less to
load, and the activations of a strip stay in the processor's cache.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from litemedsam_jax.config import StageConfig, TinyViTConfig

ROOT = "params/image_encoder/"

# Rows that a strip yields, the fastest of those tried (2 cores, 32 MB of cache). What convolutions
# reach beyond a strip is computed twice, so smaller ones lose.
_FIRST_STAGE = 16
_ATTENTION = 35
_TRANSFORM = 16
_WASTE = 0.1  # of windows attended to twice; a grid that cannot be cut better is taken whole

Run = Callable[[str, str, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Layer:
    """A program and the strips that it runs on."""

    program: str
    function: str  # of models.folded_tiny_vit
    stage: int
    wanted: tuple[str, ...]  # how its parameters' names begin, below its part of the network
    size: int  # of the input, a square grid
    channels: int
    made: int  # size of the output
    made_channels: int
    rows: int  # that a strip yields
    covered: int  # rows of the output that strips must yield, where more than `made`: of windows
    stride: int = 1
    reach: int = 0  # rows that convolutions see on either side

    @property
    def taken(self) -> int:
        """Rows of a strip of the input."""
        return self.stride * (self.rows - 1) + 1 + 2 * self.reach

    @property
    def starts(self) -> list[int]:
        """The first row of the output that each strip yields; the last two may overlap."""
        last = self.covered - self.rows
        return [min(start, last) for start in range(0, self.covered, self.rows)]

    @property
    def below(self) -> int:
        """Rows beyond the input's lower edge that the last strip takes along."""
        return max(self.starts[-1] * self.stride - self.reach + self.taken - self.size, 0)

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        return (1, self.taken, self.size, self.channels), (1, self.taken)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return 1, self.rows, self.made, self.made_channels


def plan(config: TinyViTConfig) -> list[tuple[Layer, str]]:
    """The layers in order, each with the part of the network (below ROOT) that it is."""
    first, size = config.stages[0], config.image_size
    steps = [(_first_stage(config), "")]
    size //= first.downsample_stride or 1
    for index, stage in enumerate(config.stages[1:], start=1):
        attend, transform = _attend(index, stage, size), _transform(index, stage, size)
        for block in range(stage.depth):
            part = f"layers_{index}/blocks_{block}/"
            steps += [(attend, part), (transform, part)]
        if stage.downsample_stride is not None:
            merge = _merge(index, stage, size, config.stages[index + 1].dim)
            steps.append((merge, f"layers_{index}/downsample/"))
            size = merge.made
    steps.append((_neck(config, size), ""))
    return steps


def _first_stage(config: TinyViTConfig) -> Layer:
    stage, stride = config.stages[0], config.stages[0].downsample_stride or 1
    made, wanted = config.image_size // stride, ("patch_embed/", "layers_0/")
    return Layer(
        "encode_first",
        "first_stage",
        0,
        wanted,
        config.image_size,
        3,
        made,
        config.stages[1].dim,
        rows=_FIRST_STAGE,
        covered=made,
        stride=stride,
        reach=stage.depth + 1,
    )


def _attend(index: int, stage: StageConfig, size: int) -> Layer:
    window, dim = stage.window, stage.dim
    windows = -(-size // window)
    strips = -(-windows * window // _ATTENTION)
    each = -(-windows // strips)
    if each * strips > windows * (1 + _WASTE):
        each = windows
    name, wanted, covered = f"encode_attend_{index}", ("attn/",), windows * window
    return Layer(name, "attend", index, wanted, size, dim, size, dim, each * window, covered)


def _transform(index: int, stage: StageConfig, size: int) -> Layer:
    dim, name, wanted = stage.dim, f"encode_transform_{index}", ("local_conv/", "mlp/")
    return Layer(name, "transform", index, wanted, size, dim, size, dim, _TRANSFORM, size, reach=1)


def _merge(index: int, stage: StageConfig, size: int, channels: int) -> Layer:
    stride, name = stage.downsample_stride or 1, f"encode_merge_{index}"
    made = size // stride
    return Layer(
        name, "merge", index, ("conv",), size, stage.dim, made, channels, made, made, stride, 1
    )


def _neck(config: TinyViTConfig, size: int) -> Layer:
    dim, made = config.stages[-1].dim, config.out_dim
    last = len(config.stages) - 1
    return Layer("encode_neck", "neck", last, ("neck_",), size, dim, size, made, size, size)


def encode(run: Run, steps: list[tuple[Layer, str]], image: np.ndarray) -> np.ndarray:
    """Runs all layers.

    Args:
        run: (program, part, strip, inside) -> what the strip yields.
        image: (S, S, 3) float32.
    Returns:
        The embedding (1, G, G, C).
    """
    grid = _Grid(steps[0][0])
    grid.write(0, image[None])
    for (layer, part), (following, _) in zip(steps, [*steps[1:], steps[-1]], strict=True):
        if layer is following:
            break
        made = _Grid(following)
        for start in layer.starts:
            made.write(start, run(layer.program, part, *grid.strip(layer, start)))
        grid = made
    layer, part = steps[-1]
    return run(layer.program, part, *grid.strip(layer, 0))


class _Grid:
    """A layer's input, with rows of zeros above and below."""

    def __init__(self, layer: Layer):
        self.size, self.above = layer.size, layer.reach
        rows = self.above + self.size + layer.below
        self._values = _aligned((1, rows, layer.size, layer.channels))
        self._values[:, : self.above] = self._values[:, self.above + self.size :] = 0
        self._inside = np.zeros((1, rows), np.float32)
        self._inside[:, self.above : self.above + self.size] = 1

    def write(self, start: int, rows: np.ndarray) -> None:
        """Puts rows at `start` of the grid; those beyond its end are dropped."""
        count = min(rows.shape[1], self.size - start)
        self._values[:, self.above + start :][:, :count] = rows[:, :count]

    def strip(self, layer: Layer, start: int) -> tuple[np.ndarray, np.ndarray]:
        """What the layer takes to yield its rows from `start` on; a view."""
        first = self.above + layer.stride * start - layer.reach
        rows = slice(first, first + layer.taken)
        return self._values[:, rows], self._inside[:, rows]


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An empty float32 array that XLA takes over without a copy: at a multiple of 64 bytes."""
    values = np.empty(int(np.prod(shape)) + 16, np.float32)
    first = -values.ctypes.data % 64 // 4
    return values[first : first + values.size - 16].reshape(shape)
