"""Layers that several networks share. Everything is NHWC; parameters carry torch's names.

The formulas are chosen for XLA: each computes what torch's layer of that name computes.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from litemedsam_jax.config import Execution
from litemedsam_jax.models import bfloat16_ops, cpu_ops, normalisation
from litemedsam_jax.models.cpu_ops import gelu as gelu

Array = jax.Array


def torch_uniform(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default for convolutions and linear layers: uniform in ±1/sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in)

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Linear(nn.Module):
    """Torch's Linear over the last axis. `init_std` replaces torch's uniform start (TinyViT)."""

    inputs: int
    features: int
    dtype: str = "float32"
    init_std: float | None = None

    def setup(self):
        kernel_init = bias_init = torch_uniform(self.inputs)
        if self.init_std is not None:
            cut = 2 / self.init_std  # torch cuts at ±2, not at two standard deviations
            kernel_init = nn.initializers.truncated_normal(self.init_std, lower=-cut, upper=cut)
            bias_init = nn.initializers.zeros
        self.kernel = self.param("kernel", kernel_init, (self.inputs, self.features))
        self.bias = self.param("bias", bias_init, (self.features,))

    def __call__(self, x: Array) -> Array:
        dtype = self.dtype
        x = cpu_ops.product(x.astype(dtype), self.kernel.astype(dtype))
        return cpu_ops.add(x, self.bias.astype(dtype))


class LayerNorm(nn.Module):
    """Normalises the last axis; also torch's LayerNorm2d, since channels are last here."""

    epsilon: float
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        return normalisation.layer_norm(x, scale, bias, self.epsilon).astype(self.dtype)

    def factors(self) -> tuple[Array, Array]:
        """scale and bias (C,), once initialised."""
        return self.get_variable("params", "scale"), self.get_variable("params", "bias")


