"""The law of the house: imports run downward only, and a run imports no more than it needs."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from litemedsam_jax.weights import safetensors_file
from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "litemedsam_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

# What each room may import, besides itself and the small shared tools below. A room that is not
# listed fails the test: whoever builds one says where it stands.
TOOLS = {
    "background",
    "config",
    "files",
    "lookahead",
    "once",
    "parallel",
    "pickle_reader",
    "process",
    "progress",
}
ROOMS = {
    "__init__": {"imaging", "inference"},  # the public names, on request
    "__main__": {"cli"},
    "config": set(),
    "files": set(),
    "lookahead": set(),
    "background": set(),
    "once": {"background"},
    "parallel": set(),
    "pickle_reader": set(),
    "progress": set(),
    "process": set(),
    # These know nothing of the network.
    "drawing": set(),
    "imaging": set(),
    "preparation": {"imaging", "drawing"},
    "evaluation": {"imaging", "drawing"},
    "measuring": {"imaging", "drawing"},  # what a mask measures: volume, diameters, intensities
    # The network, and what runs it.
    "models": set(),
    "weights": {"models", "imaging.postprocess"},
    "engine": {"models", "weights"},
    "inference": {"imaging", "models", "weights", "engine"},
    "annotation": {"imaging", "measuring"},
    "serving": {"imaging", "drawing", "annotation", "weights", "inference"},
    "batch": {"imaging", "drawing", "weights", "engine", "inference"},
    "training": {
        "imaging", "drawing", "models", "weights", "engine", "preparation", "evaluation",
    },
    "adaptation": {
        "imaging", "drawing", "models", "weights", "inference", "preparation", "evaluation",
        "training",
    },
    "commands": {
        "imaging", "drawing", "models", "weights", "engine", "inference", "batch", "training",
        "preparation", "evaluation", "measuring", "annotation", "serving", "adaptation",
        "cli",
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
    "blosc2": {"serving/remote/wire.py"},
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


def _module_graph(paths: Iterable[Path], root: Path = REPOSITORY) -> dict[str, set[str]]:
    """Dotted name of each module -> those it imports, wherever in the file the import stands."""
    modules = {".".join(path.relative_to(root).with_suffix("").parts): path for path in paths}
    graph: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for imported in _imports(path):
            target = imported if imported in modules else imported.rpartition(".")[0]
            if target in modules and target != name:
                graph[name].add(target)
    return graph


def test_no_module_imports_itself_by_way_of_others():
    try:
        list(TopologicalSorter(_module_graph(FILES)).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_a_circle_inside_a_room_is_found(tmp_path):
    for name, other in {"a": "b", "b": "c", "c": "a"}.items():
        late = f"def f():\n    from room.{other} import x\n"
        (tmp_path / "room").mkdir(exist_ok=True)
        (tmp_path / "room" / f"{name}.py").write_text(late)
    graph = _module_graph((tmp_path / "room").iterdir(), tmp_path)
    with pytest.raises(CycleError):
        list(TopologicalSorter(graph).static_order())


# Of what a file and a room may hold

LONGEST_FUNCTION = 60  # lines
MOST_FILES_OF_INFERENCE = 12


def test_no_function_is_long_but_a_list_of_arguments():
    long = [
        f"{path.relative_to(PACKAGE)}: {node.name} has {lines} lines"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := _lines_of_code(node)) > LONGEST_FUNCTION
        and not _lists_arguments(node)
    ]
    assert long == []


def _lines_of_code(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From `def` to the end, without the docstring."""
    first = node.body[0]
    documented = ast.get_docstring(node) is not None
    about = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (node.end_lineno or 0) - node.lineno + 1 - about


def _lists_arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether the body adds arguments to a parser one after the other, and does nothing else."""
    return "add_arguments" in node.name and not any(
        isinstance(part, ast.If | ast.While | ast.Try) for part in ast.walk(node)
    )


def test_inference_stays_small():
    files = [path for path in (PACKAGE / "inference").glob("*.py") if path.stem != "__init__"]
    assert len(files) <= MOST_FILES_OF_INFERENCE


# Tests are found by the name of what they test

ACROSS_MODULES = {
    "test_architecture",  # this file
    "test_container",  # the image's list of packages
    "commands/test_segment_slices",  # boxes on slices through `infer.py`
    "serving/test_page",  # the page itself, in a browser
    "serving/test_api",  # requests to all of the server
    "imaging/test_shared_faults",  # files that once gave wrong results
    "commands/test_segment_weights",  # where weights are looked for
    "batch/test_hostile",  # hundreds of broken cases in one folder
    "batch/test_image_kinds",  # files of every kind through `infer.py`
    "batch/test_real_run",  # the network, two processes
    "inference/test_bfloat16",  # masks against float32's
    "serving/remote/test_fuzz_remote",  # bodies without sense
    "serving/remote/test_napari",  # the real plug-in
    # Parity with the PyTorch reference, level by level
    "models/test_operations",
    "models/test_blocks",
    "models/test_networks",
    "inference/test_reference",
    "training/test_parity",
    "training/test_resume",  # runs that are killed, on any number of devices and hosts
    "weights/test_torch_file_mutations",  # hundreds of damaged checkpoints
}


def test_each_test_has_the_name_of_a_module():
    tests = REPOSITORY / "tests"
    unmatched = []
    for path in sorted(tests.rglob("test_*.py")):
        inside = path.relative_to(tests).with_suffix("").as_posix()
        module = PACKAGE / path.relative_to(tests).with_name(path.name.removeprefix("test_"))
        if not module.is_file() and inside not in ACROSS_MODULES:
            unmatched.append(inside)
    assert unmatched == []


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
