"""Whether this host has an accelerator that JAX could use, found without importing JAX."""

import os
import sys
from contextlib import suppress
from pathlib import Path


def choose_device() -> str | None:
    """The device for who did not choose one: "cpu", or None for JAX's choice of accelerators.

    JAX finds accelerators by packages beside it (its plugins for CUDA, ROCm, Metal; libtpu). Where
    none is installed the CPU is all there is. Where one is, JAX is imported and asked: a laptop may
    have the package without the hardware.
    """
    platforms = os.environ.get("JAX_PLATFORMS", "").split(",")
    if platforms[0] == "cpu":
        return "cpu"
    if platforms == [""] and not accelerator_packages():
        return "cpu"
    import jax

    return "cpu" if jax.default_backend() == "cpu" else None


def accelerator_packages() -> list[str]:
    """The installed packages by which JAX finds accelerators."""
    from importlib import metadata, util  # 20 ms, which a run on "cpu" does not need

    installed = {entry.module for entry in metadata.entry_points(group="jax_plugins")}
    plugins = util.find_spec("jax_plugins")  # a namespace, which each plugin adds a folder to
    for folder in (plugins and plugins.submodule_search_locations) or ():
        with suppress(OSError):
            installed |= {path.name for path in Path(folder).iterdir() if path.name[0] not in "._"}
    if util.find_spec("libtpu") is not None or "libtpu" in sys.modules:
        installed.add("libtpu")
    return sorted(installed)
