"""Image embeddings of slices, the least recently used given up first, bounded by bytes."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

import numpy as np

# An `EncodedImage`, or an embedding alone.
Encoded = TypeVar("Encoded")


class EmbeddingCache(Generic[Encoded]):
    """Encoded slices by key. Used by one thread, the model's."""

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, Encoded] = OrderedDict()
        self.bytes = 0

    def __contains__(self, key: Hashable) -> bool:
        """Whether a slice is encoded; any thread may ask."""
        return key in self._entries

    def get(self, key: Hashable) -> Encoded | None:
        """The encoded slice, or None."""
        image = self._entries.get(key)
        if image is not None:
            self._entries.move_to_end(key)
        return image

    def put(self, key: Hashable, image: Encoded) -> None:
        """Keeps an encoded slice, and gives up others until all fit; the newest always stays."""
        if key not in self._entries:
            self.bytes += _size(image)
        self._entries[key] = image
        self._entries.move_to_end(key)
        while self.bytes > self._max_bytes and len(self._entries) > 1:
            _, dropped = self._entries.popitem(last=False)
            self.bytes -= _size(dropped)

    def forget(self, case: int) -> None:
        """Gives up the slices of a case; their keys begin with its number."""
        for key in [key for key in self._entries if isinstance(key, tuple) and key[0] == case]:
            self.bytes -= _size(self._entries.pop(key))


def _size(image: Any) -> int:
    embedding = getattr(image, "embedding", image)
    return int(np.prod(getattr(embedding, "shape", (0,)))) * 4
