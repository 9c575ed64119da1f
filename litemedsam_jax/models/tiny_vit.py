"""TinyViT with SAM's neck: LiteMedSAM's image encoder, and by configuration MobileSAM's.

Source: Wu et al., "TinyViT: Fast Pretraining Distillation for Small Vision Transformers"
(ECCV 2022), as LiteMedSAM changes it: a stem without downsampling, 256x256 input.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from litemedsam_jax.config import Execution, StageConfig, TinyViTConfig
from litemedsam_jax.models.cpu_batch_norm import Norm
from litemedsam_jax.models.cpu_mbconv import MBConvParameters, Products, mbconv
from litemedsam_jax.models.cpu_mlp import MlpParameters, with_mlp
from litemedsam_jax.models.cpu_ops import on_cpu
from litemedsam_jax.models.cpu_window_attention import AttentionParameters, with_attention
from litemedsam_jax.models.layers import (
    Array,
    Conv,
    ConvNorm,
    LayerNorm,
    Linear,
    gelu,
    merge_windows,
    padded_size,
    partition_windows,
)
from litemedsam_jax.models.window_attention import attend_windows

_EPSILON = 1e-5  # of LayerNorms within blocks


class TinyViT(nn.Module):
    """Images (B, S, S, 3) in [0, 1] -> embedding (B, G, G, out_dim), S and G of the config."""

    config: TinyViTConfig
    execution: Execution = Execution()

    def setup(self):
        config, execution = self.config, self.execution
        self.patch_embed = PatchEmbed(config, execution)
        self.layers = [Stage(config, index, execution) for index in range(len(config.stages))]
        self.neck = make_neck(config.out_dim, execution)

    def __call__(self, image: Array, train: bool = False, intermediates: bool = False):
        """The embedding; with `intermediates` also a dict of activations by torch's names."""
        size = self.config.image_size
        if image.shape[1:] != (size, size, 3):
            raise ValueError(f"expected images of shape (B, {size}, {size}, 3), not {image.shape}")
        x = self.patch_embed(image, train)
        seen = {"patch_embed": x}
        for index, stage in enumerate(self.layers):
            x = stage(x, train)
            seen[f"layers.{index}"] = x
        for layer in self.neck:
            x = layer(x)
        return (x, seen) if intermediates else x


def make_neck(features: int, execution: Execution) -> list[nn.Module]:
    """SAM's neck: 1x1 convolution, LayerNorm, 3x3 convolution, LayerNorm."""
    dtype = execution.dtype
    return [
        Conv(features, 1, dtype=dtype),
        LayerNorm(1e-6, dtype),
        Conv(features, 3, padding=1, dtype=dtype),
        LayerNorm(1e-6),  # the embedding is float32 whatever the activations are
    ]


