"""Executables on disk, so that a fresh process need not compile.

One folder per key (what was compiled, by which jaxlib), in it one folder per instruction set, in it
one file per program: 32 bytes of SHA-256, then a stored executable. Loading such a file runs
machine code, so a folder counts only if it belongs to the user (or root) and nobody else may write
to it; weights never bring executables along.
"""

import hashlib
import os
import platform
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

from litemedsam_jax.config import ModelConfig
from litemedsam_jax.engine import processor
from litemedsam_jax.engine.trusted_files import UntrustedError, make_trusted_folder, open_trusted
from litemedsam_jax.files import replacing
from litemedsam_jax.weights import config_json

VARIABLE = "LITEMEDSAM_PROGRAMS"
# Other keys' folders (of other versions) that stay: the newest, and all that were used lately.
KEPT_KEYS = 4
KEPT_SECONDS = 7 * 24 * 3600.0
_KEY = re.compile(r"[0-9a-f]{16}")
_DIGEST_BYTES = hashlib.sha256().digest_size


class ProgramError(Exception):
    """A stored executable that cannot be used; the message says why."""


class ProgramStore:
    """The stored executables of one model for this host."""

    def __init__(
        self,
        config: ModelConfig,
        folder: Path | None = None,
        features: frozenset[str] | None = None,
    ):
        """Finds the folder; touches nothing.

        Args:
            config: of the model.
            folder: of all executables; None: `default_folder()`.
            features: the processor's; None: this host's.
        """
        self.root = folder or default_folder()
        self.folder = self.root / _key(config)
        features = processor.features() if features is None else features
        # The best first: compiled on such a host, then for an instruction set that it has.
        self.levels = [f"native-{host(features)}", *processor.instruction_sets(features)]

    def read(self, name: str) -> bytes | None:
        """The executable of a program for the best level that has it; None: there is none.

        Raises:
            ProgramError: it is damaged, or the folder is not to be trusted.
        """
        path = self.find(name)
        if path is None:
            return None
        try:
            with open_trusted(path) as file:
                data = file.read()
        except UntrustedError as error:
            raise ProgramError(f"{error.filename} {error.strerror}") from error
        except OSError as error:
            raise ProgramError(f"{path} cannot be read: {error.strerror}") from error
        digest, executable = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(executable).digest() != digest:
            raise ProgramError(f"{path} is damaged")
        return executable

    def find(self, name: str) -> Path | None:
        """The file that `read` reads; None: there is none."""
        paths = (self.folder / level / f"{name}.xla" for level in self.levels)
        return next((path for path in paths if os.path.lexists(path)), None)

    def write(self, name: str, executable: bytes, level: str | None = None) -> Path:
        """Stores an executable compiled here, by default for hosts exactly like this one.

        Raises:
            OSError: the folder cannot be written.
        """
        folder = self.make_folder(level)
        path = folder / f"{name}.xla"
        with replacing(path) as beside:
            beside.write_bytes(hashlib.sha256(executable).digest() + executable)
            beside.chmod(0o644)
        return path

    def make_folder(self, level: str | None = None) -> Path:
        """Makes the folder that `write` writes to, for the user alone to write, and returns it.

        Raises:
            OSError: that is not possible.
        """
        folder = self.folder / (level or self.levels[0])
        make_trusted_folder(folder, self.folder)
        return folder

    def mark_used(self) -> None:
        """Notes that this key is in use, for `remove_old_keys`."""
        with suppress(OSError):  # a folder of root's, as in a container image
            if time.time() - self.folder.stat().st_mtime > KEPT_SECONDS / 7:
                os.utime(self.folder)

    def remove_old_keys(self) -> None:
        """Removes folders of other keys: other versions left them, and each holds up to 80 MB.

        `KEPT_KEYS` of them stay, those used last, and all that were used within a week.
        """
        with suppress(OSError):
            others = [
                (path.stat().st_mtime, path)
                for path in self.root.iterdir()
                if _KEY.fullmatch(path.name) and path != self.folder and path.is_dir()
            ]
            others.sort(reverse=True)
            for used, path in others[KEPT_KEYS:]:
                if time.time() - used > KEPT_SECONDS and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)


def default_folder() -> Path:
    """$LITEMEDSAM_PROGRAMS, or `litemedsam_jax/programs` in the user's cache folder."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    try:
        cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user without a name and without a home, as containers may have
        user = os.getuid() if hasattr(os, "getuid") else ""
        import tempfile  # a user without a home; others need not wait for it

        cache_home = Path(tempfile.gettempdir()) / f"litemedsam-{user}"
    return cache_home / "litemedsam_jax" / "programs"


def _key(config: ModelConfig) -> str:
    """A digest of all that decides what an executable computes and whether it can run."""
    from jaxlib.version import __version__ as jaxlib_version

    package = Path(__file__).parents[1]
    engine_files = ["folding", "programs", "row_tiles", "encoder_plan", "network"]
    engine_files += ["precision", "rounding", "slim_executable", "stored_executable"]
    sources = [
        *sorted((package / "models").glob("*.py")),
        package / "config.py",
        *(package / "engine" / f"{name}.py" for name in engine_files),
    ]
    digest = hashlib.sha256(f"{jaxlib_version} {config_json.to_json(config)}".encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def host(features: frozenset[str] | None = None) -> str:
    """A digest of the kind of host that executables are compiled for.

    Args:
        features: the processor's; None: this host's.
    """
    features = processor.features() if features is None else features
    traits = [platform.system(), platform.machine(), *sorted(features)]
    if not features:
        traits.append(platform.processor())
    return hashlib.sha256(" ".join(traits).encode()).hexdigest()[:12]
