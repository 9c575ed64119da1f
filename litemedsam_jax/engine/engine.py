"""Encoder and decoder, ready to run: stored programs where there are any, else compiled now."""

import sys
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

import numpy as np

from litemedsam_jax.config import ModelConfig
from litemedsam_jax.engine import encoder_plan
from litemedsam_jax.engine.folded_cache import fold_once
from litemedsam_jax.engine.folding import fold
from litemedsam_jax.engine.program_store import ProgramError, ProgramStore
from litemedsam_jax.engine.programs import (
    DECODE_SIZES,
    all_programs,
    compile_program,
    image_encoder,
    prompt_decoder,
    serialize,
    whole_encoder,
)


class Engine:
    """Runs encoder and decoder of one set of weights on one device.

    On a CPU, a program that was compiled before is loaded, without importing JAX. One that is not
    there, or cannot be used, is compiled (which takes seconds, and is told) and stored for the
    next process.
    """

    def __init__(
        self,
        variables: dict[str, np.ndarray],
        config: ModelConfig,
        device: str | None = None,
        store: ProgramStore | None = None,
    ):
        """variables: flat, as stored (not folded). device: "cpu", "gpu", "tpu" or None."""
        self.config = config
        self._stored: _StoredPrograms | None = None
        network = image_encoder(config)
        grid_size = network.grid_size
        if device == "cpu":
            store = store or ProgramStore(config)
            self._stored = _StoredPrograms(config, store)
            self._stored.prefetch("encode_first")  # programs load while weights and case are read
            self._folded = fold_once(variables, grid_size, store)
            self._steps = encoder_plan.plan(network, encoder_plan.shifts(self._folded))
            self._stored.prefetch(*dict.fromkeys(layer.program for layer, _ in self._steps))
        else:
            self._folded = fold(variables, grid_size)
        self._compiler = _Compiler(self._folded, config, device)
        self._programs: dict[tuple[str, str], Any] = {}

    def prepare(self, box_count: int) -> None:
        """Starts to load the decoder for so many boxes, which `encode` then need not wait for."""
        if self._stored:
            self._stored.prefetch(f"decode_{_decode_size(min(box_count, DECODE_SIZES[-1]))}")

    def encode(self, image: np.ndarray) -> Any:
        """(S, S, 3) float32 -> embedding (1, G, G, C), for `decode`."""
        if self._stored is None:
            return self._compiler.encode(image)
        return encoder_plan.encode(self._encode_strip, self._steps, image)

    def _encode_strip(
        self, name: str, part: str, strip: np.ndarray, inside: np.ndarray
    ) -> np.ndarray:
        return np.asarray(self._run(name, strip, inside, root=encoder_plan.ROOT + part)[0])

    def decode(self, embedding: Any, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decodes boxes (N, 4) of the input frame: logits (N, S, S) and predicted IoU (N,)."""
        logits, iou = [], []
        for start in range(0, len(boxes), DECODE_SIZES[-1]):
            chunk = boxes[start : start + DECODE_SIZES[-1]]
            count = _decode_size(len(chunk))
            padded = np.zeros((1, count, 4), np.float32)
            padded[0, : len(chunk)] = chunk
            found = self._run(f"decode_{count}", embedding, padded)
            logits.append(np.asarray(found[0])[0, : len(chunk), 0])
            iou.append(np.asarray(found[1])[0, : len(chunk), 0])
        return np.concatenate(logits), np.concatenate(iou)

    def decode_prompts(
        self, embedding: Any, multimask: bool, **prompts: np.ndarray | tuple | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Any of the network's prompts (see models.lite_medsam), each with a leading axis N.

        Returns:
            logits (N, M, S, S) and predicted IoU (N, M).
        """
        given = {name: value for name, value in prompts.items() if value is not None}
        return self._compiler.decode_prompts(embedding, multimask, given)

    def _run(self, name: str, *inputs: Any, root: str = "") -> Any:
        """root: how its variables' names begin."""
        if (name, root) not in self._programs:
            program = self._stored.bind(name, self._folded, root) if self._stored else None
            if program is None:
                program, fresh = self._compiler.bind(name, root)
                if self._stored and fresh:
                    self._stored.save(name, program.func)
            self._programs[name, root] = program
        return self._programs[name, root](*inputs)


def _decode_size(count: int) -> int:
    return next(size for size in DECODE_SIZES if size >= count)


class _Once:
    """A result that whoever asks first computes; the others wait for it."""

    def __init__(self, compute: Callable[[], Any]):
        self._compute, self._lock = compute, Lock()
        self._result: list[Any] = []

    def __call__(self) -> Any:
        with self._lock:
            if not self._result:
                self._result.append(self._compute())
            return self._result[0]


class _StoredPrograms:
    """Programs from disk, run with jaxlib alone.

    Loading goes on outside of Python's lock for the most part, so a thread of its own does it, one
    program after the other, while the main one imports, reads a case or encodes.
    """

    def __init__(self, config: ModelConfig, store: ProgramStore):
        self._store = store
        self._known = all_programs(config)
        self._runtime = _Once(_start_runtime)
        # By where they are in the network: the decoders share theirs.
        self._buffers: dict[tuple[str, tuple[str, ...]], list] = {}
        self._loads = {name: _Once(partial(self._load_now, name)) for name in self._known}
        self._wanted: SimpleQueue[str] = SimpleQueue()
        self._thread: Thread | None = None

    def prefetch(self, *names: str) -> None:
        """Has programs loaded, after those that were asked for before."""
        for name in names:
            self._wanted.put(name)
        if self._thread is None:
            self._thread = Thread(target=self._load_wanted, daemon=True)
            self._thread.start()

    def _load_wanted(self) -> None:
        while True:
            self._loads[self._wanted.get()]()

    def bind(self, name: str, folded: dict[str, np.ndarray], root: str) -> Any:
        """The program with its variables, or None where there is none (the reason is told)."""
        loaded, program = self._loads[name](), self._known[name]
        if loaded is None:
            return None
        key = root, program.wanted
        try:
            if key not in self._buffers:
                variables = program.variables(folded, root)
                self._buffers[key] = [self._runtime().put(array) for array in variables]
        except Exception as error:  # jaxlib's inner interface promises nothing
            _tell(f"compiling '{name}': the weights cannot be given to it ({error})")
            return None
        return partial(loaded, self._buffers[key])

    def _load_now(self, name: str) -> Any:
        try:
            code = self._store.read(name)
            if code is None:
                _tell(f"compiling '{name}' for this machine, once")
                return None
            return self._runtime().load(code, self._known[name].output_shapes)
        except ProgramError as error:
            _tell(f"compiling '{name}': {error}")
            return None
        except Exception as error:  # jaxlib's inner interface promises nothing
            _tell(f"compiling '{name}': the stored program cannot be loaded ({error})")
            return None

    def save(self, name: str, compiled: Any) -> None:
        """Keeps what was just compiled for the next process, if it can."""
        try:
            self._store.write(name, serialize(compiled))
        except Exception as error:  # nothing depends on it
            _tell(f"'{name}' could not be stored for the next time: {error}")


def _start_runtime() -> Any:
    from litemedsam_jax.engine.jaxlib_runtime import Runtime

    return Runtime()


class _Compiler:
    """JAX and Flax, imported when something has to be compiled."""

    def __init__(self, folded: dict[str, np.ndarray], config: ModelConfig, device: str | None):
        self._folded, self._config, self._device_name = folded, config, device
        self._compiled: dict[str, Any] = {}
        self._on_device: dict[tuple[str, tuple[str, ...]], list] = {}
        self._encoder: Any = None
        self._prompt_decoders: dict[bool, Any] = {}

    def bind(self, name: str, root: str) -> tuple[partial, bool]:
        """The program with its variables, and whether it was compiled for that."""
        import jax

        program = all_programs(self._config)[name]
        device = jax.devices(self._device_name)[0]
        fresh = name not in self._compiled
        if fresh:
            self._compiled[name] = compile_program(program, self._folded, self._config, device)
        key = root, program.wanted
        if key not in self._on_device:
            variables = program.variables(self._folded, root)
            self._on_device[key] = jax.device_put(variables, device)
        return partial(self._compiled[name], self._on_device[key]), fresh

    def encode(self, image: np.ndarray) -> Any:
        """The whole encoder at once: accelerators have no use for strips."""
        import jax

        from litemedsam_jax.weights.tree import unflatten

        device = jax.devices(self._device_name)[0]
        if self._encoder is None:
            names = [name for name in self._folded if name.startswith(encoder_plan.ROOT)]
            tree = unflatten({n.removeprefix(encoder_plan.ROOT): self._folded[n] for n in names})
            self._encoder = partial(whole_encoder(self._config), jax.device_put(tree, device))
        return self._encoder(jax.device_put(image[None], device))

    def decode_prompts(self, embedding: Any, multimask: bool, prompts: dict[str, Any]):
        import jax

        from litemedsam_jax.weights.tree import unflatten

        if multimask not in self._prompt_decoders:
            self._prompt_decoders[multimask] = prompt_decoder(self._config, multimask)
        batched = jax.tree.map(lambda array: np.asarray(array)[None], prompts)
        with jax.default_device(jax.devices(self._device_name)[0]):
            logits, iou = self._prompt_decoders[multimask](
                unflatten(self._folded), embedding, **batched
            )
        return np.asarray(logits)[0], np.asarray(iou)[0]


def _tell(message: str) -> None:
    print(f"litemedsam: {message}", file=sys.stderr)
