"""PyTorch state_dict <-> Flax variables, by three rules and an exact bijection.

The Flax modules carry torch's own names, so a key turns into a path by its letters: `.3` becomes
`_3`, dots become `/`; `weight` is whichever of kernel, scale, embedding the network has there;
running statistics go to their own collection. Values differ for kernels alone: rank 4 is
transposed by (2, 3, 1, 0), rank 2 is transposed. Source: the reference's checkpoints.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from litemedsam_jax.config import ModelConfig, lite_medsam, medsam_vit_b, mobile_sam, tiny_for_tests
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.tree import PARTS, Weights
from litemedsam_jax.weights.variable_shapes import DTYPE, Shape, mismatches, variable_shapes

_COUNTER = "num_batches_tracked"  # how many batches a BatchNorm has seen: no part of the network
# MobileSAM's file carries the classifier that its encoder was pretrained with; SAM uses it nowhere.
_IGNORED_PREFIXES = ("image_encoder.norm_head.", "image_encoder.head.")
_WEIGHT_LEAVES = ("kernel", "scale", "embedding")
_ENCODER_STARTS = ("patch_embed.", "layers.", "blocks.", "neck.", "pos_embed")
_FIRST_NAMES = {*PARTS, *(start.rstrip(".") for start in _ENCODER_STARTS)}  # of unwrapped keys
_MOST_PREFIXES = 4
_WRAPPERS = ("model", "state_dict", "model_state_dict")  # where trainers keep the state_dict


def to_weights(
    loaded: Any, parts: Iterable[str] = PARTS, source: str = "the checkpoint"
) -> Weights:
    """Converts what a checkpoint holds, in any of the reference's wrappings.

    Args:
        loaded: A state_dict, bare or under "model" or "state_dict", its keys with or without what
            wrapping a module puts before them; of a whole model, or of an image encoder alone.
            Half precision is widened to float32, which is exact.
        parts: Which of `tree.PARTS` to take; of an image encoder alone, only that.
        source: What the messages call it.

    Returns:
        Variables of the parts that it has.

    Raises:
        CheckpointError: It is no state_dict, is of an unknown architecture, or does not match its
            architecture exactly; every mismatch is listed.
    """
    state = unwrap(loaded, source)
    config = recognise(state, source)
    alone = {key.split(".")[0] for key in state} == {"image_encoder"}
    wanted = [part for part in parts if not alone or part == "image_encoder"]
    return to_variables(state, config, wanted, source)


def unwrap(loaded: Any, source: str = "the checkpoint") -> dict[str, np.ndarray]:
    """Finds the state_dict in what a checkpoint holds, and gives its keys their full names.

    Raises:
        CheckpointError: There is none.
    """
    if isinstance(loaded, dict):
        for wrapper in _WRAPPERS:
            if isinstance(loaded.get(wrapper), dict):
                loaded = loaded[wrapper]
                break
    if not isinstance(loaded, dict) or not loaded:
        raise CheckpointError(f"{source}: no state_dict: a dictionary of tensors was expected.")
    strangers = [str(k)[:80] for k, v in loaded.items() if not isinstance(v, np.ndarray)]
    if strangers:
        raise CheckpointError(
            f"{source}: no state_dict: a dictionary of tensors, bare or under 'model', was "
            f"expected, but {', '.join(strangers[:5])} is no tensor."
        )
    state = _without_prefixes({str(key): value for key, value in loaded.items()})
    if all(key.startswith((*_ENCODER_STARTS, "norm_head.", "head.")) for key in state):
        state = {f"image_encoder.{key}": value for key, value in state.items()}
    return state


def _without_prefixes(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Keys without what wrapping a module puts before them.

    That is `module.` (DistributedDataParallel), `_orig_mod.` (torch.compile, of the whole or of a
    part), `model.` or another attribute's name (Lightning): whatever all keys begin with.
    """
    keys = {key: key.replace("_orig_mod.", "") for key in state}
    if len(set(keys.values())) < len(keys):
        return state  # a key in both spellings: will be reported as surplus
    for _ in range(_MOST_PREFIXES):
        first = {key.partition(".")[0] for key in keys.values()}
        if len(first) > 1 or first <= _FIRST_NAMES or not all("." in key for key in keys.values()):
            break
        keys = {original: key.partition(".")[2] for original, key in keys.items()}
    return {key: state[original] for original, key in keys.items()}


def recognise(state: Mapping[str, np.ndarray], source: str = "the checkpoint") -> ModelConfig:
    """Tells the architecture by the stem of the image encoder.

    Raises:
        CheckpointError: It is not one of ours; the message says what it looks like.
    """
    stem = state.get("image_encoder.patch_embed.seq.0.c.weight")
    patch = state.get("image_encoder.patch_embed.proj.weight")
    known = {
        ("tiny", (32, 3, 1, 1)): lite_medsam,
        ("tiny", (32, 3, 3, 3)): mobile_sam,
        ("tiny", (4, 3, 1, 1)): tiny_for_tests,
        ("vit", (768, 3, 16, 16)): medsam_vit_b,
    }
    kind, array = ("tiny", stem) if stem is not None else ("vit", patch)
    if array is not None and (kind, array.shape) in known:
        return known[kind, array.shape]()
    if array is None:
        looks = f"no image encoder of LiteMedSAM or SAM (its first keys: {', '.join([*state][:3])})"
    elif kind == "tiny":
        looks = f"a TinyViT whose first convolution has the shape {array.shape}"
    else:
        size = {1024: "SAM's ViT-L", 1280: "SAM's ViT-H"}.get(array.shape[0], "a ViT")
        looks = f"{size}, patch embedding {array.shape}"
    raise CheckpointError(
        f"{source}: another architecture: {looks}. Known are lite_medsam, medsam_vit_b "
        "(MedSAM and SAM's ViT-B) and mobile_sam."
    )


