"""A model small enough to compile in seconds, for tests of the engine."""

from pathlib import Path

import jax
import numpy as np

from litemedsam_jax.config import tiny_for_tests
from litemedsam_jax.engine.engine import Engine
from litemedsam_jax.engine.program_store import ProgramStore
from litemedsam_jax.models.lite_medsam import init_variables
from litemedsam_jax.weights.tree import flatten

CONFIG = tiny_for_tests()
# The programs of its encoder: the network is so small that no layer but the first runs in tiles.
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
IMAGE = np.random.default_rng(0).random((256, 256, 3), np.float32)


def tiny_variables() -> dict[str, np.ndarray]:
    """Fresh weights, as training starts with them."""
    tree = init_variables(CONFIG, jax.random.key(0))
    return {name: np.asarray(value) for name, value in flatten(tree).items()}


def other_decoder(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same weights but for the mask decoder's."""
    return {
        name: value * np.float32(1.1) if "mask_decoder" in name else value
        for name, value in variables.items()
    }


def tiny_engine(variables: dict[str, np.ndarray], folder: Path, **options) -> Engine:
    """An engine on the CPU whose executables lie in `folder`."""
    return Engine(variables, CONFIG, "cpu", ProgramStore(CONFIG, folder), **options)


def tiny_logits(engine: Engine) -> np.ndarray:
    """Logits of BOXES on IMAGE."""
    engine.prepare(len(BOXES))
    return engine.decode(engine.encode(IMAGE), BOXES)[0]


def copy_executables(source: Path, target: Path) -> Path:
    """Copies a folder of executables, without folded weights."""
    for path in source.rglob("*.xla"):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return target
