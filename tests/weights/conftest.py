"""A whole model of few channels, as torch would save it: conversions take milliseconds."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def tiny_config():
    from litemedsam_jax import config

    return config.tiny_for_tests()


@pytest.fixture(scope="session")
def tiny_variables(tiny_config):
    """Random variables: name -> float32 array."""
    import jax

    from litemedsam_jax.models.lite_medsam import init_variables
    from litemedsam_jax.weights.store import flatten

    tree = jax.eval_shape(lambda: init_variables(tiny_config, jax.random.key(0)))
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal(leaf.shape).astype(np.float32)
        for name, leaf in flatten(tree).items()
    }


@pytest.fixture
def tiny_state(tiny_variables, tiny_config):
    """The same as a torch state_dict of arrays, counters counted."""
    from litemedsam_jax.weights.torch_checkpoint import to_state_dict

    state = to_state_dict(tiny_variables, tiny_config)
    for index, key in enumerate(k for k in state if k.endswith("num_batches_tracked")):
        state[key] = np.asarray(2**40 + index, np.int64)
    return state
