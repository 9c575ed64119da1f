"""Embeddings of a frozen image encoder on disk: by content, float16, bounded, resumable.

An embedding is found by the SHA-256 of the encoder's weights and of the image as the network takes
it, so a cache serves any run, any flip and any crop, and decoders that were trained since. A file
holds one embedding (2 MiB of LiteMedSAM's); a killed run leaves whole files. float16 keeps 11 bits,
an error of 5e-4 of a value; LiteMedSAM's lie within ±3.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from litemedsam_jax.files import replacing
from litemedsam_jax.training.catalog import DataError

Encode = Callable[[np.ndarray], np.ndarray]  # (S, S, 3) float32 -> (1, G, G, C) or (G, G, C)
_SUFFIX = ".f16"


class EmbeddingFiles:
    """The embeddings of one encoder in one folder; the ones read longest ago go first."""

    def __init__(self, folder: Path, encoder: str, shape: tuple[int, int, int], limit: int):
        """Opens a cache; its folder is made with the first embedding.

        Args:
            folder: shared by caches of several encoders.
            encoder: digest of the weights, see `encoder_digest`.
            shape: of an embedding, (G, G, C).
            limit: bytes that all embeddings of this encoder may take together.
        """
        self.shape, self.limit = shape, limit
        self._folder = folder / encoder[:32]
        self._encoder = encoder
        self._bytes = int(np.prod(shape)) * 2

    def read(self, image: np.ndarray) -> np.ndarray:
        """The embedding of an image (S, S, 3) float32: (G, G, C) float16.

        Raises:
            DataError: it is not in the cache.
        """
        path = self._path(image)
        embedding = self._load(path)
        if embedding is None:
            raise DataError(f"{path}: missing or damaged; run the command again to encode it anew")
        return embedding

    def read_or_encode(self, image: np.ndarray, encode: Encode) -> np.ndarray:
        """The embedding of an image (S, S, 3) float32; computed and kept where it is not there.

        Args:
            image: as the network takes it.
            encode: the encoder.

        Returns:
            (G, G, C) float16; the same whether it was there or not.
        """
        path = self._path(image)
        embedding = self._load(path)
        if embedding is None:
            embedding = np.asarray(encode(image)).reshape(self.shape).astype(np.float16)
            with replacing(path) as beside:
                beside.write_bytes(embedding.tobytes())
        return embedding

    def fill(self, images: Iterable[np.ndarray], count: int, encode: Encode) -> int:
        """Encodes what the cache lacks of some images, and removes what exceeds the limit.

        Args:
            images: (S, S, 3) float32 each, made one by one.
            count: how many they are.
            encode: the encoder.

        Returns:
            How many were encoded.

        Raises:
            DataError: they exceed the limit together.
        """
        if count * self._bytes > self.limit:
            raise DataError(
                f"{count} embeddings take {count * self._bytes / 2**30:.1f} GiB and the limit is "
                f"{self.limit / 2**30:.1f}; give a higher --cache-limit, or fewer slices"
            )
        from litemedsam_jax.progress import ProgressDisplay

        encoded = 0

        def counted(image: np.ndarray) -> np.ndarray:
            nonlocal encoded
            encoded += 1
            return encode(image)

        with ProgressDisplay("slices encoded", count) as progress:
            for image in images:
                self.read_or_encode(image, counted)
                progress.advance()
        self._prune()
        return encoded

    def _path(self, image: np.ndarray) -> Path:
        image = np.ascontiguousarray(image, np.float32)
        key = hashlib.sha256(f"{self._encoder} {image.shape}\n".encode())
        key.update(image.data)
        return self._folder / f"{key.hexdigest()[:40]}{_SUFFIX}"

    def _load(self, path: Path) -> np.ndarray | None:
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if len(data) != self._bytes:
            return None
        with suppress(OSError):  # a cache that may only be read
            os.utime(path)
        return np.frombuffer(data, np.float16).reshape(self.shape)

    def _prune(self) -> None:
        with suppress(OSError):
            files = [(p.stat().st_mtime_ns, p) for p in self._folder.glob(f"*{_SUFFIX}")]
            surplus = len(files) - self.limit // self._bytes
            for _, path in sorted(files)[: max(surplus, 0)]:
                path.unlink(missing_ok=True)


def encoder_digest(variables: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of an image encoder's weights; those of other parts do not count.

    Args:
        variables: flat, of the whole model.
    """
    total = hashlib.sha256()
    for name in sorted(name for name in variables if "/image_encoder/" in name):
        array = np.ascontiguousarray(variables[name])
        total.update(f"{name} {array.dtype} {array.shape}\n".encode())
        total.update(array.data)
    return total.hexdigest()
