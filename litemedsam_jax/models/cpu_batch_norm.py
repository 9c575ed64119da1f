"""BatchNorm of an image that is only seen some pixels at a time: its statistics and gradients."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from litemedsam_jax.models.cpu_ops import channel_sums, same

Array = jax.Array


class Norm(NamedTuple):
    """scale and bias (C,)."""

    scale: Array
    bias: Array


class Moments(NamedTuple):
    """Mean and biased variance over all pixels, (C,)."""

    mean: Array
    variance: Array

    @staticmethod
    def of(x: Array) -> "Moments":
        """Those of a tile (pixels, C)."""
        mean = channel_sums(same, x) / x.shape[0]
        return Moments(mean, channel_sums(lambda x: jnp.square(x - mean), x) / x.shape[0])

    def joined(self, axis: str | None) -> "Moments":
        """Those of the whole, of equal tiles' (tiles, C), over all devices of `axis`."""
        mean = _mean_over(self.mean.mean(0), axis)
        variance = (self.variance + jnp.square(self.mean - mean)).mean(0)
        return Moments(mean, _mean_over(variance, axis))


class Affine(NamedTuple):
    """What BatchNorm does to a pixel (C,)."""

    mean: Array
    inverse: Array  # of the standard deviation
    scale: Array
    bias: Array

    @staticmethod
    def of(norm: Norm, moments: Moments, epsilon: float) -> "Affine":
        """With the statistics of the whole."""
        return Affine(moments.mean, lax.rsqrt(moments.variance + epsilon), norm.scale, norm.bias)

    def __call__(self, x: Array) -> Array:
        """x (..., C), normalised."""
        factor = self.scale * self.inverse
        return x * factor + (self.bias - self.mean * factor)

    def sums(self, slope: Array, x: Array) -> Norm:
        """A tile's part of the gradient by scale (before `inverse`) and bias.

        Args:
            slope: (pixels, C), the gradient by the result.
            x: (pixels, C).
        """
        by_scale = channel_sums(lambda g, x: g * (x - self.mean), slope, x)
        return Norm(by_scale, channel_sums(same, slope))

    def gradient(self, sums: Norm, pixels: int, axis: str | None) -> "tuple[Norm, Through]":
        """The gradient by scale and bias, and what gives that by x.

        Args:
            sums: of all tiles on this device.
            pixels: as many.
            axis: of the devices.
        """
        by_norm = Norm(sums.scale * self.inverse, sums.bias)
        tilt = _mean_over(by_norm.scale / pixels, axis) * self.inverse
        return by_norm, Through(self, tilt, _mean_over(by_norm.bias / pixels, axis))


class Through(NamedTuple):
    """The gradient through BatchNorm."""

    norm: Affine
    tilt: Array
    offset: Array

    def __call__(self, slope: Array, x: Array) -> Array:
        """The gradient by x, of that by the result."""
        norm = self.norm
        centred = slope - self.offset - (x - norm.mean) * self.tilt
        return centred * (norm.scale * norm.inverse)


def _mean_over(x: Array, axis: str | None) -> Array:
    return x if axis is None else lax.pmean(x, axis)