class PatchEmbed(nn.Module):
    """The stem: two convolutions, of 1x1 (LiteMedSAM) or 3x3 stride 2 (MobileSAM)."""

    config: TinyViTConfig
    execution: Execution

    def setup(self):
        width = self.config.stages[0].dim
        kernel, stride = self.config.stem_kernel, self.config.stem_stride
        first = ConvNorm(width // 2, self.execution, kernel, stride, kernel // 2)
        second = ConvNorm(width, self.execution, kernel, stride, kernel // 2)
        self.seq: list[Any] = [first, gelu, second]  # torch counts the activation: seq.0, seq.2

    def __call__(self, x: Array, train: bool) -> Array:
        return self.seq[2](gelu(self.seq[0](x, train)), train)


class Stage(nn.Module):
    """Blocks of one width, then the merging that widens and (mostly) halves the grid."""

    config: TinyViTConfig
    index: int
    execution: Execution

    def setup(self):
        config, execution = self.config, self.execution
        stage = config.stages[self.index]
        # Rematerialisation keeps each block's input alone; `train` (argument 2) is static.
        wrap = nn.remat if execution.remat else lambda block, **_: block
        if self.index == 0:
            block = wrap(MBConv, static_argnums=(2,))
            self.blocks = [block(config.expansion, execution, k == 0) for k in range(stage.depth)]
        else:
            block = wrap(TinyViTBlock, static_argnums=(2,))
            self.blocks = [block(stage, config.mlp_ratio, execution) for _ in range(stage.depth)]
        if stage.downsample_stride is not None:
            width = config.stages[self.index + 1].dim
            self.downsample = PatchMerging(width, stage.downsample_stride, execution)

    def __call__(self, x: Array, train: bool) -> Array:
        for block in self.blocks:
            x = block(x, train)
        if self.config.stages[self.index].downsample_stride is not None:
            x = self.downsample(x, train)
        return x


class MBConv(nn.Module):
    """Inverted bottleneck: expand, depthwise 3x3, project, add, GELU after the addition.

    `first`: of the network. Its expansion is computed in float32: rounded, that product alone would
    make six sevenths of the embedding's error, and bfloat16's losses differ by several percent.
    """

    expansion: int
    execution: Execution
    first: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        features, execution = x.shape[-1], self.execution
        hidden = features * self.expansion
        # A block starts as the identity: torch's zero scale of the last BatchNorm.
        zeros = nn.initializers.zeros
        widen = ConvNorm(hidden, execution, name="conv1")
        depthwise = ConvNorm(hidden, execution, 3, padding=1, depthwise=True, name="conv2")
        narrow = ConvNorm(features, execution, scale_init=zeros, name="conv3")
        if train and execution.products != "float32" and not self.is_initializing():
            return self._in_tiles(x, widen, depthwise, narrow)
        y = gelu(depthwise(gelu(widen(x, train)), train))
        return gelu(x + narrow(y, train))

    def _in_tiles(self, x: Array, widen: ConvNorm, depthwise: ConvNorm, narrow: ConvNorm) -> Array:
        parameters = MBConvParameters(
            widen.c.weights()[0, 0],
            Norm(*widen.bn.factors()),
            depthwise.c.weights()[:, :, 0],
            Norm(*depthwise.bn.factors()),
            narrow.c.weights()[0, 0],
            Norm(*narrow.bn.factors()),
        )
        execution, epsilon = self.execution, widen.bn.epsilon
        dtype = execution.products
        products = Products(dtype, "float32" if self.first else dtype)
        y, moments = mbconv(x, parameters, epsilon, products, execution.batch_axis)
        for layer, (mean, variance) in zip((widen, depthwise, narrow), moments, strict=True):
            layer.bn.track(mean, variance, x.size // x.shape[-1])
        return y


class PatchMerging(nn.Module):
    """1x1, depthwise 3x3 (which may stride), 1x1: to the next stage's width and grid."""

    features: int
    stride: int
    execution: Execution

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        features, execution = self.features, self.execution
        x = gelu(ConvNorm(features, execution, name="conv1")(x, train))
        x = ConvNorm(features, execution, 3, self.stride, padding=1, depthwise=True, name="conv2")(
            x, train
        )
        return ConvNorm(features, execution, name="conv3")(gelu(x), train)


class TinyViTBlock(nn.Module):
    """Window attention (residual), a depthwise convolution (not residual), MLP (residual)."""

    config: StageConfig
    mlp_ratio: int
    execution: Execution

    def setup(self):
        dim, execution = self.config.dim, self.execution
        self.attn = WindowAttention(self.config, execution)
        self.local_conv = ConvNorm(dim, execution, 3, padding=1, depthwise=True)
        self.mlp = Mlp(dim, dim * self.mlp_ratio, execution)

    def __call__(self, x: Array, train: bool) -> Array:
        x = self.attn.added_to(x)
        x = self.local_conv(x, train)
        return self.mlp.added_to(x)


class WindowAttention(nn.Module):
    """Attention inside square windows, with a learned bias per absolute offset.

    Torch pads the image before its LayerNorm and masks nothing, so real tokens attend to padded
    ones. A padded token is the same whatever the image: it is computed once and laid around the
    image after `qkv`, and `proj` sees real tokens only.
    """

    config: StageConfig
    execution: Execution

    def setup(self):
        dim, heads, window = self.config.dim, self.config.heads, self.config.window
        dtype = self.execution.dtype
        self.norm = LayerNorm(_EPSILON, dtype)
        self.qkv = Linear(dim, 3 * dim, dtype, init_std=0.02)
        self.proj = Linear(dim, dim, dtype, init_std=0.02)
        zeros = nn.initializers.zeros
        self.attention_biases = self.param("attention_biases", zeros, (heads, window**2))

    def __call__(self, x: Array) -> Array:
        _, height, width, dim = x.shape
        window, heads = self.config.window, self.config.heads
        padded_token = self.qkv(self.norm(jnp.zeros((1, 1, 1, dim), x.dtype)))
        qkv = _pad_with(self.qkv(self.norm(x)), padded_token, window)  # (B, H', W', 3·C)
        padded_height, padded_width = qkv.shape[1:3]
        qkv = partition_windows(qkv, window)  # (B·windows, w², 3·C)
        # The channels of a head lie together: its q, its k, its v.
        qkv = qkv.reshape(-1, window**2, heads, 3, dim // heads)
        # (h, w², w²), the same with keys and queries exchanged
        bias = self.attention_biases[:, offset_index(window)]
        x = attend_windows(qkv, bias)
        x = merge_windows(x, window, padded_height, padded_width)
        return self.proj(x[:, :height, :width])

    def added_to(self, x: Array) -> Array:
        """x plus its attention."""
        if not on_cpu() or self.is_initializing():
            return x + self(x)
        _, height, width, _ = x.shape
        window = self.config.window
        bottom, right = padded_size(height, window) - height, padded_size(width, window) - width
        padded = jnp.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0)))
        parameters = AttentionParameters(
            *self.norm.factors(),
            self.qkv.kernel,
            self.qkv.bias,
            self.proj.kernel,
            self.proj.bias,
            self.attention_biases[:, offset_index(window)],
        )
        windows = with_attention(
            partition_windows(padded, window), parameters, _EPSILON, self.execution.products
        )
        return merge_windows(windows, window, *padded.shape[1:3])[:, :height, :width]


def _pad_with(x: Array, token: Array, window: int) -> Array:
    """Lays `token` (1, 1, 1, C) at the bottom and right of x, up to multiples of `window`."""
    _, height, width, _ = x.shape
    bottom, right = padded_size(height, window) - height, padded_size(width, window) - width
    # Padding with zeros what is left after subtraction would round; selecting does not.
    x = jnp.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0)))
    rows, columns = jnp.arange(height + bottom) < height, jnp.arange(width + right) < width
    return jnp.where((rows[:, None] & columns)[None, :, :, None], x, token)


def offset_index(window: int) -> np.ndarray:
    """(w², w²) indices into the bias table: |Δrow|·w + |Δcolumn| of each query and key."""
    rows, columns = np.divmod(np.arange(window**2), window)
    return abs(rows[:, None] - rows) * window + abs(columns[:, None] - columns)


class Mlp(nn.Module):
    """LayerNorm, widen, GELU, narrow."""

    dim: int
    hidden: int
    execution: Execution

    def setup(self):
        dtype = self.execution.dtype
        self.norm = LayerNorm(_EPSILON, dtype)
        self.fc1 = Linear(self.dim, self.hidden, dtype, init_std=0.02)
        self.fc2 = Linear(self.hidden, self.dim, dtype, init_std=0.02)

    def __call__(self, x: Array) -> Array:
        return self.fc2(gelu(self.fc1(self.norm(x))))

    def added_to(self, x: Array) -> Array:
        """x plus what this makes of it."""
        if not on_cpu() or self.is_initializing():
            return x + self(x)
        widen, narrow = self.fc1, self.fc2
        parameters = MlpParameters(
            *self.norm.factors(), widen.kernel, widen.bias, narrow.kernel, narrow.bias
        )
        return with_mlp(x, parameters, _EPSILON, self.execution.products)
