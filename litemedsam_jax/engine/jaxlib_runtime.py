"""Running stored programs with jaxlib alone.

`import jax` takes 0.4 s, a third of a 2D case; XLA's client inside jaxlib starts in 0.1 s. What is
used here is jaxlib's own interface to JAX, which promises nothing: it is pinned by the key under
which programs are stored (see program_store), and whatever it raises makes the engine compile with
JAX instead.
"""

import os
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # no greeting from XLA's client

import jaxlib.xla_client as xla
import numpy as np
from jaxlib import _jax


class _Shape:
    """What jaxlib asks of an abstract value."""

    weak_type = False

    def __init__(self, shape: tuple[int, ...]):
        self.shape, self.dtype = shape, np.dtype(np.float32)


class _OneDevice(_jax.SingleDeviceSharding):
    """What jaxlib asks of a placement."""

    memory_kind = None

    def _to_xla_hlo_sharding(self, _: int):
        return xla.HloSharding.replicate()


class Runtime:
    """XLA's CPU client."""

    def __init__(self) -> None:
        client: Any = xla.make_cpu_client()
        self._client = client
        self._device = client.local_devices()[0]
        self._placement = _OneDevice(self._device)

    def put(self, array: np.ndarray):
        """A float32 array as XLA's buffer; it is shared, not copied, where its alignment allows."""
        return _jax.batched_device_put(
            _Shape(array.shape), self._placement, [array], [self._device], enable_x64=False
        )

    def load(self, program: bytes, output_shapes: Sequence[tuple[int, ...]]) -> "LoadedProgram":
        """Loads machine code: only ever from a folder that program_store trusts."""
        executable = self._client.deserialize_executable(program, xla.DeviceList((self._device,)))
        handlers = [
            _jax.array_result_handler(_Shape(shape), self._placement, True, True)
            for shape in output_shapes
        ]
        return LoadedProgram(self, executable, handlers)


class LoadedProgram:
    """A program on its device."""

    def __init__(self, runtime: Runtime, executable, handlers):
        self._runtime, self._executable, self._handlers = runtime, executable, handlers

    def __call__(self, variables: list, *inputs: np.ndarray) -> list[np.ndarray]:
        """variables: from `Runtime.put`. Inputs and outputs are float32 arrays of NumPy."""
        buffers = [self._runtime.put(np.ascontiguousarray(array)) for array in inputs]
        outputs = self._executable.execute_sharded(variables + buffers)
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
