"""Cores are counted by affinity, cgroup and --threads, whichever grants least."""

import os

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
    ("count", "tiles", "slices"), [(1, 1, 0), (2, 1, 0), (4, 4, 2), (8, 4, 4), (64, 4, 8)]
)
def test_what_is_done_at_once_grows_with_the_cores(count, tiles, slices, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setenv(cores.THREADS, str(count))
    assert (cores.tiles_at_once(), cores.slices_ahead()) == (tiles, slices)


def test_tiles_side_by_side_give_the_same(filled, folder, variables, monkeypatch):
    alone = tiny_engine(variables, folder).encode(IMAGE)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setenv(cores.THREADS, "8")
    for _ in range(3):
        np.testing.assert_array_equal(tiny_engine(variables, folder).encode(IMAGE), alone)
