"""The image encoder's layers as programs over strips of rows; see models.tiny_vit_inference.

A program is compiled once and runs on every strip of every block of its shape: there is less to
load, and the activations of a strip stay in the processor's cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from litemedsam_jax.config import StageConfig, TinyViTConfig
from litemedsam_jax.engine.attention_bounds import SAFE, attention_bounds

ROOT = "params/image_encoder/"

# Rows that a strip yields, the fastest of those tried (2 cores, 32 MB of cache). What convolutions
# reach beyond a strip is computed twice, so smaller ones lose.
_FIRST_STAGE = 16
_ATTENTION = 35
_TRANSFORM = 32
_WASTE = 0.1  # of windows attended to twice; a grid that cannot be cut better is taken whole
# Numbers in a grid that fits as it is: its blocks run whole, for one call instead of five.
_SMALL = 64 * 64 * 160

Run = Callable[[str, str, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Layer:
    """A program and the strips that it runs on."""

    program: str
    function: str  # of models.tiny_vit_inference
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
    shift: bool = False  # of attention: whether its softmax is shifted by the maximum

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
    def attends(self) -> bool:
        """Whether it is attention, wholly or in part."""
        return "attn/" in self.wanted

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        return (1, self.taken, self.size, self.channels), (1, self.taken)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return 1, self.rows, self.made, self.made_channels


def plan(config: TinyViTConfig, shifted: Callable[[str], bool]) -> list[tuple[Layer, str]]:
    """The layers in order, each with the part of the network (below ROOT) that it is.

    shifted: whether the attention of a part needs its softmax shifted; see `shifts`.
    """
    steps = [(_first_stage(config), "")]
    size = steps[0][0].made
    for index, stage in enumerate(config.stages[1:], start=1):
        for block in range(stage.depth):
            part = f"layers_{index}/blocks_{block}/"
            steps += [(layer, part) for layer in _block(index, stage, size, shifted(part))]
        if stage.downsample_stride is not None:
            merge = _merge(index, stage, size, config.stages[index + 1].dim)
            steps.append((merge, f"layers_{index}/downsample/"))
            size = merge.made
    steps.append((_neck(config, size), ""))
    return steps


def shifts(folded: dict[str, np.ndarray]) -> Callable[[str], bool]:
    """For `plan`: the parts whose logits these weights do not keep small."""
    bounds = attention_bounds(folded)
    return lambda part: bounds[f"{ROOT}{part}attn/attention_biases"] > SAFE


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


def _block(index: int, stage: StageConfig, size: int, shift: bool) -> list[Layer]:
    if size**2 * stage.dim > _SMALL:
        return [_attend(index, stage, size, shift), _transform(index, stage, size)]
    dim, name = stage.dim, _shift_in_name(f"encode_block_{index}", shift)
    wanted = ("attn/", "local_conv/", "mlp/")
    return [Layer(name, "block", index, wanted, size, dim, size, dim, size, size, shift=shift)]


def _attend(index: int, stage: StageConfig, size: int, shift: bool) -> Layer:
    window, dim = stage.window, stage.dim
    windows = -(-size // window)
    strips = -(-windows * window // _ATTENTION)
    each = -(-windows // strips)
    if each * strips > windows * (1 + _WASTE):
        each = windows
    name, wanted = _shift_in_name(f"encode_attend_{index}", shift), ("attn/",)
    rows, covered = each * window, windows * window
    return Layer(name, "attend", index, wanted, size, dim, size, dim, rows, covered, shift=shift)


def _shift_in_name(program: str, shift: bool) -> str:
    return f"{program}_shifted" if shift else program


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
    for (layer, part), (following, _) in pairwise(steps):
        made = _Grid(following)
        for start in layer.starts:
            made.write(start, run(layer.program, part, *grid.strip(layer, start)))
        grid = made
    layer, part = steps[-1]
    return run(layer.program, part, *grid.strip(layer, 0))


class _Grid:
    """A layer's input, with rows of zeros above and below where its strips reach beyond it."""

    def __init__(self, layer: Layer):
        self.size, self.above, self.below = layer.size, layer.reach, layer.below
        self._shape = 1, self.above + self.size + self.below, layer.size, layer.channels
        self._inside = np.zeros((1, self._shape[1]), np.float32)
        self._inside[:, self.above : self.above + self.size] = 1
        self._values: np.ndarray | None = None

    def write(self, start: int, rows: np.ndarray) -> None:
        """Puts rows at `start` of the grid; those beyond its end are dropped."""
        if rows.shape == self._shape:
            self._values = rows  # the whole, without a copy
            return
        if self._values is None:
            self._values = _aligned(self._shape)
            self._values[:, : self.above] = self._values[:, self.above + self.size :] = 0
        count = min(rows.shape[1], self.size - start)
        self._values[:, self.above + start :][:, :count] = rows[:, :count]

    def strip(self, layer: Layer, start: int) -> tuple[np.ndarray, np.ndarray]:
        """What the layer takes to yield its rows from `start` on; a view."""
        assert self._values is not None
        first = self.above + layer.stride * start - layer.reach
        rows = slice(first, first + layer.taken)
        return self._values[:, rows], self._inside[:, rows]


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An empty float32 array that XLA takes over without a copy: at a multiple of 64 bytes."""
    values = np.empty(int(np.prod(shape)) + 16, np.float32)
    first = -values.ctypes.data % 64 // 4
    return values[first : first + values.size - 16].reshape(shape)
