"""Running a batch in a test, and reading what it wrote."""

from pathlib import Path

import numpy as np

from litemedsam_jax.batch import folder
from litemedsam_jax.batch.folder import BatchOptions


def run_batch(options: BatchOptions) -> tuple[folder.Summary, list[str]]:
    """Segments a folder; the summary and the lines that were printed."""
    lines: list[str] = []
    return folder.segment_folder(options, lines.append), lines


def read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)
