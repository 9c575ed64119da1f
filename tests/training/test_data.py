"""Order, sharding, workers and resumption of the input pipeline."""

import dataclasses
from itertools import islice

import numpy as np

from litemedsam_jax.training import samples
from litemedsam_jax.training.config import DataConfig
from litemedsam_jax.training.data import Sharding, training_batches


def names(batch):
    return batch["name"].tolist()


def test_order_is_seeded_covers_all_and_changes_by_epoch(catalog):
    data = DataConfig(("x",), workers=0)
    make = samples.FinetuneSample(data, 64)
    first, second = islice(training_batches(catalog, make, data, 10), 2)
    slices = [sorted(name.split(" ")[0] for name in names(batch)) for batch in (first, second)]
    assert slices[0] == slices[1] == sorted(entry.name for entry in catalog.entries)
    assert names(first) != names(second)
    again = next(training_batches(catalog, make, data, 10))
    np.testing.assert_array_equal(first["image"], again["image"])
    other = dataclasses.replace(data, seed=1)
    assert names(next(training_batches(catalog, make, other, 10))) != names(first)


def test_processes_share_the_global_batch_and_positions_resume(catalog):
    data = DataConfig(("x",), workers=0)
    make = samples.FinetuneSample(data, 64)
    whole = list(islice(training_batches(catalog, make, data, 4), 5))
    parts = [
        list(islice(training_batches(catalog, make, data, 4, sharding=Sharding(i, 2)), 5))
        for i in (0, 1)
    ]
    for step, batch in enumerate(whole):
        assert sorted(names(parts[0][step]) + names(parts[1][step])) == sorted(names(batch))
    later = next(training_batches(catalog, make, data, 4, samples_seen=12))
    np.testing.assert_array_equal(later["image"], whole[3]["image"])
    np.testing.assert_array_equal(later["box"], whole[3]["box"])


def test_worker_processes_make_the_same_batches(catalog):
    data = DataConfig(("x",), workers=0)
    make = samples.FinetuneSample(data, 64)
    alone = list(islice(training_batches(catalog, make, data, 4), 3))
    stream = training_batches(catalog, make, dataclasses.replace(data, workers=2), 4)
    for expected in alone:
        batch = next(stream)
        assert names(batch) == names(expected)
        np.testing.assert_array_equal(batch["image"], expected["image"])
    stream.close()


def test_modalities_are_balanced(catalog):
    few = catalog.subset([i for i, e in enumerate(catalog.entries) if e.modality == "CT"][:1])
    rest = [i for i, e in enumerate(catalog.entries) if e.modality == "MR"]
    mixed = catalog.subset([catalog.entries.index(few.entries[0]), *rest])
    data = DataConfig(("x",), workers=0, balance="modality")
    batch = next(training_batches(mixed, samples.FinetuneSample(data, 64), data, 8))
    assert sum(name.startswith("CT") for name in names(batch)) == 4
