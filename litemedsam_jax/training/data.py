"""The input pipeline (grain): global shuffle, sharding by process, workers, exact resumption.

Every sample is a function of its number in one endless global sequence and of the seed. A process
takes every n-th sample, so the global batch of a step is the same whatever the number of hosts,
devices and workers; and the iterator's whole state is one number, how many samples were seen, from
which a run with other hosts or workers resumes as well.
"""

from dataclasses import dataclass
from typing import Any

import grain
import numpy as np

from litemedsam_jax.training.catalog import Catalog
from litemedsam_jax.training.config import DataConfig

Batch = dict[str, np.ndarray]
_READY = 2  # batches that wait, per worker


@dataclass(frozen=True)
class Sharding:
    """This process among those that train together."""

    index: int = 0
    count: int = 1


ALONE = Sharding()


def training_batches(
    catalog: Catalog,
    transform: grain.transforms.RandomMap,
    data: DataConfig,
    global_batch: int,
    *,
    samples_seen: int = 0,
    sharding: Sharding = ALONE,
) -> grain.DatasetIterator[Batch]:
    """Endless batches of this process, of global_batch / sharding.count samples each.

    Args:
        catalog: slices to choose from.
        transform: (Slice, generator) -> dictionary of arrays.
        data: order, seed, workers.
        global_batch: samples of a step over all processes.
        samples_seen: over all processes, by the run that this one continues.
        sharding: this process among those that train together.
    """
    samples = sample_sequence(catalog, transform, data)
    samples = samples.slice(slice(samples_seen + sharding.index, None, sharding.count))
    batches = samples.batch(global_batch // sharding.count, drop_remainder=True)
    threads = grain.ReadOptions(num_threads=2, prefetch_buffer_size=_READY)
    stream = batches.to_iter_dataset(threads)
    if data.workers:
        _parse_absl_flags()
        stream = stream.mp_prefetch(grain.MultiprocessingOptions(data.workers, _READY))
    return iter(stream)


def sample_sequence(
    catalog: Catalog, transform: grain.transforms.RandomMap, data: DataConfig
) -> grain.MapDataset:
    """The endless global sequence of samples, shuffled anew each epoch."""
    if data.balance == "modality":
        groups: dict[str, list[int]] = {}
        for index, entry in enumerate(catalog.entries):
            groups.setdefault(entry.modality, []).append(index)
        parts = [
            _shuffled(np.array(indices), data.seed + number)
            for number, (_, indices) in enumerate(sorted(groups.items()))
        ]
        order = grain.MapDataset.mix(parts)
    else:
        order = _shuffled(np.arange(len(catalog)), data.seed)
    return order.map(catalog.__getitem__).seed(data.seed).random_map(transform)


def _shuffled(indices: np.ndarray, seed: int) -> grain.MapDataset:
    return grain.MapDataset.source(indices).seed(seed).shuffle().repeat()


def _parse_absl_flags() -> None:
    # grain asks absl for its debug flags before starting workers; absl refuses flags that no
    # absl program has parsed.
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def with_devices(batch: Batch, devices: int, accumulate: int) -> dict[str, Any]:
    """(n, ...) -> (devices, accumulate, n / devices / accumulate, ...); texts are left out."""
    return {
        name: array.reshape(devices, accumulate, -1, *array.shape[1:])
        for name, array in batch.items()
        if array.dtype.kind not in "US"
    }
