"""Checkpoints without a run around them."""

import resource

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from litemedsam_jax.training.checkpoints import Checkpoints, SaveError
from litemedsam_jax.training.steps import init_state
from litemedsam_jax.weights.errors import CheckpointError


def state_of(value: float, width: int = 50_000):
    variables = {
        "params": {"a": {"kernel": jnp.full((width,), float(value))}},
        "batch_stats": {"a": {"bn": {"mean": jnp.full((3,), float(value))}}},
    }
    return init_state(variables, optax.adamw(1e-3), ema=True)


def newest(folder, step):
    return max((p for p in (folder / str(step) / "state").rglob("*") if p.is_file()),
               key=lambda p: p.stat().st_size)  # fmt: skip


@pytest.fixture
def saved(tmp_path):
    """Checkpoints of steps 1 to 5, of which 2 is the best."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    rng = np.random.default_rng(0)
    for step in range(1, 6):
        state = state_of(step)
        noise = jnp.asarray(rng.normal(size=50_000), jnp.float32)  # does not compress
        state = state._replace(params={"a": {"kernel": noise + step}})
        score = {2: 0.9, 4: 0.5}.get(step)
        checkpoints.save(step, state, {"step": step}, score)
        checkpoints.finish()
    return tmp_path / "checkpoints", state


def test_the_newest_and_the_best_stay(saved):
    folder, state = saved
    assert sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) == [2, 4, 5]
    restored, progress = Checkpoints(folder, keep=2).restore(state_of(0))
    assert progress == {"step": 5}
    np.testing.assert_array_equal(restored.params["a"]["kernel"], state.params["a"]["kernel"])
    assert type(restored.opt_state) is type(state.opt_state)


def test_a_truncated_one_is_set_aside_and_told(saved, capsys):
    folder, _ = saved
    path = newest(folder, 5)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    _, progress = Checkpoints(folder, keep=2).restore(state_of(0))
    assert progress == {"step": 4}
    assert "5: damaged, taking the one before" in capsys.readouterr().err
    assert not (folder / "5").exists()
    assert (folder.parent / "checkpoints-damaged" / "5").is_dir()


def test_a_missing_file_counts_as_damage(saved):
    folder, _ = saved
    (folder / "5" / "progress" / "metadata").unlink()
    assert Checkpoints(folder, keep=2).restore(state_of(0))[1] == {"step": 4}


def test_another_network_is_an_error_not_damage(saved):
    folder, _ = saved
    with pytest.raises(CheckpointError, match="another set-up"):
        Checkpoints(folder, keep=2).restore(state_of(0, width=4))
    assert (folder / "5").is_dir()


def test_nothing_to_resume(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint"):
        Checkpoints(tmp_path / "none", keep=2).restore(state_of(0))


def test_a_full_disk_is_told_and_leaves_the_last_one(saved):
    folder, state = saved
    checkpoints = Checkpoints(folder, keep=2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))  # as if no more fitted
    try:
        with pytest.raises(SaveError, match=r"could not be written.*step 5, is intact"):
            checkpoints.save(6, state, {"step": 6})
            checkpoints.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert Checkpoints(folder, keep=2).restore(state_of(0))[1] == {"step": 5}
