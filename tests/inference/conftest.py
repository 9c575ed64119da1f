"""What the inference tests share: one compiled model, and an engine that follows a script."""

import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from litemedsam_jax.inference import batch
from litemedsam_jax.inference.batch import BatchOptions
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.weights import store


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


class Embedding:
    """What a fake engine makes of an image; tells how many of its kind are kept alive."""

    def __init__(self, image: np.ndarray):
        self.image = image


class FakeEngine:
    """Stands in for the network: masks by a script, and a record of what was asked.

    Without a script a box's mask is the box itself.
    """

    def __init__(self, script: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None):
        self._script = script or _fill_box
        self.images: list[np.ndarray] = []
        self.calls: list[tuple[np.ndarray, np.ndarray]] = []  # image and boxes of each decoding
        self._alive: weakref.WeakSet[Embedding] = weakref.WeakSet()
        self.most_alive = 0

    def encode(self, image: np.ndarray) -> Embedding:
        assert image.shape == (256, 256, 3) and image.dtype == np.float32
        embedding = Embedding(image)
        self.images.append(image)
        self._alive.add(embedding)
        self.most_alive = max(self.most_alive, len(self._alive))
        return embedding

    def decode(self, embedding: Embedding, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert boxes.ndim == 2 and boxes.shape[1] == 4 and len(boxes) and np.isfinite(boxes).all()
        self.calls.append((embedding.image, boxes.copy()))
        logits = np.stack([self._script(embedding.image, box) for box in boxes])
        return logits.astype(np.float32), np.ones(len(boxes), np.float32)


def _fill_box(_: np.ndarray, box: np.ndarray) -> np.ndarray:
    logits = np.full((256, 256), -5, np.float32)
    x_min, y_min, x_max, y_max = box.astype(int)
    logits[max(y_min, 0) : y_max + 1, max(x_min, 0) : x_max + 1] = 5
    return logits


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


def run_batch(options: BatchOptions) -> tuple[batch.Summary, list[str]]:
    """Segments a folder; the summary and the lines that were printed."""
    lines: list[str] = []
    return batch.segment_folder(options, lines.append), lines


def read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)
