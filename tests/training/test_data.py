"""From files to batches: indexing, splitting, samples, order, sharding, resumption."""

import dataclasses
from itertools import islice

import numpy as np
import pytest

from litemedsam_jax.config import DataConfig
from litemedsam_jax.preparation import training_set
from litemedsam_jax.training import samples
from litemedsam_jax.training.catalog import open_catalog
from litemedsam_jax.training.data import Sharding, training_batches


@pytest.fixture(scope="module")
def shards(cases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    cases = training_set.find_training_cases(cases)
    for task in training_set.plan_shards(cases, folder, megabytes=0):
        training_set.write_shard(task)
    return folder


@pytest.fixture(scope="module")
def catalog(npy_folder):
    return open_catalog([npy_folder])


def names(batch):
    return batch["name"].tolist()


def test_shards_and_npy_hold_the_same_slices(shards, catalog):
    packed = open_catalog([shards])
    assert len(packed) == len(catalog) == 10
    assert len(list(shards.glob("*.array_record"))) == 6
    by_name = {entry.name: i for i, entry in enumerate(catalog.entries)}
    for index, entry in enumerate(packed.entries):
        other = catalog[by_name[entry.name]]
        assert (entry.case, entry.labels, entry.position) == (
            other.entry.case, other.entry.labels, other.entry.position)  # fmt: skip
        np.testing.assert_array_equal(packed[index].gts, other.gts)
        if not entry.name.endswith("5"):  # that one is float64 RGB as npy
            np.testing.assert_array_equal(packed[index].image, other.image)
    assert packed.entries[0].spacing == (1.0, 1.0, 3.0)


def test_slices_that_teach_nothing_are_skipped_and_counted(tmp_path):
    for kind in ("imgs", "gts"):
        (tmp_path / kind).mkdir()
    gts = np.zeros((600, 600), np.uint8)
    speck = gts.copy()
    speck[1, 1] = 1  # nearest-neighbour sampling steps over it
    disc = gts.copy()
    disc[100:300, 100:300] = 1
    for name, mask in {"CT_a": gts, "CT_b": speck, "CT_c": disc}.items():
        np.save(tmp_path / "imgs" / f"{name}.npy", mask)
        np.save(tmp_path / "gts" / f"{name}.npy", mask)
    found = open_catalog([tmp_path])
    assert [entry.name for entry in found.entries] == ["CT_c"]
    assert found.skipped == catalog.Skipped(background=1, lost=1)
    assert "1 without object, 1 whose objects vanish" in found.describe()
    assert len(open_catalog([tmp_path], all_slices=True)) == 3


def test_an_image_without_background_keeps_its_label(tmp_path):
    for kind in ("imgs", "gts"):  # the reference drops the first label it finds
        (tmp_path / kind).mkdir()
        np.save(tmp_path / kind / "CT_full.npy", np.full((64, 64), 1, np.uint8))
    assert open_catalog([tmp_path]).entries[0].labels == (1,)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("missing", "there is no such folder"),
        ("npz", "npz files: convert them"),
        ("empty", "no pairs"),
        ("pickle", "no intact npy"),
    ],
)
def test_unusable_data_is_told(tmp_path, layout, message):
    root = tmp_path / "data"
    if layout != "missing":
        root.mkdir()
    if layout == "npz":
        (root / "CT_1.npz").touch()
    if layout in ("empty", "pickle"):
        (root / "imgs").mkdir()
        (root / "gts").mkdir()
    if layout == "pickle":
        for kind in ("imgs", "gts"):
            np.save(root / kind / "a.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(catalog.DataError, match=message):
        open_catalog([root])


def test_the_split_keeps_cases_whole(catalog):
    train, validation = catalog.split_by_case(catalog, 0.34, seed=1)
    held = {entry.case for entry in validation.entries}
    assert len(train) + len(validation) == len(catalog)
    assert held.isdisjoint(entry.case for entry in train.entries)
    assert {entry.modality for entry in validation.entries} == {"CT", "MR"}
    again = catalog.split_by_case(catalog, 0.34, seed=1)[1]
    assert again.fingerprint() == validation.fingerprint()


def test_a_sample_is_a_mask_with_a_box_around_it(catalog):
    data = DataConfig(("x",), bbox_shift=4)
    make = samples.FinetuneSample(data, 256)
    rng = np.random.default_rng(0)
    shifts = set()
    for _ in range(40):
        sample = make.random_map(catalog[0], rng)
        image, mask, box = sample["image"], sample["mask"], sample["box"]
        assert image.shape == (256, 256, 3) and image.dtype == np.float32
        assert image.min() >= 0 and image.max() <= 1 and set(np.unique(mask)) == {0, 1}
        rows, columns = np.nonzero(mask)
        tight = [columns.min(), rows.min(), columns.max(), rows.max()]
        grown = (box - tight) * [-1, -1, 1, 1]
        assert (grown >= 0).all() and (grown <= 4).all() and box.max() <= 255
        shifts.update(grown.tolist())
    assert shifts == {0, 1, 2, 3, 4}  # --bbox-shift is honoured
    assert {make.random_map(catalog[0], rng)["name"].item() for _ in range(20)} == {
        f"{catalog[0].entry.name} (label {label})" for label in (1, 2)
    }


def test_augmentation_keeps_image_and_mask_together(catalog):
    one = catalog[0]
    image = np.zeros((256, 256, 3), np.float32)
    mask = np.zeros((256, 256), np.uint8)
    mask[60:120, 30:90] = 1
    image[mask > 0] = 0.8
    rng = np.random.default_rng(0)
    for _ in range(10):
        bright, moved = samples.augment(image, mask, ("intensity", "scale"), rng)
        assert moved.any() and bright.dtype == np.float32 and 0 <= bright.min() <= bright.max() <= 1
        overlap = ((bright[..., 0] > 0.2) & (moved > 0)).sum() / moved.sum()
        assert overlap > 0.95
    assert samples.augment(image, mask, (), rng)[0] is image
    assert one.gts.any()


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
    later = next(training_batches(catalog, make, data, 4, consumed=12))
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


def test_distillation_flips_both_images_alike(catalog):
    data = DataConfig(("x",), flips=True)
    make = samples.DistillSample(data, 64, 128)
    for seed in range(8):
        sample = make.random_map(catalog[0], np.random.default_rng(seed))
        small, large = sample["image"][..., 0], sample["teacher_image"][::2, ::2, 0]
        assert np.corrcoef(small.ravel(), large.ravel())[0, 1] > 0.7
    squashed = samples.square_input(catalog[0].image, 64, "squash", 2)
    assert squashed[-1].any() and not samples.square_input(catalog[0].image, 64, "pad", 2)[-1].any()
