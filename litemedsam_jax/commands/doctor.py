"""`litemedsam doctor`: what a bug report should say of this installation."""

import argparse
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

DESCRIPTION = """\
Says in a line each which versions are installed, what the processor can do, whether executables are
compiled, where weights were found, which devices and folders are used. For bug reports: it reads no
image, sends nothing, and writes ~ for the home folder.

  litemedsam doctor

Exit status: 0 all that segmenting needs is there; 1 something is missing (its line says what).
"""

_BASE = ("jax", "jaxlib", "flax", "numpy", "opencv-python-headless")
_EXTRAS = {
    "tools": ("SimpleITK", "nibabel", "highdicom", "pillow", "scipy", "matplotlib"),
    "serve": ("starlette", "uvicorn"),
    "train": ("optax", "orbax-checkpoint", "grain", "tensorboardX"),
}
_VARIABLES = ("LITEMEDSAM_PROGRAMS", "JAX_PLATFORMS", "XLA_FLAGS", "GLIBC_TUNABLES")
_FEATURES = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "bfloat16", "amx_tile": "AMX"}
_MISSING = "MISSING"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(args: argparse.Namespace) -> int:
    """Prints the report; returns the exit status."""
    complete = True
    for topic, text in _report():
        complete = complete and _MISSING not in text
        print(f"{topic + ':':<13}{_anonymous(text)}")
    return 0 if complete else 1


def _report() -> Iterator[tuple[str, str]]:
    from litemedsam_jax import __version__

    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "litemedsam", f"{__version__}, Python {platform.python_version()}, {system}"
    yield "packages", ", ".join(f"{name} {_version(name) or _MISSING}" for name in _BASE)
    for extra, names in _EXTRAS.items():
        installed = [f"{name} {version}" for name in names if (version := _version(name))]
        absent = [name for name in names if not _version(name)]
        without = f"not installed: {', '.join(absent)}" if absent else ""
        yield f"[{extra}]", "; ".join(filter(None, [", ".join(installed), without]))
    yield "processor", _processor()
    yield "precision", _precision()
    yield "devices", _devices()
    yield "weights", _weights()
    yield "executables", _executables()
    variables = [f"{name}={os.environ[name]}" for name in _VARIABLES if os.environ.get(name)]
    yield "environment", ", ".join(variables) or "none of its variables is set"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    from litemedsam_jax.engine import processor

    features = processor.features()
    known = [word for feature, word in _FEATURES.items() if feature in features]
    parts = [processor.name(), f"{os.cpu_count()} cores"]
    if hasattr(os, "sched_getaffinity"):
        parts.append(f"{len(os.sched_getaffinity(0))} of them for this process")
    memory = _memory()
    return ", ".join([*parts, *([memory] if memory else []), *known])


def _precision() -> str:
    from litemedsam_jax.engine import processor

    hardware = processor.bfloat16_hardware()
    if not hardware:
        return "float32 (no bfloat16 in this processor)"
    return f"float32; --precision auto takes bfloat16 ({hardware})"


def _memory() -> str | None:
    if not hasattr(os, "sysconf"):
        return None
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
    return f"{size / 2**30:.1f} GiB of memory"


def _devices() -> str:
    from litemedsam_jax.engine.devices import accelerator_packages

    packages = accelerator_packages()
    if not packages:
        return "the CPU (no package for accelerators is installed)"
    return f"the CPU; accelerators through {', '.join(packages)} if their hardware is there"


def _weights() -> str:
    from litemedsam_jax.weights import default_weights
    from litemedsam_jax.weights.errors import CheckpointError

    try:
        path = default_weights.find()
        return f"{path} ({path.stat().st_size / 2**20:.1f} MiB)"
    except (CheckpointError, OSError) as error:
        return f"{_MISSING}: {error}"


def _executables() -> str:
    """Of the published model; others have a folder each beside these."""
    if not _version("jaxlib"):
        return f"{_MISSING}: jaxlib"
    from litemedsam_jax.config import lite_medsam
    from litemedsam_jax.engine.network import all_programs
    from litemedsam_jax.engine.program_store import ProgramStore

    store = ProgramStore(lite_medsam())
    programs = [all_programs(lite_medsam(), precision) for precision in ("float32", "bfloat16")]
    names = list(dict.fromkeys(name for some in programs for name in some))
    paths = [path for name in names if (path := store.find(name))]
    if not paths:
        return f"none yet in {store.folder} (compiled at the first case, or by litemedsam compile)"
    levels = sorted({path.parent.name.partition("-")[0] for path in paths})
    compiled = f"{len(paths)} of {len(names)} compiled ({', '.join(levels)})"
    return f"{compiled} in {store.folder}; the rest when a case needs it"


def _anonymous(text: str) -> str:
    try:
        home = str(Path.home())
    except RuntimeError:
        return text
    return text.replace(home, "~") if len(home) > 1 else text
