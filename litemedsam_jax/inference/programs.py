"""The programs of inference: which there are, what each takes, and their compilation by XLA.

`encode_rows` takes a strip of an image through the encoder's first stage, `encode_rest` turns all
strips into an embedding, `decode_N` turns an embedding and N boxes into masks.
Importing this costs nothing; compiling imports JAX and Flax.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from litemedsam_jax.config import Execution, ModelConfig, TinyViTConfig
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.store import unflatten

# Boxes are decoded in batches of these sizes, padded, so that no case makes a new program. A box
# costs 20 MB while it is decoded; more than 4 at a time are not faster, and would take more memory
# than the encoder does.
DECODE_SIZES = (1, 2, 4)

# YNNPACK may take the encoder's attention (see models.layers), but no reductions or convolutions:
# it would draw a LayerNorm into the neck's convolution, and both would crawl. In the decoder, whose
# products are long and thin, it loses everywhere.
_YNN = "xla_cpu_experimental_ynn_fusion_type"
_CPU_OPTIONS: dict[str, dict[str, str | bool]] = {
    "encode_rows": {_YNN: ""},
    "encode_rest": {_YNN: "LIBRARY_FUSION_TYPE_DOT"},
    "decode": {_YNN: ""},
}

# The first stage works at full resolution, in 290 MB of temporaries for a whole image and 82 MB for
# a quarter (encode_rest takes 93 MB); memory that a process touches first is dear, in a virtual
# machine above all. The stage is made of 3x3 convolutions, each of which spoils a row at a cut: so
# a strip takes rows of its neighbours along (an even number, since the last convolution strides by
# 2) and drops them. More strips would repeat more rows: eight take 4 % longer than four.
STRIPS = 4
MARGIN = 4
_VARIABLES = {
    "encode_rows": ("params/image_encoder/patch_embed/", "params/image_encoder/layers_0/"),
    "encode_rest": ("params/image_encoder/",),
    "decode": ("params/", "buffers/"),
}


@dataclass(frozen=True)
class Program:
    """A program's name and inputs. Its variables come first, in the order of their names."""

    name: str
    method: str  # of models.lite_medsam.LiteMedSAMNetwork
    input_shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]

    def variables(self, folded: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Those of the folded variables that the program takes, in its order."""
        return [folded[name] for name in self.variable_names(folded)]

    def variable_names(self, folded: dict[str, np.ndarray]) -> list[str]:
        return [name for name in sorted(folded) if _method_of(name) == self.method]


def all_programs(config: ModelConfig) -> dict[str, Program]:
    """Every program of a model, by name."""
    encoder = config.image_encoder
    if not isinstance(encoder, TinyViTConfig) or encoder.stem_stride != 1:
        raise CheckpointError(
            f"inference runs LiteMedSAM's image encoder; these weights are of '{config.name}'."
        )
    size, grid = encoder.image_size, encoder.grid_size
    embedding = (1, grid, grid, encoder.out_dim)
    stride = encoder.stages[0].downsample_stride or 1
    width, channels, rows = size // stride, encoder.stages[1].dim, size // STRIPS + 2 * MARGIN
    strip = (1, rows // stride, width, channels)
    programs = [
        Program("encode_rows", "encode_rows", ((1, rows, size, 3),), (strip,)),
        Program("encode_rest", "encode_rest", ((1, width, width, channels),), (embedding,)),
    ]
    for count in DECODE_SIZES:
        outputs = ((1, count, 1, 4 * grid, 4 * grid), (1, count, 1))
        programs.append(Program(f"decode_{count}", "decode", (embedding, (1, count, 4)), outputs))
    return {program.name: program for program in programs}


def _method_of(name: str) -> str:
    """Which program a variable belongs to."""
    return next(method for method, starts in _VARIABLES.items() if name.startswith(starts))


def compile_program(
    program: Program, folded: dict[str, np.ndarray], config: ModelConfig, device: Any
) -> Any:
    """Compiles for a JAX device; the result takes (list of variables, *inputs), returns a tuple.

    Returns:
        A `jax.stages.Compiled`.
    """
    import jax

    names = program.variable_names(folded)
    network = _network(config)

    def function(variables, *inputs):
        tree = unflatten(dict(zip(names, variables, strict=True)))
        outputs = network.apply(tree, *inputs, method=program.method)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    variables = [jax.ShapeDtypeStruct(folded[name].shape, folded[name].dtype) for name in names]
    inputs = [jax.ShapeDtypeStruct(shape, np.float32) for shape in program.input_shapes]
    with jax.default_device(device):
        # A stored program is called with all of its arguments: none may be optimised away.
        lowered = jax.jit(function, keep_unused=True).lower(variables, *inputs)
    _forget_sources(lowered)
    options = _CPU_OPTIONS[program.method] if device.platform == "cpu" else None
    return lowered.compile(compiler_options=options)


def _forget_sources(lowered: Any) -> None:
    """Takes the names and lines of Python's sources out of what will be compiled.

    They would be 40 % of a stored program, and a fifth of the time that loading takes.
    """
    with suppress(Exception):  # nothing depends on it
        from jaxlib.mlir.passmanager import PassManager

        module = lowered.compiler_ir("stablehlo")
        with module.context:
            PassManager.parse("builtin.module(strip-debuginfo)").run(module.operation)


def serialize(compiled: Any) -> bytes:
    """What `runtime.Runtime.load` takes, of a `compile_program` result."""
    executable = compiled.runtime_executable()
    return executable.client.serialize_executable(executable)


def prompt_decoder(config: ModelConfig, multimask: bool) -> Callable[..., Any]:
    """The decoder for any prompt, as a jitted function (variables, embedding, **prompts).

    `variables` is the nested tree of all folded variables. Compiled anew for new shapes.
    """
    import jax

    network = _network(config)

    def function(variables, embedding, **prompts):
        return network.apply(variables, embedding, multimask=multimask, method="decode", **prompts)

    return jax.jit(function)


def _network(config: ModelConfig):
    from litemedsam_jax.models.lite_medsam import LiteMedSAMNetwork

    return LiteMedSAMNetwork(config, Execution(folded=True))
