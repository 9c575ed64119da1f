"""Compiled programs on disk, so that a fresh process need not compile.

One folder per key (what was compiled, by which jaxlib), in it one folder per instruction set, in it
one file per program: 32 bytes of SHA-256, then what XLA serialises. Loading such a file runs
machine code, so a folder counts only if it belongs to the user (or root) and nobody else may write
to it; weights never bring programs along.
"""

import hashlib
import os
import platform
from functools import cache
from pathlib import Path

from litemedsam_jax.config import ModelConfig
from litemedsam_jax.files import replacing
from litemedsam_jax.weights import config_json

VARIABLE = "LITEMEDSAM_PROGRAMS"
ISA_LEVELS = {
    "avx512": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "fma"},
    "avx2": {"avx2", "fma", "bmi2"},
}
_DIGEST_BYTES = hashlib.sha256().digest_size


class ProgramError(Exception):
    """A stored program that cannot be used; the message says why."""


class ProgramStore:
    """The programs of one model for this host."""

    def __init__(self, config: ModelConfig, folder: Path | None = None):
        """folder: of all programs; None: `default_folder()`."""
        self.folder = (folder or default_folder()) / _key(config)
        # The best first: compiled on such a host, then for a level that it has.
        self.levels = [f"native-{_host()}", *_levels_of_host()]

    def read(self, name: str) -> bytes | None:
        """A program for the best level that has it; None: there is none.

        Raises:
            ProgramError: it is damaged, or the folder is not to be trusted.
        """
        for level in self.levels:
            path = self.folder / level / f"{name}.xla"
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise ProgramError(f"{path} cannot be read: {error.strerror}") from error
            check_owner(path)
            digest, program = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
            if hashlib.sha256(program).digest() != digest:
                raise ProgramError(f"{path} is damaged")
            return program
        return None

    def write(self, name: str, program: bytes, level: str | None = None) -> Path:
        """Stores a program compiled here, by default for hosts exactly like this one.

        Raises:
            OSError: the folder cannot be written.
        """
        path = self.folder / (level or self.levels[0]) / f"{name}.xla"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        with replacing(path) as beside:
            beside.write_bytes(hashlib.sha256(program).digest() + program)
            beside.chmod(0o644)
        return path


def default_folder() -> Path:
    """$LITEMEDSAM_PROGRAMS, or `litemedsam_jax` in the user's cache folder."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_home) / "litemedsam_jax" / "programs"


def _key(config: ModelConfig) -> str:
    """A digest of all that decides what a program computes and whether it can run."""
    from jaxlib.version import __version__ as jaxlib_version

    package = Path(__file__).parents[1]
    sources = [
        *sorted((package / "models").glob("*.py")),
        package / "config.py",
        package / "engine" / "folding.py",
        package / "engine" / "encoder_plan.py",
        package / "engine" / "programs.py",
    ]
    digest = hashlib.sha256(f"{jaxlib_version} {config_json.to_json(config)}".encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    lines = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return frozenset(lines[0].partition(":")[2].split()) if lines else frozenset()


def _levels_of_host() -> list[str]:
    return [level for level, needed in ISA_LEVELS.items() if needed <= _cpu_flags()]


def _host() -> str:
    traits = [platform.system(), platform.machine(), *sorted(_cpu_flags())]
    if not _cpu_flags():
        traits.append(platform.processor())
    return hashlib.sha256(" ".join(traits).encode()).hexdigest()[:12]


def check_owner(path: Path) -> None:
    """Raises ProgramError where others than the user may write to a file or its folder."""
    if not hasattr(os, "getuid"):
        return  # Windows keeps a user's folders to the user
    for checked in (path, path.parent):
        status = checked.stat()
        if status.st_uid not in (os.getuid(), 0) or status.st_mode & 0o022:
            raise ProgramError(
                f"{checked} may be written by others, so it is not used (chmod go-w helps if it is "
                "yours)"
            )
