"""Encoder and decoder, ready to run: stored executables where there are any, else compiled now."""

from collections.abc import Callable, Sequence
from copy import copy
from functools import cached_property, partial
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from litemedsam_jax.config import ModelConfig
from litemedsam_jax.engine import cores, prepared_weights, tiled_encoder
from litemedsam_jax.engine.executables import (
    RUNTIMES,
    Loader,
    Runtime,
    StoredExecutables,
    lane_runtimes,
)
from litemedsam_jax.engine.lanes import Lanes
from litemedsam_jax.engine.network import (
    DECODE_SIZES,
    all_programs,
    decode_size,
    decoder_name,
    lane_decoder_name,
)
from litemedsam_jax.engine.one_line import OneLine
from litemedsam_jax.engine.precision import FLOAT32, choose
from litemedsam_jax.engine.prepared_weights import Prepared
from litemedsam_jax.engine.program_store import ProgramStore
from litemedsam_jax.engine.programs import serialize
from litemedsam_jax.once import in_background
from litemedsam_jax.weights.values_digest import DigestCheck

if TYPE_CHECKING:
    from litemedsam_jax.engine.compiler import Compiler


_Key = tuple[str, str, int]  # of a program: name, scope of its parameters, lane


class Engine:
    """Runs encoder and decoder of one set of weights on one device.

    On a CPU, an executable that was compiled before is loaded, without importing JAX. One that is
    not there, or cannot be used, is compiled (which takes seconds, and is reported in one line) and
    stored for the next process.

    Attributes:
        config: of the model.
        device: "cpu", "gpu", "tpu"; None: the accelerator that JAX chose.
        precision: of large products, "float32" or "bfloat16".
        compiled: the names of the programs that this engine had to compile on a CPU.
    """

    def __init__(
        self,
        variables: dict[str, np.ndarray],
        config: ModelConfig,
        device: str | None = None,
        store: ProgramStore | None = None,
        runtimes: Sequence[Callable[[], Runtime]] | None = None,
        check: DigestCheck | None = None,
        precision: str = FLOAT32,
    ):
        """Starts to check and fold the weights and to load what every image needs; see `wait`.

        Args:
            variables: flat, as stored (not folded).
            config: of the model.
            device: "cpu", "gpu" or "tpu"; None: an accelerator where there is one, else the CPU.
            store: of executables; None: the user's.
            runtimes: see `StoredExecutables`; None: those of `executables`.
            check: of the variables' values; None: they are any. Until it has ended the engine
                works ahead, but gives no result.
            precision: one of `precision.PRECISIONS`.

        Raises:
            CheckpointError: inference does not run models of this configuration.
            ValueError: there is no such precision.
        """
        self.config = config
        self.device = device or _choose_device()
        self.precision = choose(precision, self.device).precision
        self.compiled: list[str] = []
        self._programs = all_programs(config, self.precision, accelerator=self.device != "cpu")
        self._stored: StoredExecutables | None = None  # for all cores: of the decoder
        self._report = OneLine()
        if self.device == "cpu":
            self._store = store or ProgramStore(config)
            stored = partial(StoredExecutables, self._programs, self._store, self._report)
            loaders = [Loader() for _ in range(cores.lanes())]
            lanes = [
                stored(loader, runtimes or lane_runtimes(lane))
                for lane, loader in enumerate(loaders)
            ]
            self._lanes, self._decoder_lanes = Lanes(lanes, "encoder"), Lanes(lanes, "decoder")
            # After the first lane's: decoders are wanted last.
            self._stored = stored(loaders[0], runtimes or RUNTIMES)
            self._lanes.prefetch(next(iter(self._programs)))  # the first of every image
            parts = config, self.precision, self._store, self._lanes
            prepare = partial(prepared_weights.prepare_for_cpu, *parts)
        else:
            prepare = partial(prepared_weights.prepare_for_accelerator, config, self.precision)
        self._check = check or DigestCheck(variables, None, "the weights")
        self._weights: Callable[[], Prepared] = in_background(
            partial(prepare, variables, self._check)
        )
        self._binding = [RLock() for _ in range(cores.lanes())]  # lanes load side by side
        self._compiling = RLock()
        self._bound: dict[_Key, Callable[..., Any]] = {}
        self._proven: set[_Key] = set()  # those of `_bound` that ran

    def with_decoder(self, variables: dict[str, np.ndarray]) -> "Engine":
        """An engine that decodes with other weights and shares all else; embeddings serve both.

        Args:
            variables: flat, as stored; those of prompt encoder and mask decoder are taken, which
                must be finite.
        """
        prepared = prepared_weights.with_other_decoder(self._weights(), variables, self.precision)
        other = copy(self)
        other._weights = lambda: prepared
        other._bound, other._proven = {}, set()
        other._compiler = self._compiler.for_other_weights(prepared[0])
        if self._stored is not None:
            other._stored = self._stored.for_other_weights()
            other._decoder_lanes = self._decoder_lanes.for_other_weights()
        return other

    def wait(self) -> None:
        """Waits until the weights are checked; all that gives results does too.

        Raises:
            CheckpointError: their values were changed, or are not finite.
        """
        self._check()

    @cached_property
    def _compiler(self) -> "Compiler":
        from litemedsam_jax.engine.compiler import Compiler

        folded, _ = self._weights()
        return Compiler(folded, self.config, self._programs, self.device, self.precision)

    def prepare(self, box_count: int) -> None:
        """Starts to load the decoder for so many boxes, which `encode` then need not wait for."""
        if self._stored and box_count > 1:
            self._lanes.prefetch(lane_decoder_name(self.precision))
        elif self._stored:
            self._stored.prefetch(decoder_name(box_count, self.precision))

    def encode(self, image: np.ndarray) -> Any:
        """Encodes an image.

        Args:
            image: (S, S, 3) float32 in [0, 1], as `imaging.input_frame` makes it.

        Returns:
            The embedding (1, G, G, C), for `decode`.
        """
        if self._stored is None:
            embedding = self._compiler.encode(image)
        else:
            _, layers = self._weights()
            embedding = tiled_encoder.encode(self._encode_tile, layers, image, self._lanes.submit)
        self.wait()
        return embedding

    def _encode_tile(self, name: str, scope: str, *inputs: np.ndarray) -> np.ndarray:
        key = name, scope, self._lanes.number
        return np.asarray(self._run(key, self._lanes.executables, *inputs)[0])

    def decode(self, embedding: Any, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decodes boxes.

        Args:
            embedding: from `encode`.
            boxes: (N, 4), x_min, y_min, x_max, y_max in pixels of the input frame.

        Returns:
            Logits (N, S, S) and predicted IoU (N,), float32.
        """
        self.wait()
        if self._stored is not None and len(boxes) > 1:
            submit = self._decoder_lanes.submit
            decoding = [submit(self._decode_in_lane, embedding, box) for box in boxes]
            outputs = [one.result() for one in decoding]
        else:
            most = DECODE_SIZES[-1]
            batches = [boxes[start : start + most] for start in range(0, len(boxes), most)]
            outputs = [
                self._decode(
                    (decoder_name(len(some), self.precision), "", 0), self._stored, embedding, some
                )
                for some in batches
            ]
        logits, iou = zip(*outputs, strict=True)
        return np.concatenate(logits), np.concatenate(iou)

    def _decode_in_lane(self, embedding: Any, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A box (4,), by the lane whose thread asks."""
        lanes = self._decoder_lanes
        key = lane_decoder_name(self.precision), "", lanes.number
        return self._decode(key, lanes.executables, embedding, box[None])

    def _decode(
        self, key: _Key, stored: StoredExecutables | None, embedding: Any, boxes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (N, 4), at most `DECODE_SIZES[-1]`, by one program."""
        count = len(boxes)
        padded = np.zeros((1, decode_size(count), 4), np.float32)
        padded[0, :count] = boxes
        outputs = self._run(key, stored, embedding, padded)
        return np.asarray(outputs[0])[0, :count, 0], np.asarray(outputs[1])[0, :count, 0]

    def decode_prompts(
        self, embedding: Any, multimask: bool, **prompts: np.ndarray | tuple | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Decodes any of the network's prompts (see models.lite_medsam).

        Args:
            embedding: from `encode`.
            multimask: three masks a prompt instead of one.
            prompts: each with a leading axis N.

        Returns:
            Logits (N, M, S, S) and predicted IoU (N, M), float32; M is 1 or 3.
        """
        self.wait()
        given = {name: value for name, value in prompts.items() if value is not None}
        return self._compiler.decode_prompts(embedding, multimask, given)

    def _run(self, key: _Key, stored: StoredExecutables | None, *inputs: Any) -> Any:
        """Runs a program, from the executables of a lane or of all; threads may call it at once."""
        while True:
            executable = self._bound.get(key) or self._bind(key, stored)
            try:
                outputs = executable(*inputs)
            except Exception as error:  # jaxlib's internal API may raise any kind
                if key in self._proven:
                    raise
                self._reject(key, stored, executable, error)
            else:
                self._proven.add(key)
                return outputs

    def _bind(self, key: _Key, stored: StoredExecutables | None) -> Callable[..., Any]:
        """A program with its parameters: stored, or compiled now."""
        name, scope, lane = key
        with self._binding[lane]:
            if key not in self._bound and not self._bind_stored(key, stored):
                with self._compiling:
                    if stored:
                        self._compile_and_store(name)
                        # What the compiler gives runs all lanes of a decoder on one core.
                        stored.look_again(name)
                    if not self._bind_stored(key, stored):
                        self._bound[key] = self._compiler.bind(name, scope)
                        self._proven.add(key)  # nothing could be tried instead
            return self._bound[key]

    def _bind_stored(self, key: _Key, stored: StoredExecutables | None) -> bool:
        """Binds a program that is stored; False: it is not, or cannot be used."""
        name, scope, _ = key
        executable = stored.bind(name, self._weights()[0], scope) if stored else None
        if executable is not None:
            self._bound[key] = executable
        return executable is not None

    def _reject(
        self, key: _Key, stored: StoredExecutables | None, executable: Any, error: Exception
    ) -> None:
        """A stored executable does not run, which other threads may find as well."""
        with self._binding[key[-1]]:
            if stored and self._bound.get(key) is executable:
                stored.reject(key[0], error)
                del self._bound[key]

    def _compile_and_store(self, name: str) -> None:
        if name in self.compiled:
            return
        problem = None
        try:
            self._store.make_folder()
        except OSError as error:
            problem = f"{error.filename}: {error.strerror}"
        if problem:
            self._report(f"compiling at every start, nothing can be stored: {problem}")
        else:
            self._report("compiling for this machine, once (20 to 60 seconds)")
        self.compiled.append(name)
        executable = self._compiler.compiled(name)
        if problem:
            return
        try:
            self._store.write(name, serialize(executable).to_bytes())
            self._store.remove_old_keys()
        except Exception as error:  # nothing depends on it
            self._report.also(f"'{name}' could not be stored for the next time: {error}")


def _choose_device() -> str | None:
    from litemedsam_jax.engine.devices import choose_device

    return choose_device()
