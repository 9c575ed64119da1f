"""Fine-tuning, stage 2: the whole model on masks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from litemedsam_jax.config import ModelConfig
from litemedsam_jax.imaging.input_frame import to_input
from litemedsam_jax.models.lite_medsam import LiteMedSAMNetwork
from litemedsam_jax.training import devices, reporting
from litemedsam_jax.training.catalog import Catalog, DataError
from litemedsam_jax.training.config import TrainingConfig
from litemedsam_jax.training.embedding_files import EmbeddingFiles, Encode
from litemedsam_jax.training.samples import FinetuneSample, flip, frame_of
from litemedsam_jax.training.setup import TrainingTask
from litemedsam_jax.training.steps import LossFunction, TrainState, execution, finetune_loss
from litemedsam_jax.training.validation import ModalityScores, picked_cases, validate

_PICTURED = 6  # validation cases drawn each epoch


def task(
    config: TrainingConfig,
    variables: dict[str, Any],
    counters: dict[str, int],
    validation: Catalog | None,
    embeddings: EmbeddingFiles | None = None,
) -> TrainingTask:
    """What a fine-tuning brings to a run.

    Args:
        config: the run.
        variables: to start from.
        counters: torch's BatchNorm counters that belong to them.
        validation: slices to validate on.
        embeddings: of the frozen encoder, for every slice and flip; see `fill_cache`.
    """
    return TrainingTask(
        variables=variables,
        counters=counters,
        transform=FinetuneSample(config.data, config.model.image_encoder.image_size, embeddings),
        loss=training_loss,
        prepare=lambda batch: batch,
        validate=None if validation is None else validator(config, validation, embeddings),
        output="model.safetensors",
    )


def fill_cache(
    cache: EmbeddingFiles,
    encode: Encode,
    config: TrainingConfig,
    catalog: Catalog,
    validation: Catalog | None,
) -> None:
    """Encodes every slice that a run with a frozen encoder will ask for; every host a share.

    Args:
        cache: gets the embeddings.
        encode: the encoder.
        config: the run; with flips a slice has four embeddings.
        catalog: slices to train on.
        validation: slices to validate on, unflipped.

    Raises:
        DataError: the encoder trains, or augmentation makes images that cannot be foreseen; or the
            embeddings exceed the cache's limit.
    """
    if "encoder" not in config.optimizer.freeze or config.data.augment:
        raise DataError(
            "an embedding cache needs an encoder that does not train (--freeze encoder) and images "
            "that are not augmented (no --augment); flips may stay"
        )
    size = config.model.image_encoder.image_size
    flips = config.data.flips and not config.data.overfit
    variants = [(lr, ud) for lr in (0, 1) for ud in (0, 1)] if flips else [(0, 0)]
    share = devices.sharding()
    wanted = [(catalog, index, variants) for index in range(len(catalog))]
    if validation is not None and validation is not catalog:
        wanted += [(validation, index, [(0, 0)]) for index in range(len(validation))]
    wanted = wanted[share.index :: share.count]

    def images() -> Iterator[np.ndarray]:
        for source, index, flipped in wanted:
            pixels = source[index].image
            image = to_input(pixels, frame_of(pixels, size))
            for lr, ud in flipped:
                yield np.ascontiguousarray(flip(image, lr, ud))

    cache.fill(images(), sum(len(flipped) for _, _, flipped in wanted), encode)
    devices.wait_for_hosts("embeddings cached")


def training_loss(config: TrainingConfig, axis: str | None = None) -> LossFunction:
    """steps.finetune_loss; with --freeze-batch-norm BatchNorm computes as in inference.

    Its statistics then stay, and do not depend on the batch; all parameters train.
    """
    loss = finetune_loss(config, axis)
    if not config.optimizer.freeze_batch_norm:
        return loss

    def frozen_statistics(params, batch_stats, buffers, batch, train):
        del train
        return loss(params, batch_stats, buffers, batch, False)

    return frozen_statistics


def validator(
    config: TrainingConfig, catalog: Catalog, embeddings: EmbeddingFiles | None = None
) -> Callable[[TrainState, int], dict[str, float]]:
    """(state, epoch) -> DSC and NSD, overall and by modality; the score is the DSC.

    Every host scores its share of the cases; the main one draws some of its own.
    """
    predict = prediction_function(config)
    size = config.model.image_encoder.image_size
    pictured = picked_cases(catalog, _PICTURED)
    count = jax.local_device_count()

    def run(variables: Any, batch: dict[str, np.ndarray]) -> np.ndarray:
        split = {k: v.reshape(count, -1, *v.shape[1:]) for k, v in batch.items()}
        logits = np.asarray(predict(variables, split))
        return logits.reshape(-1, *logits.shape[2:])

    def score(state: TrainState, epoch: int) -> dict[str, float]:
        scores, predictions = validate(
            run,
            devices.fetch(state.variables()),
            catalog,
            config.data,
            size,
            count * min(config.data.batch_size, 4),
            sharding=devices.sharding(),
            pictured=pictured,
            embeddings=embeddings,
        )
        if devices.is_main():
            path = Path(config.work_dir) / "predictions" / f"epoch_{epoch:04d}.png"
            reporting.draw_predictions(path, predictions)
        means = ModalityScores(scores.modalities, devices.sum_over_hosts(scores.sums)).means()
        return {**means, "score": means["dsc"]}

    return score


def prediction_function(config: TrainingConfig) -> devices.DeviceFunction:
    """(variables, batch) -> logits (n, N, S, S), on this process's devices.

    The batch has `image` or `embedding`, `boxes` and `valid`; see validation.Predict.
    """
    network = LiteMedSAMNetwork(config.model, execution(config, axis=None))

    def predict(variables: Any, batch: dict[str, jax.Array]) -> jax.Array:
        embedding: Any
        if "embedding" in batch:
            embedding = batch["embedding"].astype(jnp.float32)
        else:
            embedding = network.apply(variables, batch["image"], method="encode")
        logits, _ = network.apply(
            variables, embedding, batch["boxes"], valid=batch["valid"], method="decode"
        )
        return logits[:, :, 0]

    return devices.DeviceFunction(predict, mapped_output=True, local=True, precision=config.dtype)


def check_trainable(model: ModelConfig) -> None:
    """Raises ValueError if the model's masks are smaller than its input (MedSAM, MobileSAM)."""
    encoder = model.image_encoder
    if 4 * encoder.grid_size != encoder.image_size:
        raise ValueError(
            f"{model.name} predicts masks of {4 * encoder.grid_size} pixels for an input of "
            f"{encoder.image_size}; fine-tuning takes lite_medsam"
        )
