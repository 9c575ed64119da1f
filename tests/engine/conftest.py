"""Fixtures: a tiny model, and a folder with its executables."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.tiny_model import copy_executables, tiny_engine, tiny_logits, tiny_variables


@pytest.fixture(scope="package")
def variables() -> dict[str, np.ndarray]:
    return tiny_variables()


@pytest.fixture(scope="package")
def filled(tmp_path_factory, variables) -> tuple[Path, np.ndarray]:
    """A folder with the executables that one image with three boxes needs, and its logits."""
    folder = tmp_path_factory.mktemp("programs")
    return folder, tiny_logits(tiny_engine(variables, folder))


@pytest.fixture
def folder(filled, tmp_path) -> Path:
    """A copy to spoil."""
    return copy_executables(filled[0], tmp_path / "programs")
