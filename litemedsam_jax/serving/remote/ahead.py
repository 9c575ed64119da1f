"""Slices that a user is likely to prompt next, encoded while nobody waits for the model."""

from collections.abc import Iterator

import numpy as np

from litemedsam_jax.imaging.input_frame import Frame, to_input
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.serving.model_worker import AHEAD, ModelWorker
from litemedsam_jax.serving.remote.image_intake import Image
from litemedsam_jax.serving.remote.session import Session


class Ahead:
    """Encodes slices outwards from where a user looks; a new place takes the old one's place."""

    def __init__(self, worker: ModelWorker, most_slices: int):
        """most_slices: from each place, so that they do not drive one another from the cache."""
        self._worker, self._most = worker, most_slices

    def look(self, session: Session, axis: int, index: int) -> None:
        """Begins at a slice of a session's image."""
        image = session.image
        if image is None:
            return
        slices = _outwards(image.shape[axis], index, self._most)
        self._submit(session, image, axis, slices)

    def _submit(self, session: Session, image: Image, axis: int, slices: Iterator[int]) -> None:
        def step(model: LiteMedSAM) -> None:
            if session.image is not image:  # it has another one, or is over
                return
            for index in slices:
                if _encode(model, image, axis, index):
                    self._submit(session, image, axis, slices)
                    return

        self._worker.submit(step, AHEAD, latest_of=id(session))


def _encode(model: LiteMedSAM, image: Image, axis: int, index: int) -> bool:
    """Encodes a slice; whether it was not encoded yet."""
    pixels = np.ascontiguousarray(np.moveaxis(image.volume, axis, 0)[index])
    network_input = to_input(pixels, Frame(*pixels.shape[:2]))
    knows = getattr(model.engine, "knows", None)
    if knows is not None and knows(network_input):
        return False
    model.engine.encode(network_input)
    return True


def _outwards(length: int, start: int, most: int) -> Iterator[int]:
    order = sorted(range(length), key=lambda index: (abs(index - start), index))
    return iter(order[:most])