class BatchNorm(nn.Module):
    """Torch's BatchNorm2d, synchronised over `batch_axis` when one is named.

    Flax's own keeps the biased batch variance in its running average; torch keeps the unbiased
    one, and a fine-tuned checkpoint must mean the same to both.
    """

    batch_axis: str | None = None
    dtype: str = "float32"
    momentum: float = 0.9  # torch calls this 0.1
    epsilon: float = 1e-5
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        channels = x.shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        scale = self.param("scale", self.scale_init, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        if not train:
            factor = scale * lax.rsqrt(running_var.value + self.epsilon)
            x = x.astype(jnp.float32) * factor + (bias - running_mean.value * factor)
            return x.astype(self.dtype)
        axis = self.batch_axis
        x, mean, variance = normalisation.batch_norm(x, scale, bias, self.epsilon, axis)
        if not self.is_initializing():
            self.track(mean, variance, x.size // channels)
        return x.astype(self.dtype)

    def track(self, mean: Array, variance: Array, count: int) -> None:
        """Moves the running averages towards a batch's mean and biased variance (C,).

        `count` is the number of values of each channel on this device.
        """
        devices = 1 if self.batch_axis is None else lax.axis_size(self.batch_axis)
        unbiased = variance * (count * devices / max(count * devices - 1, 1))
        for name, value in (("mean", mean), ("var", unbiased)):
            before: Array = self.get_variable("batch_stats", name)
            after = self.momentum * before + (1 - self.momentum) * value
            self.put_variable("batch_stats", name, after)

    def factors(self) -> tuple[Array, Array]:
        """scale and bias (C,), once initialised."""
        return self.get_variable("params", "scale"), self.get_variable("params", "bias")


class Conv(nn.Module):
    """A convolution with torch's symmetric zero padding, in the formulation that is fastest.

    1x1 is a matrix product; depthwise is a sum of shifted products, which XLA fuses into one loop
    (its grouped convolution is several times slower on CPUs); the rest is XLA's convolution.
    """

    features: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    depthwise: bool = False
    use_bias: bool = False
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        size = self.kernel_size
        inputs = 1 if self.depthwise else x.shape[-1]
        init = torch_uniform(inputs * size * size)
        kernel = self.param("kernel", init, (size, size, inputs, self.features))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if self.depthwise:
            x = cpu_ops.depthwise(x, kernel[:, :, 0], self.stride, self.padding)
        elif size == self.stride == 1:
            x = cpu_ops.product(x, kernel[0, 0])
        else:
            x = lax.conv_general_dilated(
                x,
                kernel,
                window_strides=(self.stride, self.stride),
                padding=[(self.padding, self.padding)] * 2,
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        if self.use_bias:
            bias = self.param("bias", init, (self.features,)).astype(self.dtype)
            x = cpu_ops.add(x, bias)
        return x

    def weights(self) -> Array:
        """The kernel (k, k, inputs, features), once initialised."""
        return self.get_variable("params", "kernel")


class ConvNorm(nn.Module):
    """Convolution without bias, then BatchNorm: TinyViT's Conv2d_BN, whose names it has."""

    features: int
    execution: Execution
    kernel_size: int = 1
    stride: int = 1
    padding: int = 0
    depthwise: bool = False
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    def setup(self):
        execution = self.execution
        self.c = Conv(
            self.features,
            self.kernel_size,
            self.stride,
            self.padding,
            self.depthwise,
            dtype=execution.dtype,
        )
        self.bn = BatchNorm(execution.batch_axis, execution.dtype, scale_init=self.scale_init)

    def __call__(self, x: Array, train: bool) -> Array:
        return self.bn(self.c(x), train)


class ConvTranspose2x2(nn.Module):
    """Transposed convolution, kernel 2, stride 2: every pixel becomes its own 2x2 block.

    (..., C) -> (..., 2, 2, features); the blocks are not laid out as an image here, because
    moving them is dear and what follows works pixel by pixel (see `unfold_blocks`). The kernel is
    (2, 2, out, in): torch's (in, out, 2, 2) by the rule for every rank-4 weight. With `rounded` it
    is a bfloat16 matrix (in, 2·2·out), as `engine.rounding` makes it, and so is x in the product.
    """

    inputs: int
    features: int
    dtype: str = "float32"
    rounded: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init, outputs = torch_uniform(self.features * 4), 4 * self.features
        shape = (self.inputs, outputs) if self.rounded else (2, 2, self.features, self.inputs)
        kernel = self.param("kernel", init, shape)
        bias = self.param("bias", init, (self.features,)).astype(self.dtype)
        if self.rounded:
            blocks = bfloat16_ops.product(x, kernel)
        else:
            kernel = kernel.astype(self.dtype)
            blocks = x.astype(self.dtype) @ kernel.reshape(outputs, self.inputs).T
        return blocks.reshape(*x.shape[:-1], 2, 2, self.features) + bias

    def matrix(self) -> tuple[Array, Array]:
        """The kernel as (C, 2·2·features), and the bias (features,), once initialised."""
        kernel: Array = self.get_variable("params", "kernel")
        return kernel.reshape(-1, self.inputs).T, self.get_variable("params", "bias")


def unfold_blocks(x: Array) -> Array:
    """(..., H, W, 2, 2, 2, 2), blocks of blocks, -> the image (..., 4·H, 4·W)."""
    *leading, height, width = x.shape[:-4]
    n = len(leading)
    order = [n, n + 2, n + 4, n + 1, n + 3, n + 5]
    x = x.transpose(*range(n), *order)  # (..., H, 2, 2, W, 2, 2)
    return x.reshape(*leading, 4 * height, 4 * width)


def attend(q: Array, k: Array, v: Array, scale: float, bias: Array | None = None) -> Array:
    """softmax(q·kᵀ·scale + bias)·v, the softmax in float32.

    Args:
        q: (..., L, d).
        k: (..., S, d), with the same leading axes: plain batched products are what XLA's CPU does
            fast; an einsum with heads in the middle runs ten times slower.
        v: (..., S, d).
        scale: of the logits.
        bias: broadcasts to (..., L, S).

    Returns:
        (..., L, d).
    """
    logits = (q @ k.swapaxes(-1, -2)).astype(jnp.float32) * scale
    if bias is not None:
        logits = logits + bias
    return jax.nn.softmax(logits, axis=-1).astype(v.dtype) @ v


def attend_transposed(q: Array, k: Array, v: Array, bias: Array) -> Array:
    """softmax(q·kᵀ + bias)·v with keys before queries, so that the softmax reduces a leading axis.

    XLA's CPU vectorises such a reduction, and hands the whole of this to YNNPACK as one kernel if
    the operands lie ready in memory; hence the barrier.

    Args:
        q: (..., L, d), already scaled.
        k: (..., S, d).
        v: (..., d, S).
        bias: (keys, queries), broadcasts to (..., S, L).

    Returns:
        (..., d, L).
    """
    q, k, v = lax.optimization_barrier((q, k, v))
    logits = (k @ q.swapaxes(-1, -2)).astype(jnp.float32) + bias
    weights = jnp.exp(logits - logits.max(-2, keepdims=True))
    mixed = v @ weights.astype(v.dtype)
    return mixed / weights.sum(-2, keepdims=True).astype(v.dtype)


def partition_windows(x: Array, window: int) -> Array:
    """(B, H, W, C) with H and W multiples of `window` -> (B·windows, window², C), row-major."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, window * window, channels)


def merge_windows(x: Array, window: int, height: int, width: int) -> Array:
    """The inverse of `partition_windows`: back to (B, height, width, C)."""
    rows, columns, channels = height // window, width // window, x.shape[-1]
    x = x.reshape(-1, rows, columns, window, window, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(-1, height, width, channels)


def padded_size(size: int, window: int) -> int:
    """The next multiple of `window`."""
    return -(-size // window) * window
