"""The programs of a model: the image encoder's layers, and the decoders.

The image encoder is a program a kind of layer (see engine.encoder_plan); `decode_N` turns an
embedding and N boxes into masks, `decode_in_lane` one box on one core. Importing this costs
nothing; JAX and Flax are imported where something is compiled.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from litemedsam_jax.config import Execution, ModelConfig, TinyViTConfig
from litemedsam_jax.engine.encoder_plan import plan
from litemedsam_jax.engine.precision import FLOAT32, name_in
from litemedsam_jax.engine.programs import Program
from litemedsam_jax.weights.errors import CheckpointError

# An accelerator decodes boxes in batches of these sizes, padded: no case makes a new program. A CPU
# decodes a single box on all cores, and several in lanes: a box has 20 MB between its products,
# of which a batch keeps less in the caches, and more in memory.
DECODE_SIZES = (1, 2, 4)
DECODER_PARAMETERS = ("params/prompt_encoder/", "params/mask_decoder/")


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


def all_programs(
    config: ModelConfig, precision: str = FLOAT32, accelerator: bool = False
) -> dict[str, Program]:
    """Every program of a model, by name.

    Args:
        config: of the model.
        precision: of large products, "float32" or "bfloat16".
        accelerator: for one; else for CPUs.

    Raises:
        CheckpointError: as `image_encoder`.
    """
    encoder = image_encoder(config)
    programs: dict[str, Program] = {}
    # Which softmaxes subtract their maximum follows from the weights: both kinds are compiled.
    plans = [
        plan(encoder, always, precision=precision) for always in (lambda _: False, lambda _: True)
    ]
    for layer in [*plans[0], *plans[1]]:
        programs.setdefault(layer.program.name, layer.program)
    decoders = [_decoder(config, encoder, count, precision) for count in DECODE_SIZES]
    if not accelerator:
        in_lane = replace(decoders[0], name=lane_decoder_name(precision), one_core=True)
        decoders = [decoders[0], in_lane]
    return programs | {program.name: program for program in decoders}


def decoder_name(box_count: int, precision: str) -> str:
    """The program that decodes so many boxes (1 to `DECODE_SIZES[-1]`)."""
    return name_in(precision, f"decode_{decode_size(box_count)}")


def lane_decoder_name(precision: str) -> str:
    """The program that decodes a box on one core."""
    return name_in(precision, "decode_in_lane")


def decode_size(box_count: int) -> int:
    """The boxes, with padding, of the program that decodes so many."""
    return next(size for size in DECODE_SIZES if size >= box_count)


def _decoder(config: ModelConfig, encoder: TinyViTConfig, count: int, precision: str) -> Program:
    def function() -> Callable:
        network = _network(config, precision)
        return lambda variables, *inputs: network.apply(variables, *inputs, method="decode")

    grid = encoder.grid_size
    return Program(
        name=decoder_name(count, precision),
        function=function,
        parameters=(*DECODER_PARAMETERS, "buffers/"),
        scope="",
        input_shapes=((1, grid, grid, encoder.out_dim), (1, count, 4)),
        output_shapes=((1, count, 1, 4 * grid, 4 * grid), (1, count, 1)),
        precision=precision,
    )


def prompt_decoder(config: ModelConfig, multimask: bool, precision: str) -> Callable[..., Any]:
    """The decoder for any prompt, as a jitted function (variables, embedding, **prompts).

    `variables` is the nested tree of all folded variables. Compiled anew for new shapes.
    """
    import jax

    network = _network(config, precision)

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


def _network(config: ModelConfig, precision: str):
    from litemedsam_jax.models.lite_medsam import LiteMedSAMNetwork

    return LiteMedSAMNetwork(config, Execution(folded=True, products=precision))
