"""What the parity tests share: oracles' modules beside ours, and the measure of error."""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # the measures alone must work without torch: see .ci/newest
    import torch
    from torch import nn

# The bounds. Of one operation: root mean square error over the activation's standard deviation (the
# largest of a million float32 roundings is some 1e-6 even of one exactly computed product).
OPERATION = 1e-6
BLOCK = 1e-5  # largest error over the activation's standard deviation
EMBEDDING = 1e-5  # largest absolute error, published weights
LOGITS = 2e-4  # the same


def mean_error(actual: Any, expected: np.ndarray) -> float:
    """The root mean square error over the standard deviation of what was expected."""
    return float(np.sqrt(np.mean(_difference(actual, expected) ** 2)) / expected.std())


def relative_error(actual: Any, expected: np.ndarray) -> float:
    """The largest error over the standard deviation of what was expected."""
    return largest_error(actual, expected) / float(expected.std())


def largest_error(actual: Any, expected: np.ndarray) -> float:
    """The largest absolute error."""
    return float(np.abs(_difference(actual, expected)).max())


def _difference(actual: Any, expected: np.ndarray) -> np.ndarray:
    actual = np.asarray(actual, np.float64)
    # numpy would broadcast a wrong shape and find little wrong with it
    assert actual.shape == expected.shape, f"shape {actual.shape}, {expected.shape} was expected"
    return actual - expected


def exact(module: "nn.Module | Callable", *inputs: "torch.Tensor", **options: Any) -> Any:
    """Runs an oracle in float64 on float32 inputs: what is left is our own error."""
    from torch import nn

    if isinstance(module, nn.Module):
        module = copy.deepcopy(module).double()
    return _map(module, inputs, options)


def _map(module: Callable, inputs: tuple, options: dict) -> Any:
    import torch

    def widen(value: Any) -> Any:
        return value.double() if torch.is_tensor(value) and value.is_floating_point() else value

    with torch.no_grad():
        result = module(*map(widen, inputs), **{k: widen(v) for k, v in options.items()})
    if isinstance(result, tuple):
        return tuple(item.numpy() for item in result)
    return result.numpy()


def record_inputs(model: "nn.Module", run: Callable[[], Any]) -> dict[str, tuple]:
    """Runs a model and returns what each of its modules was given, by its dotted name."""
    import torch

    seen: dict[str, tuple] = {}

    def hook(name: str) -> Callable:
        def keep(_: "nn.Module", args: tuple, kwargs: dict) -> None:
            tensors = [value for value in (*args, *kwargs.values()) if torch.is_tensor(value)]
            seen.setdefault(name, tuple(tensor.clone() for tensor in tensors))

        return keep

    handles = [
        module.register_forward_pre_hook(hook(name), with_kwargs=True)
        for name, module in model.named_modules()
    ]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return seen


def part(variables: dict[str, np.ndarray], prefix: str) -> dict[str, Any]:
    """The variables of one module, from flat ones: `part(flat, "image_encoder/neck_0")`."""
    from litemedsam_jax.weights.tree import unflatten

    chosen = {}
    for name, value in variables.items():
        collection, _, path = name.partition("/")
        if path.startswith(f"{prefix}/"):
            chosen[f"{collection}/{path.removeprefix(f'{prefix}/')}"] = value
    return unflatten(chosen)


def nhwc(tensor: "torch.Tensor | np.ndarray") -> np.ndarray:
    """(B, C, H, W) -> (B, H, W, C)."""
    return np.moveaxis(np.asarray(tensor), 1, -1)
