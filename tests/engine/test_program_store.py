"""Where executables lie on disk: keys, levels of instruction sets, what is removed."""

import dataclasses
import os
import time
from pathlib import Path

import pytest

from litemedsam_jax.engine import processor, program_store
from litemedsam_jax.engine.program_store import KEPT_KEYS, ProgramStore
from tests.support.tiny_model import CONFIG

DAY = 24 * 3600


def test_another_network_or_jaxlib_has_another_key(monkeypatch):
    import jaxlib.version

    other = dataclasses.replace(CONFIG, name="other")
    keys = {ProgramStore(CONFIG, Path()).folder, ProgramStore(other, Path()).folder}
    monkeypatch.setattr(jaxlib.version, "__version__", "0.0.1")
    keys.add(ProgramStore(CONFIG, Path()).folder)
    assert len(keys) == 3


def test_the_best_level_of_the_host_comes_first(tmp_path):
    avx512 = frozenset().union(*processor.INSTRUCTION_SETS.values())
    store = ProgramStore(CONFIG, tmp_path, avx512)
    for level in ("avx2", "avx512"):
        store.write("encode", level.encode(), level)
    assert store.read("encode") == b"avx512"
    avx2 = processor.INSTRUCTION_SETS["avx2"]
    assert ProgramStore(CONFIG, tmp_path, avx2).read("encode") == b"avx2"
    assert ProgramStore(CONFIG, tmp_path, frozenset({"sse2"})).read("encode") is None


def test_a_host_s_own_executable_comes_before_a_level_s(tmp_path):
    store = ProgramStore(CONFIG, tmp_path)
    for level in processor.instruction_sets(processor.features()):
        store.write("encode", b"level", level)
    store.write("encode", b"native")
    assert store.read("encode") == b"native"


@pytest.mark.skipif(not hasattr(os, "umask") or os.name == "nt", reason="other permissions")
def test_what_is_stored_is_read_whatever_the_umask(tmp_path):
    before = os.umask(0o002)  # a group's members share their files: usual on some hosts
    try:
        store = ProgramStore(CONFIG, tmp_path / "programs")
        store.write("encode", b"code")
        assert store.read("encode") == b"code"
    finally:
        os.umask(before)


def test_other_keys_are_removed_after_a_while_but_the_newest(tmp_path):
    store = ProgramStore(CONFIG, tmp_path)
    store.write("encode", b"code")
    for number in range(10):  # number weeks ago
        old = tmp_path / f"{number:016x}"
        (old / "avx2").mkdir(parents=True)
        (old / "avx2" / "encode.xla").write_bytes(b"old")
        used = time.time() - number * 7 * DAY - DAY
        os.utime(old, (used, used))
    (tmp_path / "somebody's").mkdir()
    os.utime(tmp_path / "somebody's", (0, 0))
    store.remove_old_keys()
    left = sorted(path.name for path in tmp_path.iterdir() if path != store.folder)
    assert left == [*(f"{number:016x}" for number in range(KEPT_KEYS)), "somebody's"]
    assert store.read("encode") == b"code"


def test_keys_used_within_a_week_stay_however_many(tmp_path):
    for number in range(10):
        (tmp_path / f"{number:016x}").mkdir()
    ProgramStore(CONFIG, tmp_path).remove_old_keys()
    assert len(list(tmp_path.iterdir())) == 10


def test_use_is_noted(tmp_path):
    store = ProgramStore(CONFIG, tmp_path)
    store.write("encode", b"code")
    os.utime(store.folder, (0, 0))
    store.mark_used()
    assert time.time() - store.folder.stat().st_mtime < DAY


def test_a_user_without_home_has_a_folder(monkeypatch):
    monkeypatch.delenv(program_store.VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_home(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", classmethod(no_home))
    assert program_store.default_folder().is_absolute()
