"""An engine without a network: masks by script, and a record of what was asked."""

import weakref
from collections.abc import Callable

import numpy as np


class Embedding:
    """What a fake engine makes of an image; tells how many of its kind are kept alive."""

    def __init__(self, image: np.ndarray):
        self.image = image

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        """Features (1, 64, 64, 3): the image, reduced."""
        return self.image.reshape(64, 4, 64, 4, 3).mean((1, 3))[None].astype(dtype or np.float32)


class FakeEngine:
    """Stands in for the network: masks by a script, and a record of what was asked.

    Without a script a box's mask is the box itself.
    """

    def __init__(
        self,
        script: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
        record: bool = True,
    ):
        self._record = record
        self._script = script or _fill_box
        self.images: list[np.ndarray] = []
        self.calls: list[tuple[np.ndarray, np.ndarray]] = []  # image and boxes of each decoding
        self._alive: weakref.WeakSet[Embedding] = weakref.WeakSet()
        self.most_alive = 0

    def wait(self) -> None:
        """Its weights need no check."""

    def prepare(self, box_count: int) -> None:
        assert box_count > 0

    def encode(self, image: np.ndarray) -> Embedding:
        assert image.shape == (256, 256, 3) and image.dtype == np.float32
        embedding = Embedding(image)
        if self._record:
            self.images.append(image)
        self._alive.add(embedding)
        self.most_alive = max(self.most_alive, len(self._alive))
        return embedding

    def decode(self, embedding: Embedding, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert boxes.ndim == 2 and boxes.shape[1] == 4 and len(boxes) and np.isfinite(boxes).all()
        if self._record:
            self.calls.append((embedding.image, boxes.copy()))
        logits = np.stack([self._script(embedding.image, box) for box in boxes])
        return logits.astype(np.float32), np.ones(len(boxes), np.float32)


def _fill_box(_: np.ndarray, box: np.ndarray) -> np.ndarray:
    logits = np.full((256, 256), -5, np.float32)
    x_min, y_min, x_max, y_max = box.astype(int)
    logits[max(y_min, 0) : y_max + 1, max(x_min, 0) : x_max + 1] = 5
    return logits
