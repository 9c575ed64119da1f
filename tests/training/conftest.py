"""Small data and a small network for the training tests; programs compiled once a session.

Tests marked `slow` need minutes on two cores and run only with LITEMEDSAM_SLOW_TESTS=1.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest

from litemedsam_jax.training.catalog import Catalog, open_catalog
from litemedsam_jax.training.config import DataConfig, OptimizerConfig, TrainingConfig
from litemedsam_jax.weights import safetensors_file
from litemedsam_jax.weights.load import load
from tests.conftest import REPOSITORY
from tests.support.small_network import random_variables, small_model

slow = pytest.mark.skipif(
    os.environ.get("LITEMEDSAM_SLOW_TESTS", "0") != "1",
    reason="takes minutes on two cores: LITEMEDSAM_SLOW_TESTS=1 runs it",
)


def pytest_collection_modifyitems(items):
    """After a checkpoint that fails, TensorStore's threads call back into Orbax's closed loop.

    Python can only report that ("Event loop is closed"), at any later moment, in any test.
    """
    for item in items:
        if Path(__file__).parent in item.path.parents:
            ignored = "ignore::pytest.PytestUnraisableExceptionWarning"
            item.add_marker(pytest.mark.filterwarnings(ignored))


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Programs compiled by one test serve the others, and the processes that they start."""
    folder = str(tmp_path_factory.mktemp("xla"))
    settings = {
        "jax_compilation_cache_dir": folder,
        "jax_disable_most_optimizations": True,  # half the time to compile; the sizes are tiny
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name, False) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="session")
def cases(tmp_path_factory) -> Path:
    """Six made-up training cases (npz): discs in noise; two volumes, four pictures, CT and MR."""
    folder = tmp_path_factory.mktemp("cases")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:80, :96]
    for number in range(6):
        depth = 3 if number < 2 else 1
        gts = np.zeros((depth, 80, 96), np.uint8)
        for z in range(depth):
            x, y = rng.integers(20, 76), rng.integers(20, 60)
            gts[z][(rows - y) ** 2 + (columns - x) ** 2 < 144] = 1
            gts[z, :12, :12] = 2
        imgs = np.clip(gts * 90 + rng.integers(0, 60, gts.shape), 0, 255).astype(np.uint8)
        modality = ("CT", "MR")[number % 2]
        if depth == 1:
            imgs, gts = imgs[0], gts[0]
        extra = {"spacing": np.array([1.0, 1.0, 3.0])} if depth > 1 else {}
        np.savez(folder / f"{modality}_disc_{number}.npz", imgs=imgs, gts=gts, **extra)
    return folder


@pytest.fixture(scope="session")
def npy_folder(cases, tmp_path_factory) -> Path:
    """The same cases as a folder of npy slices: grey uint8, one of them float64 RGB."""
    root = tmp_path_factory.mktemp("npy")
    for kind in ("imgs", "gts"):
        (root / kind).mkdir()
    for path in sorted(cases.glob("*.npz")):
        with np.load(path) as case:
            imgs, gts = case["imgs"], case["gts"]
        if gts.ndim == 2:
            image = np.repeat(imgs[..., None] / 255.0, 3, -1) if path.stem.endswith("5") else imgs
            np.save(root / "imgs" / f"{path.stem}.npy", image)
            np.save(root / "gts" / f"{path.stem}.npy", gts)
            continue
        for z, (image, labels) in enumerate(zip(imgs, gts, strict=True)):
            np.save(root / "imgs" / f"{path.stem}-{z:03d}.npy", image)
            np.save(root / "gts" / f"{path.stem}-{z:03d}.npy", labels)
    return root


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory) -> Path:
    """Weights of `small_model` as a safetensors file."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    safetensors_file.save(path, random_variables(small_model()), small_model())
    return path


@pytest.fixture(scope="session")
def catalog(npy_folder) -> Catalog:
    """The slices of `npy_folder`."""
    return open_catalog([npy_folder])


@pytest.fixture
def make_config(npy_folder, tmp_path) -> Callable[..., TrainingConfig]:
    """A configuration of a short run; keywords replace fields of data, optimizer or the run."""

    def make(data=None, optimizer=None, **run) -> TrainingConfig:
        return TrainingConfig(
            work_dir=str(tmp_path / "run"),
            model=small_model(),
            data=DataConfig((str(npy_folder),), **{"batch_size": 2, "workers": 0, **(data or {})}),
            optimizer=OptimizerConfig(**{"learning_rate": 1e-3, **(optimizer or {})}),
            **{"stage": "finetune", "epochs": 2, "steps_per_epoch": 3, "log_every": 1, **run},
        )

    return make


@pytest.fixture
def train_command(npy_folder, small_weights, compilation_cache):
    """Starts `python train.py finetune ...` in a process; returns it running."""

    def start(work_dir: Path, *arguments: str, devices: int = 1, **options) -> subprocess.Popen:
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": compilation_cache,
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        }
        command = [sys.executable, str(REPOSITORY / "train.py"), "finetune"]
        command += ["-data_root", str(npy_folder), "-pretrained_checkpoint", str(small_weights)]
        command += ["-work_dir", str(work_dir), "-num_workers", "0", "-lr", "1e-3", *arguments]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            **options,
        )  # fmt: skip

    return start


def finish(process: subprocess.Popen, expected: int = 0) -> str:
    """Waits for a process and returns what it printed; its exit status must be the expected one."""
    output, _ = process.communicate(timeout=400)
    assert process.returncode == expected, output
    return output


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """A weights file's arrays, copied."""
    return {name: array.copy() for name, array in load(path).variables.items()}


def assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray], **tolerance) -> None:
    """Equal bit for bit, or within `rtol` and `atol`."""
    assert first.keys() == second.keys()
    for name, array in first.items():
        if tolerance:
            np.testing.assert_allclose(array, second[name], err_msg=name, **tolerance)
        else:
            assert np.array_equal(array, second[name]), name
