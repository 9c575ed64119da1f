"""Compiling with JAX and Flax, which are imported when something has to be compiled."""

from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from typing import Any

import numpy as np

from litemedsam_jax.config import ModelConfig
from litemedsam_jax.engine.encoder_plan import ROOT
from litemedsam_jax.engine.network import prompt_decoder, whole_encoder
from litemedsam_jax.engine.precision import FLOAT32
from litemedsam_jax.engine.programs import Program, compile_program
from litemedsam_jax.weights.tree import unflatten


class Compiler:
    """Compiles programs of one model for one device, and keeps them."""

    def __init__(
        self,
        folded: dict[str, np.ndarray],
        config: ModelConfig,
        programs: Mapping[str, Program],
        device: str | None,
        precision: str = FLOAT32,
    ):
        """Compiles nothing yet.

        Args:
            folded: the folded weights.
            config: of the model.
            programs: of the model, by name.
            device: "cpu", "gpu", "tpu"; None: JAX's choice.
            precision: that the weights were folded for.
        """
        self._folded, self._config, self._programs = folded, config, programs
        self._device_name, self._precision = device, precision
        self._compiled: dict[str, Any] = {}
        self._on_device: dict[tuple[str, tuple[str, ...], Any], list] = {}
        self._encoder: Callable[..., Any] | None = None
        self._prompt_decoders: dict[bool, Callable[..., Any]] = {}

    def for_other_weights(self, folded: dict[str, np.ndarray]) -> "Compiler":
        """The same programs, compiled once, with another decoder's weights."""
        other = copy(self)
        other._folded, other._on_device = folded, {}
        return other

    def compiled(self, name: str) -> Any:
        """A program, compiled: a `jax.stages.Compiled`."""
        if name not in self._compiled:
            program = self._programs[name]
            self._compiled[name] = compile_program(program, self._folded, self._device())
        return self._compiled[name]

    def bind(self, name: str, scope: str) -> Callable[..., tuple]:
        """A program, compiled, with the parameters whose names begin with `scope`."""
        import jax

        program = self._programs[name]
        device = program.device(self._device())
        key = scope, program.parameters, device
        if key not in self._on_device:
            parameters = program.arguments(self._folded, scope)
            self._on_device[key] = jax.device_put(parameters, device)
        return partial(self.compiled(name), self._on_device[key])

    def encode(self, image: np.ndarray) -> Any:
        """The whole encoder at once: accelerators have no use for tiles.

        Args:
            image: (S, S, 3) float32.

        Returns:
            The embedding (1, G, G, C), on the device.
        """
        import jax

        if self._encoder is None:
            names = [name for name in self._folded if name.startswith(ROOT)]
            tree = unflatten({name.removeprefix(ROOT): self._folded[name] for name in names})
            encoder = whole_encoder(self._config)
            self._encoder = partial(encoder, jax.device_put(tree, self._device()))
        return self._encoder(jax.device_put(image[None], self._device()))

    def decode_prompts(
        self, embedding: Any, multimask: bool, prompts: dict[str, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Engine.decode_prompts`."""
        import jax

        if multimask not in self._prompt_decoders:
            self._prompt_decoders[multimask] = prompt_decoder(
                self._config, multimask, self._precision
            )
        batched = jax.tree.map(lambda array: np.asarray(array)[None], prompts)
        with jax.default_device(self._device()):
            logits, iou = self._prompt_decoders[multimask](
                unflatten(self._folded), embedding, **batched
            )
        return np.asarray(logits)[0], np.asarray(iou)[0]

    def _device(self) -> Any:
        import jax

        return jax.devices(self._device_name)[0]
