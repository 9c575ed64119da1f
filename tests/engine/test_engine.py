"""Stored executables: used when they are there, done without when anything is wrong with them."""

import gc
import hashlib
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

from litemedsam_jax.engine import cores, processor, program_store
from litemedsam_jax.engine.executables import RUNTIMES
from litemedsam_jax.engine.stored_executable import StoredExecutable
from litemedsam_jax.weights import safetensors_file
from tests.conftest import REPOSITORY
from tests.support.tiny_model import (
    BOXES,
    CONFIG,
    ENCODER,
    IMAGE,
    copy_executables,
    other_decoder,
    tiny_engine,
    tiny_logits,
)


def messages(capfd) -> list[str]:
    lines = capfd.readouterr().err.splitlines()
    return [line for line in lines if line.startswith("litemedsam")]


def test_first_use_stores_what_it_compiled(filled):
    names = sorted(path.stem for path in filled[0].rglob("*.xla"))
    assert names == sorted(["decode_in_lane", *ENCODER])


def test_first_use_says_so_in_one_line(variables, tmp_path, capfd):
    engine = tiny_engine(variables, tmp_path)
    engine.encode(IMAGE)
    assert engine.compiled == ENCODER
    (line,) = messages(capfd)
    assert "compiling for this machine, once" in line


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_box_has_the_same_mask_alone_and_among_others(lanes, variables, tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "lanes", lambda: lanes)
    for _ in range(2):  # compiled, then stored
        engine = tiny_engine(variables, tmp_path)
        embedding = engine.encode(IMAGE)
        together, iou = engine.decode(embedding, BOXES)
        for k, box in enumerate(BOXES):
            alone, its_iou = engine.decode(embedding, box[None])
            np.testing.assert_allclose(alone[0], together[k], atol=1e-5)
            np.testing.assert_allclose(its_iou[0], iou[k], atol=1e-5)


@pytest.mark.parametrize("stored", [False, True])
def test_another_decoder_shares_encoder_and_executables(stored, filled, variables, tmp_path):
    """The first engine decodes as before; the second as one that was made of its weights."""
    other = other_decoder(variables)
    folder = copy_executables(filled[0], tmp_path) if stored else tmp_path
    engine = tiny_engine(variables, folder)
    changed = engine.with_decoder(other)
    embedding = changed.encode(IMAGE)
    logits = changed.decode(embedding, BOXES)[0]
    np.testing.assert_allclose(tiny_logits(engine), filled[1], atol=1e-5)
    np.testing.assert_array_equal(embedding, engine.encode(IMAGE))
    fresh = tiny_engine(other, filled[0]).decode(embedding, BOXES)[0]
    np.testing.assert_allclose(logits, fresh, atol=1e-5)
    assert np.abs(logits - filled[1]).max() > 0.01
    assert ("decode_in_lane" in engine.compiled) != stored


def test_executables_carry_no_names_of_sources(filled):
    for path in filled[0].rglob("*.xla"):
        data = path.read_bytes()[hashlib.sha256().digest_size :]
        code = StoredExecutable.from_bytes(data).code
        assert b"programs.py" not in code and b"jit(function)/" not in code


@pytest.mark.parametrize("runtime", RUNTIMES, ids=["jaxlib alone", "JAX"])
def test_stored_executables_are_used_and_give_the_same(runtime, filled, folder, variables, capfd):
    engine = tiny_engine(variables, folder, runtimes=[runtime])
    np.testing.assert_allclose(tiny_logits(engine), filled[1], atol=1e-5)
    assert engine.compiled == []
    assert messages(capfd) == []


FRESH_PROCESS = """
import sys
import numpy as np
from litemedsam_jax.engine.engine import Engine
from litemedsam_jax.weights.load import load
weights = load("tiny.safetensors")
engine = Engine(weights.variables, weights.config)
logits, _ = engine.decode(engine.encode(np.load("image.npy")), np.load("boxes.npy"))
np.save("logits.npy", logits)
print(engine.device, engine.compiled, sorted({"jax", "flax"} & set(sys.modules)))
"""


def test_a_fresh_process_compiles_nothing_and_imports_no_jax(filled, folder, variables, tmp_path):
    """Without a device named, as in Python: this host has no accelerator, or none is looked for."""
    safetensors_file.save(tmp_path / "tiny.safetensors", variables, CONFIG)
    np.save(tmp_path / "image.npy", IMAGE)
    np.save(tmp_path / "boxes.npy", BOXES)
    environment = {
        **os.environ,
        program_store.VARIABLE: str(folder),
        "PYTHONPATH": str(REPOSITORY),
    }
    done = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "cpu [] []"
    assert done.stderr == ""
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), filled[1])


