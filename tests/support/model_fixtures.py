"""Fixtures: one compiled model, a small one's weights, and an engine that follows a script."""

from pathlib import Path

import numpy as np
import pytest

from litemedsam_jax.batch.folder import BatchOptions
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.weights import safetensors_file
from tests.support.fake_engine import FakeEngine


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory, published_weights) -> Path:
    """The published weights as safetensors."""
    path = tmp_path_factory.mktemp("weights") / "lite_medsam.safetensors"
    safetensors_file.save(path, published_weights.variables, published_weights.config)
    return path


@pytest.fixture(scope="session")
def model(weights_file) -> LiteMedSAM:
    """LiteMedSAM with the published weights; compiled once for the whole suite."""
    return LiteMedSAM.from_pretrained(weights_file)


@pytest.fixture
def fake_engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def with_fake_engine(monkeypatch, fake_engine) -> FakeEngine:
    """Makes whole batches run on the fake engine."""
    monkeypatch.setattr(
        LiteMedSAM, "from_pretrained", classmethod(lambda cls, *_, **__: cls(fake_engine))
    )
    return fake_engine


@pytest.fixture
def options(tmp_path) -> BatchOptions:
    """A folder of cases to fill, and one for masks."""
    (tmp_path / "imgs").mkdir()
    return BatchOptions(tmp_path / "imgs", tmp_path / "segs", tmp_path / "no_weights")


# A whole model of few channels: conversions take milliseconds.


@pytest.fixture(scope="session")
def tiny_config():
    from litemedsam_jax import config

    return config.tiny_for_tests()


@pytest.fixture(scope="session")
def tiny_variables(tiny_config):
    """Random variables: name -> float32 array."""
    import jax

    from litemedsam_jax.models.lite_medsam import init_variables
    from litemedsam_jax.weights.tree import flatten

    tree = jax.eval_shape(lambda: init_variables(tiny_config, jax.random.key(0)))
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal(leaf.shape).astype(np.float32)
        for name, leaf in flatten(tree).items()
    }


@pytest.fixture
def tiny_state(tiny_variables, tiny_config):
    """The same as a torch state_dict of arrays, counters counted."""
    from litemedsam_jax.weights.state_dict import to_state_dict

    state = to_state_dict(tiny_variables, tiny_config)
    for index, key in enumerate(k for k in state if k.endswith("num_batches_tracked")):
        state[key] = np.asarray(2**40 + index, np.int64)
    return state
