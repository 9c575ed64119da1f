"""Stored programs: used when they are there, done without when anything is wrong with them."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from litemedsam_jax.config import tiny_for_tests
from litemedsam_jax.engine import engine, jaxlib_runtime, program_store
from litemedsam_jax.engine.engine import Engine
from litemedsam_jax.engine.program_store import ProgramStore
from litemedsam_jax.models.lite_medsam import init_variables
from litemedsam_jax.weights import safetensors_file
from litemedsam_jax.weights.tree import flatten

CONFIG = tiny_for_tests()
# Those of so small a network: no layer but the first runs in strips.
ENCODER = [
    "encode_first",
    "encode_block_1",
    "encode_merge_1",
    "encode_block_2",
    "encode_merge_2",
    "encode_block_3",
    "encode_neck",
]
BOXES = np.array([[30, 40, 200, 220], [5, 6, 70, 80], [0, 0, 255, 255]], np.float32)
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def variables() -> dict[str, np.ndarray]:
    tree = init_variables(CONFIG, jax.random.key(0))
    return {name: np.asarray(value) for name, value in flatten(tree).items()}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).random((256, 256, 3), np.float32)


@pytest.fixture(scope="module")
def filled(tmp_path_factory, variables, image) -> tuple[Path, np.ndarray]:
    """A folder with the programs that one image with three boxes needs, and its logits."""
    folder = tmp_path_factory.mktemp("programs")
    return folder, segment(variables, image, folder)


@pytest.fixture
def folder(filled, tmp_path) -> Path:
    """A copy to spoil."""
    source, target = filled[0], tmp_path / "programs"
    for path in source.rglob("*.xla"):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return target


def segment(variables, image, folder: Path) -> np.ndarray:
    engine = Engine(variables, CONFIG, "cpu", ProgramStore(CONFIG, folder))
    engine.prepare(len(BOXES))
    return engine.decode(engine.encode(image), BOXES)[0]


@pytest.fixture
def compilations(monkeypatch) -> list[str]:
    """Names of programs that were compiled during the test."""
    names: list[str] = []
    original = engine.compile_program

    def compile_and_note(program, *arguments):
        names.append(program.name)
        return original(program, *arguments)

    monkeypatch.setattr(engine, "compile_program", compile_and_note)
    return names


def test_first_use_stores_what_it_compiled(filled):
    names = sorted(path.stem for path in filled[0].rglob("*.xla"))
    assert names == sorted(["decode_4", *ENCODER])


def test_programs_carry_no_names_of_sources(filled):
    for path in filled[0].rglob("*.xla"):
        assert b"programs.py" not in path.read_bytes()
        assert b"jit(function)/" not in path.read_bytes()


def test_stored_programs_are_used_and_give_the_same(filled, folder, variables, image, compilations):
    np.testing.assert_array_equal(segment(variables, image, folder), filled[1])
    assert compilations == []


def test_a_fresh_process_compiles_nothing_and_imports_no_jax(
    filled, folder, variables, image, tmp_path
):
    safetensors_file.save(tmp_path / "tiny.safetensors", variables, CONFIG)
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "boxes.npy", BOXES)
    script = """if True:
        import sys
        import numpy as np
        from litemedsam_jax.engine.engine import Engine
        from litemedsam_jax.weights.load import load
        weights = load("tiny.safetensors")
        engine = Engine(weights.variables, weights.config, "cpu")
        logits, _ = engine.decode(engine.encode(np.load("image.npy")), np.load("boxes.npy"))
        np.save("logits.npy", logits)
        print(sorted({"jax", "flax"} & set(sys.modules)))
    """
    environment = {
        **os.environ,
        program_store.VARIABLE: str(folder),
        "PYTHONPATH": str(REPOSITORY),
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), filled[1])


def spoil_bytes(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def replace_by_text(path: Path) -> None:
    text = b"not a program of XLA's, though its digest is right"
    path.write_bytes(hashlib.sha256(text).digest() + text)


def let_others_write(path: Path) -> None:
    path.chmod(0o666)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (spoil_bytes, "is damaged"),
        (cut_short, "is damaged"),
        (replace_by_text, "cannot be loaded"),
        (let_others_write, "may be written by others"),
    ],
)
def test_an_unusable_program_is_told_and_compiled(
    fault, told, filled, folder, variables, image, compilations, capfd
):
    fault(next(folder.rglob("encode_block_2.xla")))
    np.testing.assert_allclose(segment(variables, image, folder), filled[1], atol=1e-5)
    assert compilations == ["encode_block_2"]
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("litemedsam")]
    assert len(lines) == 1
    assert told in lines[0]


def test_a_changed_jaxlib_compiles(filled, folder, variables, image, compilations, monkeypatch):
    def broken(self):
        raise TypeError("the inner interface has changed")

    monkeypatch.setattr(jaxlib_runtime.Runtime, "__init__", broken)
    np.testing.assert_allclose(segment(variables, image, folder), filled[1], atol=1e-5)
    assert compilations == [*ENCODER, "decode_4"]


def test_nothing_can_be_stored(variables, image, filled, tmp_path, capfd):
    (tmp_path / "file").write_text("in the way")
    logits = segment(variables, image, tmp_path / "file" / "programs")
    np.testing.assert_allclose(logits, filled[1], atol=1e-5)
    assert "could not be stored" in capfd.readouterr().err


def test_another_network_or_jaxlib_has_another_key(monkeypatch):
    import dataclasses

    import jaxlib.version

    other = dataclasses.replace(CONFIG, name="other")
    keys = {ProgramStore(CONFIG, Path()).folder, ProgramStore(other, Path()).folder}
    monkeypatch.setattr(jaxlib.version, "__version__", "0.0.1")
    keys.add(ProgramStore(CONFIG, Path()).folder)
    assert len(keys) == 3


def test_the_best_level_of_the_host_comes_first(monkeypatch, tmp_path):
    flags = frozenset().union(*program_store.ISA_LEVELS.values())
    monkeypatch.setattr(program_store, "_cpu_flags", lambda: flags)
    programs = ProgramStore(CONFIG, tmp_path)
    for level in ("avx2", "avx512"):
        programs.write("encode", level.encode(), level)
    assert programs.read("encode") == b"avx512"
    monkeypatch.setattr(program_store, "_cpu_flags", lambda: program_store.ISA_LEVELS["avx2"])
    assert ProgramStore(CONFIG, tmp_path).read("encode") == b"avx2"
    monkeypatch.setattr(program_store, "_cpu_flags", lambda: frozenset({"sse2"}))
    assert ProgramStore(CONFIG, tmp_path).read("encode") is None


@pytest.mark.skipif(
    "avx2" not in program_store._levels_of_host(), reason="this host has no AVX2 to compile for"
)
def test_programs_of_a_lower_level_agree(filled, variables, image, tmp_path, compilations):
    safetensors_file.save(tmp_path / "tiny.safetensors", variables, CONFIG)
    command = [sys.executable, "-m", "litemedsam_jax", "compile", "--isa", "avx2"]
    command += ["--weights", "tiny.safetensors", "--output", "programs"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    stored = sorted(path.stem for path in (tmp_path / "programs").rglob("avx2/*.xla"))
    shifted = [f"encode_block_{n}_shifted" for n in (1, 2, 3)]
    assert stored == sorted([*(f"decode_{n}" for n in (1, 2, 4)), *ENCODER, *shifted])
    logits = segment(variables, image, tmp_path / "programs")
    np.testing.assert_allclose(logits, filled[1], atol=1e-4)
    assert compilations == []
