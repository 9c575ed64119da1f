"""Stage 1: the student's image encoder learns the teacher's embeddings."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from litemedsam_jax.config import ModelConfig, TrainingConfig
from litemedsam_jax.models.lite_medsam import make_image_encoder
from litemedsam_jax.training import devices, teacher_cache
from litemedsam_jax.training.catalog import Catalog, DataError
from litemedsam_jax.training.samples import DistillSample
from litemedsam_jax.training.setup import Stage
from litemedsam_jax.training.steps import TrainState, distill_loss, execution, teacher_embedding
from litemedsam_jax.weights.errors import CheckpointError

_TEACHER_BATCH = 4  # images a device embeds at once while a cache is filled


@dataclass(frozen=True)
class Teacher:
    """The frozen image encoder, and the program that runs it."""

    variables: Any
    config: ModelConfig
    dtype: str

    @property
    def image_size(self) -> int:
        return self.config.image_encoder.image_size

    @property
    def embedding_shape(self) -> tuple[int, int, int]:
        encoder = self.config.image_encoder
        return encoder.grid_size, encoder.grid_size, encoder.out_dim

    def program(self) -> Callable[[Any], jax.Array]:
        """Images (devices, ..., S, S, 3) -> embeddings (devices, ..., G, G, C) bfloat16."""

        def embed(variables: Any, images: jax.Array) -> jax.Array:
            flat = images.reshape(-1, *images.shape[-3:])
            # One at a time: at 1024x1024 a ViT's attention maps fill the memory.
            found = jax.lax.map(
                lambda one: teacher_embedding(self.config, self.dtype, variables, one[None])[0],
                flat,
            )
            return found.reshape(*images.shape[:-3], *found.shape[1:])

        program = devices.Program(embed, mapped_output=True, local=True)
        variables = jax.tree.map(jnp.asarray, self.variables)
        return lambda images: program(variables, images)


def stage(
    config: TrainingConfig,
    variables: dict[str, Any],
    counters: dict[str, int],
    validation: Catalog | None,
    *,
    guide: Teacher | None,
    cache: Path | None,
    catalog: Catalog,
) -> Stage:
    """The parts of a distillation (run.Stage); fills the cache first where it lacks slices.

    Args:
        guide: the teacher; None: the cache has all that is needed.
    Raises:
        DataError, CheckpointError: teacher, cache and student do not fit together.
    """
    ready = None
    if cache is not None:
        parts = [catalog] if validation is None else [catalog, validation]
        for part in parts:
            _fill_cache(config, part, guide, cache)
        ready = teacher_cache.TeacherCache(cache)
    shape = ready.shape if ready is not None else guide.embedding_shape if guide else ()
    _check_shapes(config.model, shape)
    size = 0 if guide is None else guide.image_size
    sample = DistillSample(config.data, config.model.image_encoder.image_size, size, ready)
    prepare = _embed_batches(guide) if ready is None and guide is not None else lambda batch: batch
    return Stage(
        variables=variables,
        counters=counters,
        transform=sample,
        loss=distill_loss,
        prepare=prepare,
        validate=None if validation is None else _validator(config, validation, sample, prepare),
        output="encoder.safetensors",
    )


def _fill_cache(
    config: TrainingConfig, catalog: Catalog, guide: Teacher | None, folder: Path
) -> None:
    """Adds what the cache lacks of the catalog's slices; every host a share."""
    name = None if guide is None else teacher_cache.digest(guide.variables)
    teacher_cache.check(folder, config.data.resize, name)
    lacking = teacher_cache.missing_slices(folder, catalog)
    devices.wait_for_hosts("cache read")
    if not lacking:
        return
    if guide is None:
        raise CheckpointError(
            f"{folder}: lacks the teacher's embeddings of {len(lacking)} slices; give the teacher "
            "with -medsam_checkpoint to compute them"
        )
    devices.say(f"teacher: embedding {len(lacking)} slices into {folder}, once")
    program, count = guide.program(), jax.local_device_count()

    def embed(images: np.ndarray) -> np.ndarray:
        found = np.asarray(program(images.reshape(count, -1, *images.shape[1:])))
        return found.reshape(-1, *found.shape[2:])

    if devices.is_main():
        teacher_cache.describe(folder, guide.embedding_shape, name or "", config.data.resize)
    part = devices.sharding()
    teacher_cache.fill(
        folder,
        catalog,
        lacking,
        embed,
        size=guide.image_size,
        resize=config.data.resize,
        batch=count * _TEACHER_BATCH,
        part=(part.index, part.count),
    )
    devices.wait_for_hosts("cache filled")


def _embed_batches(guide: Teacher) -> Callable[[Any], Any]:
    """Replaces a batch's teacher images by their embeddings."""
    program = guide.program()

    def prepare(batch: dict[str, Any]) -> dict[str, Any]:
        rest = {name: array for name, array in batch.items() if name != "teacher_image"}
        return {**rest, "embedding": program(batch["teacher_image"])}

    return prepare


def _validator(
    config: TrainingConfig, catalog: Catalog, sample: DistillSample, prepare
) -> Callable[[TrainState, int], dict[str, float]]:
    """(state, epoch) -> `val_loss`, the mean squared error over the slices; the score is -loss."""
    network = make_image_encoder(config.model, execution(config, axis=None))

    def errors(variables: Any, batch: dict[str, jax.Array]) -> jax.Array:
        found: Any = network.apply(variables, batch["image"])
        return jnp.square(found - batch["embedding"].astype(jnp.float32)).mean((1, 2, 3))

    program = devices.Program(errors, mapped_output=True, local=True)
    still = replace(sample, data=replace(config.data, flips=False))
    count = jax.local_device_count()

    def score(state: TrainState, epoch: int) -> dict[str, float]:
        del epoch
        collections = devices.fetch(state.variables())
        variables = {name: tree["image_encoder"] for name, tree in collections.items()}
        share = devices.sharding()
        total = np.zeros(2)
        mine = range(share.index, len(catalog), share.count)
        for start in range(0, len(mine), count):
            chunk = [catalog[index] for index in mine[start : start + count]]
            padded = chunk + [chunk[-1]] * (count - len(chunk))
            samples = [still.random_map(one, np.random.default_rng(0)) for one in padded]
            batch = {
                name: np.stack([one[name] for one in samples])[:, None]
                for name in samples[0]
                if name != "name"
            }
            found = np.asarray(program(variables, prepare(batch))).reshape(-1)
            total += (found[: len(chunk)].sum(), len(chunk))
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
