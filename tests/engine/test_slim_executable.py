"""Serialized executables without the instructions of fused loops."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from litemedsam_jax.engine.jaxlib_runtime import JaxlibRuntime
from litemedsam_jax.engine.programs import Program, compile_program, serialize
from litemedsam_jax.engine.slim_executable import without_fused_instructions
from tests.support.tiny_model import tiny_engine

SIDE = 48
INPUTS = [np.random.default_rng(k).normal(size=(SIDE, SIDE)).astype(np.float32) for k in range(2)]


def loops(x, y):
    """Loops, one of several results, and a product between them."""
    once = jnp.cos(x) * 2 + y
    return jnp.cos(once @ y) + y.sum(0), jnp.cos(once) - x


def in_place(x, y):
    """A loop that writes into its operand, in a while loop."""

    def step(k, carried):
        return lax.dynamic_update_slice(carried, jnp.cos(carried[None, k] + y[None, k]), (k, 0))

    return lax.fori_loop(0, SIDE, step, x) + y, x


def constants(x, y):
    places = np.random.default_rng(2).permutation(SIDE)
    return jnp.cos(x)[places] + jnp.cos(y)[:, places] @ x, y


def compiled(function, attends=False):
    program = Program(
        name="program",
        function=lambda: lambda _, x, y: function(x, y),
        parameters=(),
        scope="",
        input_shapes=((SIDE, SIDE),) * 2,
        output_shapes=((SIDE, SIDE),) * 2,
        attends=attends,
        one_core=True,
    )
    return program, compile_program(program, {}, jax.devices("cpu")[0])


def whole(executable) -> bytes:
    """As XLA gives it."""
    loaded = executable.runtime_executable()
    return loaded.client.serialize_executable(loaded)


@pytest.mark.parametrize("function", [loops, in_place, constants])
@pytest.mark.parametrize("attends", [False, True])
def test_results_stay_the_same(function, attends):
    program, executable = compiled(function, attends)
    stored, code = serialize(executable), whole(executable)
    assert len(stored.code) < len(code)
    runtime = JaxlibRuntime(one_core=True)
    slim, full = (runtime.load(one, program) for one in (stored, replace(stored, code=code)))
    for ours, theirs in zip(slim([], *INPUTS), full([], *INPUTS), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_is_stored_has_no_instructions_of_loops(variables, tmp_path):
    folded, layers = tiny_engine(variables, tmp_path)._weights()
    executable = compile_program(layers[0].program, folded, jax.devices("cpu")[0])
    stored = serialize(executable)
    assert len(stored.code) < 0.6 * len(whole(executable))
    assert stored.code in stored.wrapped


@pytest.mark.parametrize("cut", [0, 1, 9, 400, -9])
def test_other_bytes_are_refused(cut):
    with pytest.raises(ValueError, match=r"executable|field|message"):
        without_fused_instructions(whole(compiled(loops)[1])[:cut])
