"""Cores are counted by affinity, cgroup and --threads, whichever grants least."""

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import numpy as np
import pytest

from litemedsam_jax.engine import cores
from tests.support.tiny_model import IMAGE, tiny_engine


@pytest.fixture
def sixteen(monkeypatch):
    """A machine of 16 cores without further bounds."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.delenv(cores.THREADS, raising=False)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("cpu.max", "250000 100000\n", 3),
        ("cpu.max", "50000 100000\n", 1),
        ("cpu.max", "max 100000\n", 16),
        ("cpu.max", "6400000 100000\n", 16),
        ("cpu.max", "what?", 16),
        ("cpu/cpu.cfs_quota_us", "400000\n", 4),
        ("cpu/cpu.cfs_quota_us", "-1\n", 16),
    ],
)
def test_a_cgroup_bounds_what_affinity_allows(file, text, expected, sixteen, tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / file).write_text(text)
    assert cores.available(tmp_path) == expected


def test_a_limit_bounds_too_and_reaches_processes_started_from_here(sixteen, tmp_path):
    assert cores.available(tmp_path) == 16
    cores.limit(6)
    assert cores.available(tmp_path) == 6
    assert os.environ["PJRT_NPROC"] == "6"  # the name that XLA's client reads
    cores.limit(64)
    assert cores.available(tmp_path) == 16


@pytest.mark.parametrize(
    ("count", "lanes", "slices"),
    [(1, 1, 0), (2, 2, 0), (3, 3, 0), (4, 4, 2), (8, 8, 4), (64, 8, 8)],
)
def test_what_is_done_at_once_grows_with_the_cores(count, lanes, slices, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setenv(cores.THREADS, str(count))
    assert (cores.lanes(), cores.slices_ahead()) == (lanes, slices)


def test_a_client_of_one_thread_leaves_the_count_as_it_was(sixteen, tmp_path):
    counts = []
    with cores.one_thread():
        assert os.environ["PJRT_NPROC"] == "1"
        other = Thread(target=lambda: counts.append(cores.available(tmp_path)))
        other.start()
        other.join(0.2)
    other.join()
    assert counts == [16]  # a thread that asks meanwhile waits


def test_any_number_of_lanes_gives_the_same(filled, folder, variables, sixteen, monkeypatch):
    monkeypatch.setenv(cores.THREADS, "1")
    alone = tiny_engine(variables, folder).encode(IMAGE)
    for count in ("2", "3", "8"):
        monkeypatch.setenv(cores.THREADS, count)
        np.testing.assert_array_equal(tiny_engine(variables, folder).encode(IMAGE), alone)


def test_images_may_share_lanes(filled, folder, variables, sixteen, monkeypatch):
    monkeypatch.setenv(cores.THREADS, "2")
    engine = tiny_engine(variables, folder)
    images = [IMAGE, 1 - IMAGE, IMAGE / 2, IMAGE**2]
    expected = [engine.encode(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for embedding, alone in zip(pool.map(engine.encode, images), expected, strict=True):
            np.testing.assert_array_equal(embedding, alone)