def spoil_bytes(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def replace_by_text(path: Path) -> None:
    text = b"not an executable of XLA's, though its digest is right"
    path.write_bytes(hashlib.sha256(text).digest() + text)


def let_others_write(path: Path) -> None:
    path.chmod(0o666)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (spoil_bytes, "is damaged"),
        (cut_short, "is damaged"),
        (replace_by_text, "not a stored executable"),
        (let_others_write, "may be written by others"),
    ],
)
def test_an_unusable_executable_is_reported_and_compiled(
    fault, reason, filled, folder, variables, capfd
):
    fault(next(folder.rglob("encode_block_2.xla")))
    engine = tiny_engine(variables, folder)
    np.testing.assert_allclose(tiny_logits(engine), filled[1], atol=1e-5)
    assert engine.compiled == ["encode_block_2"]
    (line,) = messages(capfd)
    assert reason in line


def fails_to_start():
    raise TypeError("the inner interface has changed\nby two lines")


class FailsToLoad:
    def load(self, *_):
        raise TypeError("the inner interface has changed\nby two lines")


class FailsToRun:
    """Loads what cannot be run."""

    def put(self, array):
        return array

    def load(self, *_):
        return self

    @property
    def runtime(self):
        return self

    def __call__(self, *_):
        raise TypeError("the inner interface has changed\nby two lines")


@pytest.mark.parametrize("broken", [fails_to_start, FailsToLoad, FailsToRun])
def test_where_jaxlib_fails_jax_loads_without_compiling(broken, filled, folder, variables, capfd):
    engine = tiny_engine(variables, folder, runtimes=[broken, RUNTIMES[1]])
    np.testing.assert_allclose(tiny_logits(engine), filled[1], atol=1e-5)
    assert engine.compiled == []
    (line,) = messages(capfd)
    assert "JAX loads them" in line and "has changed" in line


@pytest.mark.parametrize("broken", [fails_to_start, FailsToLoad, FailsToRun])
def test_where_both_fail_all_is_compiled(broken, filled, folder, variables, capfd):
    engine = tiny_engine(variables, folder, runtimes=[broken, broken])
    np.testing.assert_allclose(tiny_logits(engine), filled[1], atol=1e-5)
    assert engine.compiled == [*ENCODER, "decode_in_lane"]
    assert len(messages(capfd)) == 1


def test_nothing_can_be_stored(variables, filled, tmp_path, capfd):
    (tmp_path / "file").write_text("in the way")
    logits = tiny_logits(tiny_engine(variables, tmp_path / "file" / "programs"))
    np.testing.assert_allclose(logits, filled[1], atol=1e-5)
    (line,) = messages(capfd)
    assert "nothing can be stored" in line and str(tmp_path / "file") in line


def test_an_engine_that_is_deleted_is_freed(folder, variables):
    engine = tiny_engine(variables, folder)
    tiny_logits(engine)
    alive = weakref.ref(engine)
    del engine
    assert alive() is None  # at once, without a search for cycles


def test_an_engine_deleted_while_it_loads_ends_its_thread(folder, variables):
    before = set(threading.enumerate())
    engine = tiny_engine(variables, folder)
    started = set(threading.enumerate()) - before
    alive = weakref.ref(engine)
    del engine
    gc.collect()
    assert alive() is None
    for thread in started:
        thread.join(60)
        assert not thread.is_alive()


RSS = """
import gc, sys, threading, time
from pathlib import Path
import numpy as np
from litemedsam_jax import LiteMedSAM

def resident():
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096 / 2**20

image = np.zeros((64, 64, 3), np.uint8)
image[20:40, 20:40] = 255
sizes = []
for _ in range(10):
    model = LiteMedSAM.from_pretrained(sys.argv[1])
    model.set_image(image)
    model.predict(np.array([[18, 18, 42, 42]]))
    del model
    sizes.append(resident())
print(sizes[-1] - sizes[1], threading.active_count())
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc to read memory from")
def test_ten_models_take_the_memory_of_one(weights_file):
    done = subprocess.run(
        [sys.executable, "-c", RSS, weights_file],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    grown, threads = done.stdout.split()
    assert float(grown) < 300  # MiB over eight models; each held 95 to 180, threads differ by 100
    assert int(threads) <= 1 + cores.lanes()


@pytest.mark.skipif(
    "avx2" not in processor.instruction_sets(processor.features()),
    reason="this host has no AVX2 to compile for",
)
def test_executables_of_a_lower_level_agree(filled, variables, tmp_path):
    safetensors_file.save(tmp_path / "tiny.safetensors", variables, CONFIG)
    command = [sys.executable, "-m", "litemedsam_jax", "compile", "--isa", "avx2"]
    command += ["--weights", "tiny.safetensors", "--output", "programs"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    stored = sorted(path.stem for path in (tmp_path / "programs").rglob("avx2/*.xla"))
    safe = [f"encode_block_{n}_max_subtracted" for n in (1, 2, 3)]
    assert stored == sorted(["decode_1", "decode_in_lane", *ENCODER, *safe])
    engine = tiny_engine(variables, tmp_path / "programs")
    np.testing.assert_allclose(tiny_logits(engine), filled[1], atol=1e-4)
    assert engine.compiled == []
