"""Writes requirements/container.txt anew: `python requirements/lock.py`.

Versions come from constraints.txt, so that the image runs what the tests ran. pip names the wheel
of each for the image's platform, and its hash, without downloading it.
"""

import json
import subprocess
import sys
from pathlib import Path

# What `infer.py` imports, and what JAX and Flax import when a program has to be compiled. JAX and
# Flax declare more (scipy, optax, orbax, tensorstore: 230 MB) but import none of it here;
# .ci/container checks that inside the image.
PACKAGES = [
    "absl-py",
    "etils",
    "flax",
    "jax",
    "jaxlib",
    "markdown-it-py",
    "mdurl",
    "ml_dtypes",
    "msgpack",
    "numpy",
    "opencv-python-headless",
    "opt_einsum",
    "Pygments",
    "PyYAML",
    "rich",
    "typing_extensions",
]
# Oldest to newest libc that such a wheel may ask for; Debian's of python:3.11-slim is newer.
PLATFORMS = ["manylinux2014_x86_64", "manylinux_2_27_x86_64", "manylinux_2_28_x86_64"]
HERE = Path(__file__).parent
HEAD = """\
# The image's packages: for CPython 3.11 on x86-64 Linux, installed with --no-deps.
# Written by requirements/lock.py from constraints.txt.
"""


def main() -> int:
    lines = (HERE.parent / "constraints.txt").read_text(encoding="utf-8").splitlines()
    versions = dict(line.split("==") for line in lines if "==" in line)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps"]
    command += ["--ignore-installed", "--only-binary=:all:", "--python-version=3.11"]
    command += [f"--platform={platform}" for platform in PLATFORMS]
    command += ["--target=unused", "--report=-"]
    command += [f"{name}=={versions[name]}" for name in PACKAGES]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    hashes = {}
    for item in report["install"]:
        name = item["metadata"]["name"].lower().replace("_", "-")
        hashes[name] = item["download_info"]["archive_info"]["hashes"]["sha256"]
    with (HERE / "container.txt").open("w", encoding="utf-8") as out:
        out.write(HEAD)
        for name in PACKAGES:
            digest = hashes[name.lower().replace("_", "-")]
            out.write(f"{name}=={versions[name]} \\\n    --hash=sha256:{digest}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
