"""Devices and hosts: the only place that knows of `pmap` and of `jax.distributed`.

The state has no device axis (in_axes and out_axes None): a checkpoint does not depend on how many
devices wrote it. Batches have one, as their first.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from litemedsam_jax import process
from litemedsam_jax.training import compiled_steps
from litemedsam_jax.training.config import Hosts
from litemedsam_jax.training.data import Sharding

AXIS = "devices"  # gradients, metrics and BatchNorm's statistics are averaged over it
_YNN = "xla_cpu_experimental_ynn_fusion_type"
_COMPILER_OPTIONS: dict[str, dict[str, str | bool]] = {
    # See engine.programs: XLA's YNNPACK fusions make these networks slower on CPUs; of bfloat16, it
    # takes every product, alone. Vectors of 512 bits: the decoder's step takes 0.98 (4 pairs).
    "cpu": {_YNN: "", "xla_cpu_prefer_vector_width": "512"},
    "cpu, bfloat16": {_YNN: "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"},
    # Products by cuBLAS alone: trying Triton's beside it takes most of the compiler's time (655
    # against 196 s of processor time), and steps are as fast without (H100, jax 0.11.2).
    "gpu": {"xla_gpu_enable_triton_gemm": False},
}


class LaunchError(RuntimeError):
    """Hosts or devices that cannot be used; the message says what to set."""


def launch(hosts: Hosts, device: str | None = None) -> None:
    """Chooses the platform and joins the other hosts; before anything else of JAX is used.

    Args:
        hosts: how the processes find each other.
        device: "cpu", "gpu", "tpu", also "cuda:0" as the reference writes it; None: the best.

    Raises:
        LaunchError: contradictory or incomplete settings, or hosts that do not answer.
    """
    if device is not None:
        name, _, number = device.partition(":")
        platform = {"cpu": "cpu", "gpu": "cuda", "cuda": "cuda", "tpu": "tpu"}.get(name)
        if platform is None:
            raise LaunchError(f"-device {device}: expected cpu, gpu (or cuda:N) or tpu")
        jax.config.update("jax_platforms", platform)
        if number and platform == "cuda":
            os.environ.setdefault("CUDA_VISIBLE_DEVICES", number)
    # Between CPUs of several hosts; other platforms do not look at it.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        if hosts.world_size is not None and hosts.world_size > 1:
            jax.distributed.initialize(_coordinator(hosts), hosts.world_size, _rank(hosts))
        elif hosts.world_size is None and _managed_cluster():
            jax.distributed.initialize()
        jax.local_devices()
        compiled_steps.keep()
    except (RuntimeError, ValueError) as error:
        raise LaunchError(f"the devices could not be started: {error}") from error


def _coordinator(hosts: Hosts) -> str:
    if hosts.init_method.startswith("tcp://"):
        return hosts.init_method.removeprefix("tcp://")
    if hosts.init_method != "env://":
        raise LaunchError(f"-init_method {hosts.init_method}: expected tcp://HOST:PORT or env://")
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if not address or not port:
        raise LaunchError(
            f"-world_size {hosts.world_size} needs the address of process 0: -init_method "
            "tcp://HOST:PORT, or MASTER_ADDR and MASTER_PORT in the environment"
        )
    return f"{address}:{port}"


def _rank(hosts: Hosts) -> int:
    if hosts.node_rank is None or not 0 <= hosts.node_rank < (hosts.world_size or 1):
        raise LaunchError(
            f"-node_rank {hosts.node_rank}: expected 0 to {(hosts.world_size or 1) - 1}, another "
            "on each host (one process a host drives all of its devices)"
        )
    return hosts.node_rank


def _managed_cluster() -> bool:
    """Whether SLURM or a TPU pod started several processes, which JAX then finds by itself."""
    slurm = int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ
    pod = "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
    return slurm or pod


def sharding() -> Sharding:
    """This process among all."""
    return Sharding(jax.process_index(), jax.process_count())


def platform() -> str:
    """`cpu`, `gpu` or `tpu`: what this process computes on."""
    return jax.default_backend()


def is_main() -> bool:
    """Whether this process writes the run's files."""
    return jax.process_index() == 0


class DeviceFunction:
    """A function of (replicated, batch) on all devices, compiled when first called."""

    def __init__(
        self,
        function: Callable,
        *,
        mapped_output: bool,
        local: bool = False,
        donate: bool = False,
        precision: str = "float32",
    ):
        """Wraps a function.

        Args:
            function: (tree, batch of one device) -> tree.
            mapped_output: the results have a device axis; otherwise they are the same on all
                devices (the function averages over `AXIS`), and have none.
            local: run on this process's devices alone, without the others.
            donate: the first argument's memory is reused for the result.
            precision: "float32" or "bfloat16", of its products.
        """
        self._precision = precision
        self._mapped = jax.pmap(
            function,
            axis_name=AXIS,
            in_axes=(None, 0),
            out_axes=0 if mapped_output else None,
            donate_argnums=(0,) if donate else (),
            devices=jax.local_devices() if local else None,
        )
        self._compiled: dict[str, Any] = {}
        self._spans_hosts = jax.process_count() > 1 and not local

    def __call__(self, replicated: Any, batch: Any) -> Any:
        """The function's result; on CPUs when it is ready."""
        if self._spans_hosts:
            # A compiled pmap checks each host's batch against the shape of all hosts' together.
            return self._mapped(replicated, batch)
        result = self.compiled(replicated, batch)(replicated, batch)
        # On CPUs a program takes its gigabytes of temporaries when it is called, not when it runs:
        # a step ahead would double them.
        return jax.block_until_ready(result) if jax.default_backend() == "cpu" else result

    def compiled(self, replicated: Any, batch: Any) -> Any:
        """The XLA program for these shapes; its `memory_analysis()` is the memory plan."""
        key = str(jax.tree.map(np.shape, batch))
        if key not in self._compiled:
            lowered = self._mapped.lower(replicated, batch)
            backend = jax.default_backend()
            options = _COMPILER_OPTIONS.get(
                f"{backend}, {self._precision}", _COMPILER_OPTIONS.get(backend)
            )
            self._compiled[key] = lowered.compile(compiler_options=options)
            if backend == "cpu":
                process.release_memory()
        return self._compiled[key]


def fetch(tree: Any) -> Any:
    """Replicated arrays as NumPy arrays of this process."""
    return jax.tree.map(np.asarray, tree)


def sum_over_hosts(array: np.ndarray) -> np.ndarray:
    """The sum of every process's array."""
    if jax.process_count() == 1:
        return array
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array)).sum(0)


def wait_for_hosts(name: str) -> None:
    """Returns when every process has come here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def say(text: str) -> None:
    """A line for people on stderr, from one process alone."""
    if is_main():
        print(text, file=sys.stderr, flush=True)
