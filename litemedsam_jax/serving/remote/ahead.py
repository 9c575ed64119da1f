"""Slices that a user is likely to prompt next, encoded while nobody waits for the model."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from litemedsam_jax.imaging.input_frame import Frame, to_input
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.serving.model_worker import AHEAD, ModelWorker
from litemedsam_jax.serving.remote.image_intake import Image
from litemedsam_jax.serving.remote.session import Session


class _Place(NamedTuple):
    session: Session
    image: Image
    axis: int
    slices: Iterator[int]  # still to be encoded


class Ahead:
    """Encodes slices outwards from where a user looks; a new place takes the old one's place."""

    def __init__(self, worker: ModelWorker, most_slices: int):
        """most_slices: from each place, so that they do not drive one another from the cache."""
        self._worker, self._most = worker, most_slices
        self._paused = 0
        self._places: dict[int, _Place] = {}  # by session, those that are not done

    def look(self, session: Session, axis: int, index: int) -> None:
        """Begins at a slice of a session's image."""
        if session.image is not None:
            slices = _outwards(session.image.shape[axis], index, self._most)
            self._places[id(session)] = _Place(session, session.image, axis, slices)
            self._submit(id(session))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While somebody waits for the model: masks come slice by slice, with gaps between."""
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1
            if not self._paused:
                for key in list(self._places):
                    self._submit(key)

    def _submit(self, key: int) -> None:
        self._worker.submit(lambda model: self._step(model, key), AHEAD, latest_of=key)

    def _step(self, model: LiteMedSAM, key: int) -> None:
        place = self._places.get(key)
        if place is None or self._paused:
            return
        session, image, axis, slices = place
        for index in slices:
            if session.image is not image:  # it has another one, or is over
                break
            if _encode(model, image, axis, index):
                self._submit(key)
                return
        if self._places.get(key) is place:
            del self._places[key]


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
