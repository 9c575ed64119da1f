"""The way through a volume's slices: from the boxes' middles up, then down, encoding each once."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple, TypeVar

import numpy as np

from litemedsam_jax.engine import cores
from litemedsam_jax.engine.engine import Engine
from litemedsam_jax.imaging.input_frame import Frame
from litemedsam_jax.inference.encoded_image import EncodedImage
from litemedsam_jax.lookahead import ahead

# Embeddings kept for the second sweep, 4 MiB each; slices beyond are encoded again.
KEPT_EMBEDDINGS = 64


Found = TypeVar("Found")
OnSlice = Callable[
    [int, int], None
]  # called with the slices done, at first 0, and with their number


class Span(NamedTuple):
    """The slices of one box, inclusive, and the one between them that is worked on first."""

    first: int
    middle: int
    last: int

    @classmethod
    def of(cls, box: np.ndarray) -> "Span":
        """From a box (6,); the middle is the reference's."""
        first, last = int(box[2]), int(box[5])
        return cls(first, int((last - first) / 2 + first), last)

    def meets(self, z: int, upward: bool) -> bool:
        """Whether the slice is met on the way up (the middle is) or on the way down."""
        return self.middle <= z <= self.last if upward else self.first <= z < self.middle


class Step(NamedTuple):
    """One slice on the way: which boxes (indices) are met there, and the encoded slice."""

    z: int
    upward: bool
    boxes: list[int]
    encoded: EncodedImage


def sweep(
    engine: Engine, volume: np.ndarray, spans: list[Span], mirrored: bool = False
) -> Iterator[Step]:
    """Yields each slice that boxes meet: upwards from their middles, then downwards below them.

    Each box's own steps start at its middle, so that one slice may follow from the next. Every
    slice is encoded once, as long as `KEPT_EMBEDDINGS` suffice.
    """
    frame = Frame(*volume.shape[1:3])
    visited = [{z for s in spans for z in _range(s, upward)} for upward in (True, False)]
    # The way down starts at the top: if not all can be kept, keep the upper ones.
    shared = set(sorted(visited[0] & visited[1], reverse=True)[:KEPT_EMBEDDINGS])
    way = [(z, up) for up in (True, False) for z in sorted(visited[not up], reverse=not up)]
    encoded = ahead(
        lambda z: EncodedImage.encode(engine, volume[z], frame, mirrored),
        (z for z, upward in way if upward or z not in shared),
        cores.slices_ahead(),
    )
    kept: dict[int, EncodedImage] = {}
    with closing(encoded):
        for z, upward in way:
            at_z = next(encoded) if upward or z not in shared else kept.pop(z)
            if upward and z in shared:
                kept[z] = at_z
            yield Step(z, upward, [k for k, s in enumerate(spans) if s.meets(z, upward)], at_z)


def count_slices(
    results: Iterator[tuple[int, int, Found]], boxes: np.ndarray, on_slice: OnSlice | None
) -> Iterator[tuple[int, int, Found]]:
    """Passes on (slice, label, result) of boxes (N, 6); says how many slices were begun, of all."""
    if on_slice is None:
        yield from results
        return
    slices = {z for span in map(Span.of, boxes) for z in range(span.first, span.last + 1)}
    on_slice(0, len(slices))
    seen: set[int] = set()
    for z, label, result in results:
        if z not in seen:
            seen.add(z)
            on_slice(len(seen), len(slices))
        yield z, label, result


def _range(span: Span, upward: bool) -> range:
    return range(span.middle, span.last + 1) if upward else range(span.first, span.middle)
