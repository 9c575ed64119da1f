"""The law of the house: imports run downward only, and a run imports no more than it needs."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from litemedsam_jax.weights import safetensors_file
from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "litemedsam_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

# What each room may import, besides itself and the small shared tools below. A room that is not
# listed fails the test: whoever builds one says where it stands.
TOOLS = {"config", "files", "parallel", "pickle_reader", "process", "progress"}
ROOMS = {
    "__init__": {"imaging", "inference"},  # the public names, on request
    "__main__": {"cli"},
    "config": set(),
    "files": set(),
    "parallel": set(),
    "pickle_reader": set(),
    "progress": set(),
    "process": set(),
    # These know nothing of the network.
    "drawing": set(),
    "imaging": set(),
    "preparation": {"imaging", "drawing"},
    "evaluation": {"imaging", "drawing"},
    # The network, and what runs it.
    "models": set(),
    "weights": {"models"},
    "engine": {"models", "weights"},
    "inference": {"imaging", "models", "weights", "engine"},
    "annotation": {"imaging"},
    "serving": {"imaging", "drawing", "annotation", "inference"},
    "batch": {"imaging", "drawing", "weights", "engine", "inference"},
    "training": {"imaging", "drawing", "models", "weights", "preparation", "evaluation"},
    "commands": {
        "imaging", "drawing", "models", "weights", "engine", "inference", "batch", "training",
        "preparation", "evaluation", "annotation", "serving", "cli",
    },
    "cli": {"commands"},
}  # fmt: skip

# Modules that may be used in one place only.
CONFINED = {
    "torch": {"weights/torch_file.py"},  # to write .pth, nothing else
    "SimpleITK": {"imaging"},
    "nibabel": {"imaging"},
    "pydicom": {"imaging"},
    "highdicom": {"imaging"},
    "flax": {"models", "training"},
    "jax": {"models", "training", "engine", "commands/compile.py"},
    "optax": {"training"},
    "orbax": {"training"},
    "grain": {"training"},
    "starlette": {"serving"},
    "uvicorn": {"serving"},
    "matplotlib": {"evaluation", "training"},
}


def _imports(path: Path, at_start_only: bool = False) -> Iterator[str]:
    """The dotted names of everything a file imports; type checkers' imports do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for node in ast.walk(branch)
    }
    nodes = ast.iter_child_nodes(tree) if at_start_only else ast.walk(tree)
    for node in nodes:
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downward(path):
    room = _room(path)
    assert room in ROOMS, f"{room} is a new room: say in ROOMS what it may import"
    allowed = ROOMS[room] | TOOLS | {room}
    for name in _imports(path):
        first, *rest = name.split(".")
        if first == "litemedsam_jax":
            target = rest[0] if rest else "__init__"
            exists = (PACKAGE / target).is_dir() or (PACKAGE / f"{target}.py").exists()
            may = target in allowed or ".".join(rest[:2]) in allowed
            assert may or not exists, f"{room} must not import {'.'.join(rest)}"


@pytest.mark.parametrize("module", CONFINED)
def test_heavy_modules_stay_where_they_belong(module):
    places = CONFINED[module]
    for path in FILES:
        if module in {name.split(".")[0] for name in _imports(path)}:
            inside = path.relative_to(PACKAGE).as_posix()
            assert inside in places or inside.split("/")[0] in places, f"{inside} imports {module}"


def test_torch_and_image_formats_are_imported_late():
    # They are optional, and slow to import.
    for path in FILES:
        early = {name.split(".")[0] for name in _imports(path, at_start_only=True)}
        assert early.isdisjoint({"torch", "matplotlib"}), path


# A fresh process

PROBE = """
import json, sys
from litemedsam_jax.cli import main
status = main(sys.argv[1:], command="segment")
print(json.dumps({"status": status, "modules": sorted({n.split(".")[0] for n in sys.modules})}))
"""
NEVER = {
    "torch", "optax", "orbax", "grain", "matplotlib", "SimpleITK", "nibabel", "pydicom", "pandas",
    "scipy", "tqdm",
}  # fmt: skip


@pytest.fixture(scope="module")
def segment_smallest(tmp_path_factory, published_weights) -> Callable[[], set[str]]:
    """Runs `infer.py` on the smallest demo case; the modules in memory afterwards."""
    folder = tmp_path_factory.mktemp("run")
    smallest = min((REPOSITORY / "demo" / "imgs").glob("*.npz"), key=lambda p: p.stat().st_size)
    (folder / "imgs").mkdir()
    shutil.copy(smallest, folder / "imgs")
    weights = folder / "lite_medsam.safetensors"
    safetensors_file.save(weights, published_weights.variables, published_weights.config)
    command = [sys.executable, "-c", PROBE, "-i", folder / "imgs", "-o", folder / "segs"]

    def run() -> set[str]:
        done = subprocess.run(
            [*map(str, command), "--weights", str(weights)],
            cwd=REPOSITORY, capture_output=True, text=True, check=True,
        )  # fmt: skip
        found = json.loads(done.stdout.splitlines()[-1])
        assert found["status"] == 0, done.stderr
        return set(found["modules"])

    return run


def test_a_run_imports_nothing_it_does_not_need(segment_smallest):
    assert segment_smallest() & NEVER == set()
    # Now its programs are stored, and nothing is left to compile.
    assert segment_smallest() & {*NEVER, "jax", "flax"} == set()


def test_help_needs_no_network():
    run = subprocess.run(
        [sys.executable, "-c", PROBE, "--help"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert run.returncode == 0 and "-lite_medsam_checkpoint_path" in run.stdout
    probe = "import sys, litemedsam_jax.cli as c; c._usage(); print(sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert run.returncode == 0 and "'jax'" not in run.stdout and "'numpy'" not in run.stdout
