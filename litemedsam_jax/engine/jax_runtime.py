"""Running stored executables through JAX's public interface.

Costs the import of JAX (half a second) and no compilation: for versions of jaxlib whose inner
interface engine.jaxlib_runtime does not know.
"""

from typing import Any

import jax
import numpy as np
from jax.experimental import serialize_executable

from litemedsam_jax.engine.programs import Program
from litemedsam_jax.engine.stored_executable import StoredExecutable


class JaxRuntime:
    """JAX on one CPU device."""

    def __init__(self) -> None:
        self._device = jax.devices("cpu")[0]

    def put(self, array: np.ndarray) -> Any:
        """An array on the device."""
        return jax.device_put(array, self._device)

    def load(self, stored: StoredExecutable, program: Program) -> "_LoadedExecutable":
        """Loads machine code: only ever from a folder that program_store trusts."""
        parameter_count = stored.argument_count - len(program.input_shapes)
        # As engine.programs calls what it compiles: (list of parameters, *inputs) -> tuple.
        arguments: Any = ([0] * parameter_count, *program.input_shapes), {}
        compiled = serialize_executable.deserialize_and_load(
            stored.wrapped,
            jax.tree.structure(arguments, is_leaf=_is_shape),
            jax.tree.structure(program.output_shapes, is_leaf=_is_shape),
            execution_devices=[self._device],
            backend=self._device.client,
        )
        return _LoadedExecutable(self, compiled)


def _is_shape(node: Any) -> bool:
    return isinstance(node, tuple) and bool(node) and all(isinstance(n, int) for n in node)


class _LoadedExecutable:
    """An executable on its device."""

    def __init__(self, runtime: JaxRuntime, compiled: Any):
        self.runtime, self._compiled = runtime, compiled

    def __call__(self, parameters: list, *inputs: np.ndarray) -> list[np.ndarray]:
        """parameters: from `JaxRuntime.put`. Inputs and outputs are float32 arrays of NumPy."""
        return [np.asarray(output) for output in self._compiled(parameters, *inputs)]
