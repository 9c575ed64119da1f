"""A program of inference, and its compilation by XLA.

Importing this costs nothing; compiling imports JAX.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from litemedsam_jax.engine.precision import BFLOAT16, FLOAT32
from litemedsam_jax.engine.stored_executable import StoredExecutable
from litemedsam_jax.weights.tree import unflatten

Shape = tuple[int, ...]

# Of float32, YNNPACK may take attention's products, but nothing else: in the decoder, whose
# products are long and thin, it loses everywhere. Of bfloat16 it takes every product. It takes each
# alone: joined with what is around it, it has no AMX, and XLA itself has none (it would widen the
# operands first). Vectors of 512 bits, which XLA avoids by itself, are up to a third faster where
# the CPU has them.
_YNN = "xla_cpu_experimental_ynn_fusion_type"
_WIDE: dict[str, str | bool] = {"xla_cpu_prefer_vector_width": "512"}
_YNNPACK_OPTIONS: dict[str, str | bool] = {_YNN: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT", **_WIDE}
_OPTIONS = {_YNN: "", **_WIDE}
# A softmax's maximum that need not return NaN is one instruction instead of three; NaN in tokens
# still comes through to what they are added to. Elsewhere it gains nothing, and could hide NaN.
_ATTENTION_OPTIONS = {"xla_cpu_enable_fast_min_max": True, **_YNNPACK_OPTIONS}


@dataclass(frozen=True, kw_only=True)
class Program:
    """A function of the network with fixed shapes, which becomes one executable.

    The executable takes the list of its parameters (in the order of their names), then its inputs,
    and returns a tuple. All arrays are float32, but for parameters of bfloat16 products.

    Attributes:
        name: of the stored executable.
        function: imports the network and returns (tree of parameters, *inputs) -> output, or a
            tuple of outputs. Called only to compile.
        parameters: how its parameters' names begin, below a scope: several parts of the network
            may run one program.
        scope: how its parameters' names begin where it first occurs in the network.
        input_shapes: of the inputs.
        output_shapes: of the outputs.
        attends: whether XLA may hand its products to YNNPACK, as attention wants it.
        precision: "float32" or "bfloat16", as its parameters' types have it.
        one_core: whether its loops are not to be cut for several threads.
    """

    name: str
    function: Callable[[], Callable[..., Any]]
    parameters: tuple[str, ...]
    scope: str
    input_shapes: tuple[Shape, ...]
    output_shapes: tuple[Shape, ...]
    attends: bool = False
    precision: str = FLOAT32
    one_core: bool = False

    def parameter_names(self, folded: dict[str, np.ndarray]) -> list[str]:
        """The names of its parameters below `scope`, in order."""
        names = (name.removeprefix(self.scope) for name in folded if name.startswith(self.scope))
        return sorted(name for name in names if name.startswith(self.parameters))

    def arguments(self, folded: dict[str, np.ndarray], scope: str) -> list[np.ndarray]:
        """The parameters of the part of the network whose names begin with `scope`, in order."""
        return [folded[scope + name] for name in self.parameter_names(folded)]

    def device(self, device: Any) -> Any:
        """The device that compiles and runs it, where a JAX device was chosen."""
        if self.one_core and device.platform == "cpu":
            return _one_core_device() or device
        return device


def compile_program(program: Program, folded: dict[str, np.ndarray], device: Any) -> Any:
    """Compiles a program for a JAX device.

    Args:
        program: what to compile.
        folded: the folded weights, whose shapes count.
        device: a `jax.Device`.

    Returns:
        A `jax.stages.Compiled`, (list of parameters, *inputs) -> tuple.
    """
    import jax

    device = program.device(device)
    names, apply = program.parameter_names(folded), program.function()

    def function(parameters, *inputs):
        outputs = apply(unflatten(dict(zip(names, parameters, strict=True))), *inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    arrays = program.arguments(folded, program.scope)
    parameters = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays]
    inputs = [jax.ShapeDtypeStruct(shape, np.float32) for shape in program.input_shapes]
    with jax.default_device(device):
        # A stored executable is called with all of its arguments: none may be optimised away.
        lowered = jax.jit(function, keep_unused=True).lower(parameters, *inputs)
    _strip_source_locations(lowered)
    options = None
    if device.platform == "cpu":
        options = _YNNPACK_OPTIONS if program.precision == BFLOAT16 else _OPTIONS
        options = _ATTENTION_OPTIONS if program.attends else options
    return lowered.compile(compiler_options=options)


@cache
def _one_core_device() -> Any:
    with suppress(Exception):  # jaxlib's internal API may lack it: slower without
        from litemedsam_jax.engine.one_core_client import one_core_client

        return one_core_client().local_devices()[0]
    return None


def _strip_source_locations(lowered: Any) -> None:
    """Takes the names and lines of Python's sources out of what will be compiled.

    They would be 40 % of a stored executable, and a fifth of the time that loading takes.
    """
    with suppress(Exception):  # nothing depends on it
        from jaxlib.mlir.passmanager import PassManager

        module = lowered.compiler_ir("stablehlo")
        with module.context:
            PassManager.parse("builtin.module(strip-debuginfo)").run(module.operation)


def serialize(compiled: Any) -> StoredExecutable:
    """What can be stored of a `compile_program` result, for both ways to load it."""
    from jax.experimental import serialize_executable

    from litemedsam_jax.engine.slim_executable import without_fused_instructions

    executable = compiled.runtime_executable()
    code = executable.client.serialize_executable(executable)
    wrapped, argument_tree, _ = serialize_executable.serialize(compiled)
    stored = StoredExecutable.split(argument_tree.num_leaves, code, wrapped)
    with suppress(ValueError):  # another version's form: it loads as it is
        return stored.with_code(without_fused_instructions(code))
    return stored
