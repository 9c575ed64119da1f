"""`--dry-run`: model, data, memory plan and one step's time, without training."""

import math
import time
from typing import Any

import jax
import numpy as np

from litemedsam_jax.training.config import TrainingConfig
from litemedsam_jax.training.devices import DeviceFunction
from litemedsam_jax.training.optimizer import trains
from litemedsam_jax.training.steps import TrainState
from litemedsam_jax.weights.tree import flatten


def print_plan(
    config: TrainingConfig,
    state: TrainState,
    step: DeviceFunction,
    batch: Any,
    *,
    names: np.ndarray,
    samples: int,
    steps_per_epoch: int,
) -> None:
    """Compiles a step, runs it twice, prints what was seen.

    Args:
        config: the run.
        state: to start from; its memory is reused.
        step: (state, batch) -> (state, metrics).
        batch: on the devices, as the step takes it.
        names: of the batch's samples.
        samples: of a step, over all devices and hosts.
        steps_per_epoch: optimizer steps.
    """
    sizes = {path: math.prod(leaf.shape) for path, leaf in flatten(state.params).items()}
    trained = sum(size for path, size in sizes.items() if trains(path, config.optimizer))
    began = time.monotonic()
    plan = step.compiled(state, batch).memory_analysis()
    compiled = time.monotonic() - began
    for _ in range(2):  # the first one may still load and page
        began = time.monotonic()
        state, metrics = step(state, batch)
        jax.block_until_ready(state)
        seconds = time.monotonic() - began
    mib = 1 / 2**20
    print(
        f"model    {config.model.name}, {sum(sizes.values()):,} parameters, {trained:,} of them "
        f"trained, {config.dtype}\n"
        f"devices  {jax.device_count()} x {jax.devices()[0].device_kind}, "
        f"{jax.process_count()} processes\n"
        f"data     {samples} samples a step, {steps_per_epoch} steps an epoch, {config.epochs} "
        f"epochs; first: {', '.join(map(str, names[:3]))}\n"
        f"memory   per device: state {plan.argument_size_in_bytes * mib:.0f} MiB with the batch, "
        f"activations {plan.temp_size_in_bytes * mib:.0f} MiB\n"
        f"step     {seconds:.2f} s ({samples / seconds:.2f} samples/s), compiled in "
        f"{compiled:.0f} s; loss {float(metrics['loss']):.4f}"
    )