def to_variables(
    state: Mapping[str, np.ndarray],
    config: ModelConfig,
    parts: Iterable[str] = PARTS,
    source: str = "the checkpoint",
) -> Weights:
    """Converts a state_dict with full names (see `unwrap`) into flat variables.

    Args:
        state: torch key -> array.
        config: The architecture whose variables are wanted.
        parts: Which of `PARTS`; keys of the others are not looked at.
        source: What the messages call it.

    Raises:
        CheckpointError: The keys, shapes or dtypes differ from the network's; all are listed.
    """
    parts = tuple(parts)
    shapes = variable_shapes(config, parts)
    variables: dict[str, np.ndarray] = {}
    counters: dict[str, int] = {}
    faults: list[str] = []
    for key, value in state.items():
        if key.startswith(_IGNORED_PREFIXES) or _of_other_part(key, parts):
            continue
        if key.endswith(f".{_COUNTER}"):
            faults += _count(key, value, shapes, counters)
            continue
        path = _path(key, shapes)
        if path is None:
            faults.append(f"surplus: {key} {value.shape}")
        elif path in variables:
            faults.append(f"double: {key} sets {path} again")
        else:
            variables[path] = _transpose(path, _widened(value))
    faults += mismatches(variables, shapes, _spell)
    if faults:
        raise CheckpointError(
            f"{source}: does not match {config.name}, {len(faults)} mismatches:\n  "
            + "\n  ".join(faults)
        )
    return Weights(variables, config, counters)


def to_state_dict(
    variables: Mapping[str, Any], config: ModelConfig, counters: Mapping[str, int] | None = None
) -> dict[str, np.ndarray]:
    """The inverse of `to_variables`: torch key -> contiguous array, counters included.

    Args:
        variables: Flat; of a whole model or of some of its parts.
        config: Their architecture.
        counters: torch's `num_batches_tracked`; 0 where it is not known.

    Raises:
        CheckpointError: The variables are not exactly the network's.
    """
    parts = tuple(part for part in PARTS if any(f"/{part}/" in path for path in variables))
    arrays = {path: np.asarray(value) for path, value in variables.items()}
    faults = mismatches(arrays, variable_shapes(config, parts))
    if faults:
        raise CheckpointError(
            f"the variables do not match {config.name}, {len(faults)} mismatches:\n  "
            + "\n  ".join(faults)
        )
    state: dict[str, np.ndarray] = {}
    for path, value in arrays.items():
        state[_key(path)] = np.ascontiguousarray(_transpose(path, value, inverse=True))
        if path.endswith("/bn/var"):
            counter = _key(path).replace("running_var", _COUNTER)
            state[counter] = np.asarray((counters or {}).get(counter, 0), np.int64)
    return state


def _of_other_part(key: str, parts: tuple[str, ...]) -> bool:
    part = key.split(".")[0]
    return part in PARTS and part not in parts


def _path(key: str, shapes: Mapping[str, Shape]) -> str | None:
    """The variable that a torch key means, or None."""
    parent, _, leaf = re.sub(r"\.(\d+)(?=\.|$)", r"_\1", key).rpartition(".")
    parent = parent.replace(".", "/")
    statistics = {"running_mean": "mean", "running_var": "var"}
    if leaf in statistics:
        candidates = [f"batch_stats/{parent}/{statistics[leaf]}"]
    elif leaf == "weight":
        candidates = [f"params/{parent}/{name}" for name in _WEIGHT_LEAVES]
    else:
        candidates = [f"params/{parent}/{leaf}", f"buffers/{parent}/{leaf}"]
    return next((path for path in candidates if path in shapes), None)


def _key(path: str) -> str:
    """The torch key of a variable."""
    collection, parent, leaf = re.match(r"(\w+)/(.*)/(\w+)", path).groups()  # type: ignore[union-attr]
    if leaf in _WEIGHT_LEAVES:
        leaf = "weight"
    elif collection == "batch_stats":
        leaf = f"running_{leaf}"
    return re.sub(r"_(\d+)(?=/|$)", r".\1", parent).replace("/", ".") + f".{leaf}"


def _transpose(path: str, value: np.ndarray, inverse: bool = False) -> np.ndarray:
    if not path.endswith("/kernel"):
        return value
    if value.ndim == 4:
        return value.transpose((3, 2, 0, 1) if inverse else (2, 3, 1, 0))
    return value.T


def _spell(path: str, shape: Shape) -> tuple[str, Shape]:
    """A variable's torch key, and its shape there."""
    return _key(path), _transpose(path, np.broadcast_to(np.float32(0), shape), inverse=True).shape


def _widened(value: np.ndarray) -> np.ndarray:
    """float16 and bfloat16 as float32, which holds their values exactly."""
    return value.astype(DTYPE) if _is_half(value) else value


def _is_half(value: np.ndarray) -> bool:
    return value.dtype.name in ("float16", "bfloat16")


def _count(
    key: str, value: np.ndarray, shapes: Mapping[str, Shape], counters: dict[str, int]
) -> list[str]:
    """Keeps one BatchNorm's counter, or returns why not."""
    if _path(key.replace(_COUNTER, "running_var"), shapes) is None:
        return [f"surplus: {key} {value.shape}"]
    if _is_half(value) and value.shape == ():
        return []  # cast along with the weights, and no count any more
    if value.shape != () or value.dtype != np.int64:
        return [f"dtype: {key} {value.dtype}{value.shape}, a single int64 was expected"]
    counters[key] = int(value)
    return []
