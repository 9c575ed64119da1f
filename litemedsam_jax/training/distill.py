"""Distillation, stage 1: the student's image encoder learns the teacher's embeddings."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from litemedsam_jax.config import ModelConfig
from litemedsam_jax.models.lite_medsam import make_image_encoder
from litemedsam_jax.training import devices, teacher_cache
from litemedsam_jax.training.catalog import Catalog, DataError
from litemedsam_jax.training.config import TrainingConfig
from litemedsam_jax.training.samples import DistillSample
from litemedsam_jax.training.setup import TrainingTask
from litemedsam_jax.training.steps import TrainState, distill_loss, execution, teacher_embedding
from litemedsam_jax.weights.errors import CheckpointError

_TEACHER_BATCH = 4  # images a device embeds at once while a cache is filled


@dataclass(frozen=True)
class Teacher:
    """The frozen image encoder: its variables, its model, and the dtype of its activations."""

    variables: Any
    config: ModelConfig
    dtype: str

    @property
    def image_size(self) -> int:
        """Side of its input, in pixels."""
        return self.config.image_encoder.image_size

    @property
    def embedding_shape(self) -> tuple[int, int, int]:
        """(G, G, C)."""
        encoder = self.config.image_encoder
        return encoder.grid_size, encoder.grid_size, encoder.out_dim

    def compiled(self) -> Callable[[Any], jax.Array]:
        """Images (devices, ..., S, S, 3) -> embeddings (devices, ..., G, G, C) bfloat16."""

        def embed(variables: Any, images: jax.Array) -> jax.Array:
            flat = images.reshape(-1, *images.shape[-3:])
            # One at a time: at 1024x1024 a ViT's attention maps fill the memory.
            embeddings = jax.lax.map(
                lambda one: teacher_embedding(self.config, self.dtype, variables, one[None])[0],
                flat,
            )
            return embeddings.reshape(*images.shape[:-3], *embeddings.shape[1:])

        function = devices.DeviceFunction(embed, mapped_output=True, local=True)
        variables = jax.tree.map(jnp.asarray, self.variables)
        return lambda images: function(variables, images)


def task(
    config: TrainingConfig,
    variables: dict[str, Any],
    counters: dict[str, int],
    validation: Catalog | None,
    *,
    teacher: Teacher | None,
    cache: Path | None,
    catalog: Catalog,
) -> TrainingTask:
    """What a distillation brings to a run; fills the cache first where it lacks slices.

    Args:
        config: the run.
        variables: the student's, to start from.
        counters: torch's BatchNorm counters that belong to them.
        validation: slices to validate on.
        teacher: None: the cache has all that is needed.
        cache: folder of the teacher's embeddings; None: they are computed in every step.
        catalog: slices to train on.

    Raises:
        DataError: the cache is of another teacher, or its shape is not the student's.
        CheckpointError: the cache lacks slices and there is no teacher.
    """
    cached = None
    if cache is not None:
        parts = [catalog] if validation is None else [catalog, validation]
        for part in parts:
            _fill_cache(config, part, teacher, cache)
        cached = teacher_cache.TeacherCache(cache)
    shape = cached.shape if cached is not None else teacher.embedding_shape if teacher else ()
    _check_shapes(config.model, shape)
    size = 0 if teacher is None else teacher.image_size
    sample = DistillSample(config.data, config.model.image_encoder.image_size, size, cached)
    embeds = cached is None and teacher is not None
    prepare = _embed_batches(teacher) if embeds and teacher else lambda batch: batch
    return TrainingTask(
        variables=variables,
        counters=counters,
        transform=sample,
        loss=distill_loss,
        prepare=prepare,
        validate=None if validation is None else _validator(config, validation, sample, prepare),
        output="encoder.safetensors",
    )


def _fill_cache(
    config: TrainingConfig, catalog: Catalog, teacher: Teacher | None, folder: Path
) -> None:
    """Adds what the cache lacks of the catalog's slices; every host a share."""
    name = None if teacher is None else teacher_cache.digest(teacher.variables)
    teacher_cache.check(folder, config.data.resize, name)
    lacking = teacher_cache.missing_slices(folder, catalog)
    devices.wait_for_hosts("cache read")
    if not lacking:
        return
    if teacher is None:
        raise CheckpointError(
            f"{folder}: lacks the teacher's embeddings of {len(lacking)} slices; give the teacher "
            "with -medsam_checkpoint to compute them"
        )
    devices.say(f"teacher: embedding {len(lacking)} slices into {folder}, once")
    embed_images, count = teacher.compiled(), jax.local_device_count()

    def embed(images: np.ndarray) -> np.ndarray:
        embeddings = np.asarray(embed_images(images.reshape(count, -1, *images.shape[1:])))
        return embeddings.reshape(-1, *embeddings.shape[2:])

    if devices.is_main():
        teacher_cache.describe(folder, teacher.embedding_shape, name or "", config.data.resize)
    part = devices.sharding()
    teacher_cache.fill(
        folder,
        catalog,
        lacking,
        embed,
        size=teacher.image_size,
        resize=config.data.resize,
        batch=count * _TEACHER_BATCH,
        part=(part.index, part.count),
    )
    devices.wait_for_hosts("cache filled")


