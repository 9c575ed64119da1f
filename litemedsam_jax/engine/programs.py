"""The programs of inference: which there are, what each takes, and their compilation by XLA.

The image encoder is a program a kind of layer (see engine.encoder_plan); `decode_N` turns an
embedding and N boxes into masks. Importing this costs nothing; compiling imports JAX and Flax.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from litemedsam_jax.config import Execution, ModelConfig, TinyViTConfig
from litemedsam_jax.engine.encoder_plan import ROOT, Layer, plan
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.tree import unflatten

# Boxes are decoded in batches of these sizes, padded, so that no case makes a new program. A box
# costs 20 MB while it is decoded; more than 4 at a time are not faster, and would take more memory
# than the encoder does.
DECODE_SIZES = (1, 2, 4)

# YNNPACK may take attention (see models.layers), but nothing else: it would draw a LayerNorm into
# the neck's convolution, and both would crawl; in the decoder, whose products are long and thin,
# it loses everywhere. Vectors of 512 bits, which XLA avoids by itself, are up to a third faster
# where the CPU has them.
_YNN = "xla_cpu_experimental_ynn_fusion_type"
_WIDE: dict[str, str | bool] = {"xla_cpu_prefer_vector_width": "512"}
_ATTENTION_OPTIONS = {_YNN: "LIBRARY_FUSION_TYPE_DOT", **_WIDE}
_OPTIONS = {_YNN: "", **_WIDE}


@dataclass(frozen=True)
class Program:
    """A program: its variables come first, in the order of their names, then its inputs."""

    name: str
    input_shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    root: str  # how its variables' names begin, where it first occurs in the network
    wanted: tuple[str, ...]  # and how they go on
    layer: Layer | None = None  # of the encoder; None: the decoder

    def variable_names(self, folded: dict[str, np.ndarray]) -> list[str]:
        """The names below `root`."""
        names = (name.removeprefix(self.root) for name in folded if name.startswith(self.root))
        return sorted(name for name in names if name.startswith(self.wanted))

    def variables(self, folded: dict[str, np.ndarray], root: str) -> list[np.ndarray]:
        """Those that the program takes where its variables' names begin with `root`, in order."""
        return [folded[root + name] for name in self.variable_names(folded)]


def image_encoder(config: ModelConfig) -> TinyViTConfig:
    """The config of the image encoder.

    Raises:
        CheckpointError: the programs are not made for it.
    """
    encoder = config.image_encoder
    if not isinstance(encoder, TinyViTConfig) or encoder.stem_stride != 1:
        raise CheckpointError(
            f"inference runs LiteMedSAM's image encoder; these weights are of '{config.name}'."
        )
    return encoder


def all_programs(config: ModelConfig) -> dict[str, Program]:
    """Every program of a model, by name."""
    encoder = image_encoder(config)
    programs: dict[str, Program] = {}
    for layer, part in [*plan(encoder, lambda _: False), *plan(encoder, lambda _: True)]:
        program = Program(
            layer.program,
            layer.input_shapes,
            (layer.output_shape,),
            ROOT + part,
            layer.wanted,
            layer,
        )
        programs.setdefault(layer.program, program)
    grid = encoder.grid_size
    for count in DECODE_SIZES:
        inputs = (1, grid, grid, encoder.out_dim), (1, count, 4)
        outputs = (1, count, 1, 4 * grid, 4 * grid), (1, count, 1)
        wanted = ("params/prompt_encoder/", "params/mask_decoder/", "buffers/")
        programs[f"decode_{count}"] = Program(f"decode_{count}", inputs, outputs, "", wanted)
    return programs


def compile_program(
    program: Program, folded: dict[str, np.ndarray], config: ModelConfig, device: Any
) -> Any:
    """Compiles for a JAX device; the result takes (list of variables, *inputs), returns a tuple.

    Returns:
        A `jax.stages.Compiled`.
    """
    import jax

    names = program.variable_names(folded)
    apply = _encoder_layer(program.layer, config) if program.layer else _decoder(config)

    def function(variables, *inputs):
        outputs = apply(unflatten(dict(zip(names, variables, strict=True))), *inputs)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    given = program.variables(folded, program.root)
    variables = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in given]
    inputs = [jax.ShapeDtypeStruct(shape, np.float32) for shape in program.input_shapes]
    with jax.default_device(device):
        # A stored program is called with all of its arguments: none may be optimised away.
        lowered = jax.jit(function, keep_unused=True).lower(variables, *inputs)
    _forget_sources(lowered)
    options = None
    if device.platform == "cpu":
        attention = program.layer is not None and program.layer.attends
        options = _ATTENTION_OPTIONS if attention else _OPTIONS
    return lowered.compile(compiler_options=options)


def _encoder_layer(layer: Layer, config: ModelConfig) -> Callable[..., Any]:
    """(params, strip, inside) -> what the strip yields."""
    from litemedsam_jax.models import tiny_vit_inference as network

    encoder = image_encoder(config)
    stage = encoder.stages[layer.stage]
    attention = stage.heads, stage.window, layer.shift
    functions: dict[str, Callable[..., Any]] = {
        "first_stage": lambda params, x, inside: network.first_stage(params, encoder, x, inside),
        "attend": lambda params, x, inside: network.attend(params, x, inside, *attention),
        "block": lambda params, x, _: network.block(params, x, *attention),
        "transform": lambda params, x, _: network.transform(params, x),
        "merge": lambda params, x, inside: network.merge(params, x, inside, layer.stride),
        "neck": lambda params, x, _: network.neck(params, x),
    }
    return functions[layer.function]


def _decoder(config: ModelConfig) -> Callable[..., Any]:
    """(variables, embedding, boxes) -> logits, predicted IoU."""
    network = _network(config)
    return lambda variables, *inputs: network.apply(variables, *inputs, method="decode")


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


def whole_encoder(config: ModelConfig) -> Callable[..., Any]:
    """The image encoder in one program, as a jitted function (params, image), for accelerators.

    `params` is the nested tree of the image encoder's folded variables.
    """
    import jax

    from litemedsam_jax.models import tiny_vit_inference

    encoder = image_encoder(config)
    return jax.jit(lambda params, image: tiny_vit_inference.encode(params, encoder, image))


def _network(config: ModelConfig):
    from litemedsam_jax.models.lite_medsam import LiteMedSAMNetwork

    return LiteMedSAMNetwork(config, Execution(folded=True))
