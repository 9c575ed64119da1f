"""Fixtures: one compiled model, and an engine that follows a script."""

from pathlib import Path

import pytest

from litemedsam_jax.batch.folder import BatchOptions
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.weights import store
from tests.support.fake_engine import FakeEngine


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory, published_weights) -> Path:
    """The published weights as safetensors."""
    path = tmp_path_factory.mktemp("weights") / "lite_medsam.safetensors"
    store.save(path, published_weights.variables, published_weights.config)
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
        LiteMedSAM, "from_pretrained", classmethod(lambda cls, *_: cls(fake_engine))
    )
    return fake_engine


@pytest.fixture
def options(tmp_path) -> BatchOptions:
    """A folder of cases to fill, and one for masks."""
    (tmp_path / "imgs").mkdir()
    return BatchOptions(tmp_path / "imgs", tmp_path / "segs", tmp_path / "no_weights")
