"""Whole files or none: what is said when the system refuses, what is cleaned up after a kill."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from litemedsam_jax import files
from litemedsam_jax.files import replacing
from litemedsam_jax.imaging import file_kinds


def test_a_full_disk_is_told_with_the_file_that_did_not_fit(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught, replacing(tmp_path / "a.npz"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "a.npz")
    assert not any(tmp_path.iterdir())


def test_a_neighbour_that_cannot_be_read_does_not_hide_the_cases(tmp_path, monkeypatch):
    for name in ("a.npz", "locked.npz", "locked"):
        (tmp_path / name).touch()
    (tmp_path / "locked_folder").mkdir()

    def refuse(path: Path, allowed):
        if "locked" in path.name:
            raise PermissionError(13, "Permission denied", str(path))
        return allowed(path)

    open_file, iterate = Path.open, Path.iterdir
    monkeypatch.setattr(Path, "open", lambda path, *_: refuse(path, lambda p: open_file(p, "rb")))
    monkeypatch.setattr(Path, "iterdir", lambda path: refuse(path, iterate))
    # By its name it is a case, which whoever reads it will tell.
    assert file_kinds.cases_in(tmp_path) == [tmp_path / "a.npz", tmp_path / "locked.npz"]


def _ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def half_files(tmp_path, monkeypatch):
    """Makes what a run leaves that is killed while it writes `a.npz`, as process so and so."""

    def make(process: int, machine: str | None = None, age: float = 0) -> Path:
        with monkeypatch.context() as patch:
            patch.setattr(files.os, "getpid", lambda: process)
            if machine is not None:
                patch.setattr(files, "_machine", lambda: machine)
            with replacing(tmp_path / "a.npz") as beside:
                beside.write_bytes(b"half")
                patch.setattr(Path, "replace", lambda *_: None)
                patch.setattr(Path, "unlink", lambda *_, **__: None)
        written = time.time() - age
        os.utime(beside, (written, written))
        return beside

    return make


@pytest.mark.skipif(sys.platform == "win32", reason="there only old files are removed")
def test_half_files_of_processes_that_are_gone_are_removed(tmp_path, half_files):
    half_files(_ended_process())
    running = half_files(os.getppid(), age=1e6)
    assert files.remove_stale(tmp_path) == 1
    assert list(tmp_path.iterdir()) == [running]


def test_half_files_of_other_hosts_are_removed_when_they_are_old(tmp_path, half_files):
    old = half_files(1, "0123abcd", age=7200)
    new = half_files(2, "0123abcd", age=60)
    assert old.exists() and files.remove_stale(tmp_path) == 1
    assert list(tmp_path.iterdir()) == [new]


def test_nothing_else_is_removed(tmp_path):
    names = [".hidden", ".12.tmp.a.npz", ".0123abcd.tmp.a.npz", "0123abcd.1.tmp.a.npz", "a.npz"]
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    folder = tmp_path / ".0123abcd.1.tmp.folder"
    folder.mkdir()
    os.utime(folder, (0, 0))
    assert files.remove_stale(tmp_path) == 0
    assert files.remove_stale(tmp_path / "missing") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, folder.name])


def test_the_longest_names_that_file_systems_allow(tmp_path):
    for name in ("x" * 250 + ".npz", "ü" * 125 + ".npz"):
        with replacing(tmp_path / name) as beside:
            beside.write_bytes(b"whole")
            assert beside.suffix == ".npz"
        assert (tmp_path / name).read_bytes() == b"whole"