def _embed_batches(teacher: Teacher) -> Callable[[Any], Any]:
    """Replaces a batch's teacher images by their embeddings."""
    embed_images = teacher.compiled()

    def prepare(batch: dict[str, Any]) -> dict[str, Any]:
        rest = {name: array for name, array in batch.items() if name != "teacher_image"}
        return {**rest, "embedding": embed_images(batch["teacher_image"])}

    return prepare


def _validator(
    config: TrainingConfig, catalog: Catalog, sample: DistillSample, prepare
) -> Callable[[TrainState, int], dict[str, float]]:
    """(state, epoch) -> `val_loss`, the mean squared error over the slices; the score is -loss."""
    network = make_image_encoder(config.model, execution(config, axis=None))

    def errors(variables: Any, batch: dict[str, jax.Array]) -> jax.Array:
        student: Any = network.apply(variables, batch["image"])
        return jnp.square(student - batch["embedding"].astype(jnp.float32)).mean((1, 2, 3))

    error_function = devices.DeviceFunction(
        errors, mapped_output=True, local=True, precision=config.dtype
    )
    unflipped = replace(sample, data=replace(config.data, flips=False))
    count = jax.local_device_count()

    def score(state: TrainState, epoch: int) -> dict[str, float]:
        del epoch
        collections = devices.fetch(state.variables())
        variables = {name: tree["image_encoder"] for name, tree in collections.items()}
        share = devices.sharding()
        total = np.zeros(2)
        own = range(share.index, len(catalog), share.count)
        for start in range(0, len(own), count):
            chunk = [catalog[index] for index in own[start : start + count]]
            padded = chunk + [chunk[-1]] * (count - len(chunk))
            samples = [unflipped.random_map(one, np.random.default_rng(0)) for one in padded]
            batch = {
                name: np.stack([one[name] for one in samples])[:, None]
                for name in samples[0]
                if name != "name"
            }
            losses = np.asarray(error_function(variables, prepare(batch))).reshape(-1)
            total += (losses[: len(chunk)].sum(), len(chunk))
        loss, slices = devices.sum_over_hosts(total)
        return {"val_loss": loss / slices, "score": -loss / slices}

    return score


def _check_shapes(student: ModelConfig, shape: tuple[int, ...]) -> None:
    encoder = student.image_encoder
    wanted = (encoder.grid_size, encoder.grid_size, encoder.out_dim)
    if tuple(shape) != wanted:
        raise DataError(
            f"the teacher's embedding is {tuple(shape)} and the student's {wanted}; they must "
            "agree (MedSAM's ViT-B fits lite_medsam, as do MobileSAM and another LiteMedSAM)"
        )
