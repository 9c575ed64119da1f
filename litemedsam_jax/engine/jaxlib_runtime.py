"""Running stored executables with jaxlib alone.

`import jax` takes 0.4 s, a third of a 2D case; XLA's client inside jaxlib starts in 0.1 s. What is
used here is jaxlib's own interface to JAX, which may change with any version: each known form of it
has a small adapter, and whatever fails here makes engine.executables take JAX's public interface.
"""

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # no greeting from XLA's client

import jaxlib.xla_client as xla
import numpy as np
from jaxlib import _jax

from litemedsam_jax.engine import cores
from litemedsam_jax.engine.one_core_client import one_core_client
from litemedsam_jax.engine.programs import Program, Shape
from litemedsam_jax.engine.stored_executable import StoredExecutable

# The version of jaxlib's interface, and those that were tried.
INTERFACE: int = xla._version
TRIED = {467: "0.10.2", 495: "0.11.2", 505: "0.12.0.1"}
_WITHOUT_CHECKS = 489  # from here on jaxlib does not check results


class _AbstractValue:
    """What jaxlib asks of an abstract value."""

    weak_type = False

    def __init__(self, shape: Shape, dtype: np.dtype | None = None):
        self.shape, self.dtype = shape, dtype or np.dtype(np.float32)


class _OneDevice(_jax.SingleDeviceSharding):
    """What jaxlib asks of a placement."""

    memory_kind = None

    def _to_xla_hlo_sharding(self, _: int):
        return xla.HloSharding.replicate()


def _result_handler_0_10(value: _AbstractValue, placement: _OneDevice) -> Any:
    """jaxlib 0.10: results are checked against JAX's types unless that is declined."""
    committed = skip_checks = True
    return _jax.array_result_handler(value, placement, committed, skip_checks)


def _result_handler_0_11(value: _AbstractValue, placement: _OneDevice) -> Any:
    """jaxlib 0.11 and 0.12: there is nothing to decline."""
    committed = True
    return _jax.array_result_handler(value, placement, committed)


def result_handler(interface: int) -> Callable[[_AbstractValue, _OneDevice], Any]:
    """The adapter of an interface's version: makes what turns a result into an array."""
    if interface >= _WITHOUT_CHECKS:
        return _result_handler_0_11
    return _result_handler_0_10


class JaxlibRuntime:
    """A CPU client of XLA's."""

    def __init__(self, one_core: bool = False) -> None:
        """Starts the client.

        Args:
            one_core: see `one_core_client`; else it has all cores.
        """
        if not one_core:
            cores.give_to_xla()
        client: Any = one_core_client() if one_core else xla.make_cpu_client()
        self._client = client
        self._device = client.local_devices()[0]
        self._placement = _OneDevice(self._device)
        self._result_handler = result_handler(INTERFACE)

    def put(self, array: np.ndarray) -> Any:
        """An array as XLA's buffer; it is shared, not copied, where its alignment allows."""
        return _jax.batched_device_put(
            _AbstractValue(array.shape, array.dtype),
            self._placement,
            [array],
            [self._device],
            enable_x64=False,
        )

    def load(self, stored: StoredExecutable, program: Program) -> "_LoadedExecutable":
        """Loads machine code: only ever from a folder that program_store trusts."""
        executable = self._client.deserialize_executable(
            stored.code, xla.DeviceList((self._device,))
        )
        handlers = [
            self._result_handler(_AbstractValue(shape), self._placement)
            for shape in program.output_shapes
        ]
        return _LoadedExecutable(self, executable, handlers)


class _LoadedExecutable:
    """An executable on its device."""

    def __init__(self, runtime: JaxlibRuntime, executable: Any, handlers: list):
        self.runtime = runtime
        self._executable, self._handlers = executable, handlers

    def __call__(self, parameters: list, *inputs: np.ndarray) -> list[np.ndarray]:
        """parameters: from `JaxlibRuntime.put`. Inputs and outputs are float32 arrays of NumPy."""
        buffers = [self.runtime.put(np.ascontiguousarray(array)) for array in inputs]
        outputs = self._executable.execute_sharded(parameters + buffers)
        return [_to_numpy(array) for array in outputs.consume_with_handlers(self._handlers)]


class _Capsule:
    """Lets NumPy take over a buffer of XLA's without a copy."""

    def __init__(self, buffer):
        self._buffer = buffer

    def __dlpack__(self, **_):
        return _jax.buffer_to_dlpack_managed_tensor(self._buffer)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # the CPU


def _to_numpy(buffer) -> np.ndarray:
    buffer.block_until_ready()
    return np.from_dlpack(_Capsule(buffer))
