"""Slices from folders and shards: indexing, what is left out, splitting."""

import gc
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from litemedsam_jax.preparation import training_set
from litemedsam_jax.training.catalog import DataError, Skipped, open_catalog, split_by_case


@pytest.fixture(scope="module")
def shards(cases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    found = training_set.find_training_cases(cases)
    for task in training_set.plan_shards(found, folder, megabytes=0):
        training_set.write_shard(task)
    return folder


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
    assert found.skipped == Skipped(background=1, lost=1)
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
    with pytest.raises(DataError, match=message):
        open_catalog([root])


def test_the_split_keeps_cases_whole(catalog):
    train, validation = split_by_case(catalog, 0.34, seed=1)
    held = {entry.case for entry in validation.entries}
    assert len(train) + len(validation) == len(catalog)
    assert held.isdisjoint(entry.case for entry in train.entries)
    assert {entry.modality for entry in validation.entries} == {"CT", "MR"}
    again = split_by_case(catalog, 0.34, seed=1)[1]
    assert again.fingerprint() == validation.fingerprint()


@pytest.mark.parametrize("damage", ["{", "[]", '{"CT_a": {"visible": "x"}}', "[" * 9999])
def test_a_damaged_index_is_made_anew(tmp_path, capsys, damage):
    for kind in ("imgs", "gts"):
        (tmp_path / kind).mkdir()
        np.save(tmp_path / kind / "CT_a.npy", np.full((64, 64), 3, np.uint8))
    index = tmp_path / ".litemedsam_index.json"
    assert open_catalog([tmp_path]).entries[0].labels == (3,)
    good = index.read_text()
    index.write_text(damage)
    assert open_catalog([tmp_path]).entries[0].labels == (3,)
    messages = [line for line in capsys.readouterr().err.splitlines() if "note:" in line]
    assert len(messages) == 1 and "damaged" in messages[0]
    assert index.read_text() == good


def test_threads_read_slices_at_once(shards, catalog):
    """Python 3.11's parser of npy headers fails where the garbage collector changes threads."""

    def change_threads(*_):
        time.sleep(0)

    threshold = gc.get_threshold()
    gc.callbacks.append(change_threads)
    gc.set_threshold(20)
    try:
        for one in (catalog, open_catalog([shards])):
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda k, one=one: one[k % len(one)], range(400)))
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(change_threads)
