"""The MLP of a block with its gradients, against those of the plain formula."""

import jax.numpy as jnp
import numpy as np
import pytest

from litemedsam_jax.models.cpu_mlp import MlpParameters, with_mlp
from litemedsam_jax.models.layers import gelu
from litemedsam_jax.models.normalisation import normalise_rows
from tests.support.gradients import assert_same_with_gradients


def plain(x, parameters):
    scale, offset, widen, widen_bias, narrow, narrow_bias = parameters
    hidden = (normalise_rows(x, 1e-5) * scale + offset) @ widen + widen_bias
    return x + gelu(hidden) @ narrow + narrow_bias


# 2·17·9 rows: no tile of 256 fits.
@pytest.mark.parametrize("dtype, bound", [("float32", 2e-5), ("bfloat16", 0.01)])
@pytest.mark.parametrize("shape", [(2, 16, 16, 32), (2, 17, 9, 32), (1, 3, 1, 32)])
def test_result_and_gradients(shape, dtype, bound):
    random = np.random.default_rng(shape[1])
    shapes = [(32,), (32,), (32, 64), (64,), (64, 32), (32,)]
    given = MlpParameters(*(jnp.asarray(random.normal(size=s), jnp.float32) for s in shapes))
    given = given._replace(widen=given.widen * 0.2)
    x, weights = (jnp.asarray(random.normal(size=shape), jnp.float32) for _ in range(2))

    def tiled(x, parameters):
        return with_mlp(x, parameters, 1e-5, dtype)

    assert_same_with_gradients(tiled, plain, (x, given), weights, bound)
