"""Embeddings on disk: found by content, whole or not there, bounded."""

import numpy as np
import pytest

from litemedsam_jax.training.catalog import DataError
from litemedsam_jax.training.embedding_files import EmbeddingFiles, encoder_digest

SHAPE = (4, 4, 2)
BYTES = 4 * 4 * 2 * 2


def image_of(value: float) -> np.ndarray:
    return np.full((8, 8, 3), value, np.float32)


class Encoder:
    """Counts its calls; an embedding is the image's mean."""

    def __init__(self):
        self.calls = 0

    def __call__(self, image: np.ndarray) -> np.ndarray:
        self.calls += 1
        return np.full((1, *SHAPE), image.mean(), np.float32)


def open_cache(folder, encoder="a" * 64, limit=10 * BYTES) -> EmbeddingFiles:
    return EmbeddingFiles(folder, encoder, SHAPE, limit)


def test_an_image_is_encoded_once_whoever_asks(tmp_path):
    encode = Encoder()
    images = [image_of(v) for v in (0.25, 0.5, 0.25)]
    assert open_cache(tmp_path).fill(iter(images), 3, encode) == 2
    assert open_cache(tmp_path).fill(iter(images), 3, encode) == 0  # another process
    assert encode.calls == 2
    embedding = open_cache(tmp_path).read(image_of(0.5))
    assert embedding.shape == SHAPE and embedding.dtype == np.float16
    assert (embedding == 0.5).all()


def test_another_encoder_and_another_image_have_other_embeddings(tmp_path):
    open_cache(tmp_path).fill([image_of(0.5)], 1, Encoder())
    with pytest.raises(DataError, match="run the command again"):
        open_cache(tmp_path).read(image_of(0.75))
    with pytest.raises(DataError):
        open_cache(tmp_path, "b" * 64).read(image_of(0.5))


def test_a_truncated_file_is_encoded_anew(tmp_path):
    cache, encode = open_cache(tmp_path), Encoder()
    cache.fill([image_of(0.5)], 1, encode)
    (path,) = tmp_path.rglob("*.f16")
    path.write_bytes(path.read_bytes()[:-2])
    assert (cache.read_or_encode(image_of(0.5), encode) == 0.5).all() and encode.calls == 2
    assert path.stat().st_size == BYTES


def test_what_exceeds_the_limit_goes_and_what_cannot_fit_is_refused(tmp_path):
    cache = open_cache(tmp_path, limit=2 * BYTES + 1)
    for value in (0.25, 0.5, 0.75):
        cache.fill([image_of(value)], 1, Encoder())
    assert len(list(tmp_path.rglob("*.f16"))) == 2
    assert (cache.read(image_of(0.75)) == 0.75).all()
    encode = Encoder()
    with pytest.raises(DataError, match="--cache-limit"):
        cache.fill([image_of(v) for v in (0.1, 0.2, 0.3)], 3, encode)
    assert encode.calls == 0


def test_the_digest_is_of_the_encoder_alone():
    variables = {
        "params/image_encoder/a": np.ones(3, np.float32),
        "batch_stats/image_encoder/b": np.ones(3, np.float32),
        "params/mask_decoder/c": np.ones(3, np.float32),
    }
    first = encoder_digest(variables)
    assert first == encoder_digest({**variables, "params/mask_decoder/c": np.zeros(3)})
    assert first != encoder_digest({**variables, "batch_stats/image_encoder/b": np.zeros(3)})
