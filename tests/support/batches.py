"""Running a batch in a test, and reading what it wrote."""

from pathlib import Path

import numpy as np

from litemedsam_jax.batch import folder
from litemedsam_jax.batch.folder import BatchOptions

_RNG = np.random.default_rng(0)
PICTURE = _RNG.integers(0, 256, (256, 256, 3), np.uint8)
VOLUME = _RNG.integers(0, 256, (6, 256, 256), np.uint8)
BOX = np.array([[20, 30, 60, 80]])
BOX_3D = np.array([[20, 30, 1, 60, 80, 4]])


def save_case(folder: Path, name: str, **arrays: object) -> None:
    """Writes `name`.npz."""
    np.savez_compressed(folder / f"{name}.npz", **arrays)


def run_batch(options: BatchOptions) -> tuple[folder.Summary, list[str]]:
    """Segments a folder; the summary and the lines that were printed."""
    lines: list[str] = []
    return folder.segment_folder(options, lines.append), lines


def read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)
