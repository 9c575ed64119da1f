"""`infer.py` on folders that make trouble: shared by two processes, full, read-only.

    python -m tests.faults.disks [--without-network]

- Two processes on one folder at once: both end with status 0, masks as of an undisturbed run.
- A full disk: status 1, each mask that did not fit told in a line, the others whole; with room
  made, `--skip-existing` does the rest. Full from the start: status 2, one line.
- A folder that cannot be written to: status 2, one line.

Full and read-only disks are small tmpfs mounts, which only root can make; without them a limit on
the size of files stands for the full disk. Exit status 0: all of it held.
"""

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.kill_infer import REPOSITORY, damaged, infer, make_cases


class Check:
    """Counts what did not hold."""

    def __init__(self) -> None:
        self.faults = 0

    def __call__(self, what: str, held: bool, told: str = "") -> None:
        self.faults += not held
        print(f"{'held' if held else 'FAULT'}: {what}{'' if held else f': {told}'}", flush=True)


def start(
    cases: Path, masks: Path, *options: str, under: Sequence[str] = (), **popen: Any
) -> subprocess.Popen:
    network = "--without-network" not in sys.argv
    command = [*under, *infer(cases, masks, *options, network=network)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=pipe, stderr=pipe, text=True, **popen)


def run(cases: Path, masks: Path, *options: str, **popen: Any) -> tuple[int, str]:
    """Exit status and stderr, without what is said of compiling."""
    process = start(cases, masks, *options, **popen)
    _, told = process.communicate(timeout=1800)
    lines = [line for line in told.splitlines() if ": compiling " not in line]
    return process.returncode, "\n".join(lines)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def two_processes(check: Check, cases: Path, good: Path, folder: Path) -> None:
    for options in ([], ["--skip-existing"]):
        masks = folder / f"two{len(options)}"
        both = [start(cases, masks, *options) for _ in range(2)]
        told = [process.communicate(timeout=1800)[1] for process in both]
        statuses = [process.returncode for process in both]
        kind = f"two processes {' '.join(options)}".strip()
        check(f"{kind}: status 0 twice", statuses == [0, 0], f"{statuses} {told}")
        check(
            f"{kind}: masks as undisturbed", damaged(masks, good) == [], str(damaged(masks, good))
        )
        check(
            f"{kind}: nothing but masks and times", names(masks) == names(good), str(names(masks))
        )


@contextlib.contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def can_mount(folder: Path) -> bool:
    try:
        with disk(folder / "trial", "4k"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", folder], check=True)


def full_disk(check: Check, cases: Path, good: Path, folder: Path) -> None:
    with disk(folder / "full", "24k") as masks:
        status, told = run(cases, masks)
        written = names(masks)
        check("full disk: status 1", status == 1, f"{status} {told}")
        full = [line for line in told.splitlines() if line.endswith("No space left on device")]
        missing = names(good) - written
        check(
            "full disk: one line for each mask that did not fit",
            len(full) == len(told.splitlines()) and all(any(n in f for f in full) for n in missing),
            told,
        )
        check("full disk: some fitted, some not", 0 < len(written) - 1 < len(names(good)) - 1)
        check("full disk: those are whole, and no half file", not damaged(masks, good))
        check("full disk: no hidden file", not any(name.startswith(".") for name in written))
        remount(masks, "size=10m")
        status, told = run(cases, masks, "--skip-existing")
        check("room made: --skip-existing does the rest", status == 0, told)
        check("room made: masks as undisturbed", not damaged(masks, good))
        check("room made: all masks", names(masks) == names(good), str(names(masks)))
    with disk(folder / "brimful", "4k") as masks:
        (masks / "filler").write_bytes(b"x" * 4096)
        status, told = run(cases, masks)
        one = len(told.splitlines()) == 1 and "No space left on device" in told
        check("full from the start: status 2, one line", status == 2 and one, f"{status} {told}")


def read_only(check: Check, cases: Path, folder: Path) -> None:
    with disk(folder / "locked", "1m") as masks:
        remount(masks, "ro")
        status, told = run(cases, masks)
        one = len(told.splitlines()) == 1 and "Read-only file system" in told
        check("read-only disk: status 2, one line", status == 2 and one, f"{status} {told}")
    masks = folder / "of_another"
    masks.mkdir(mode=0o755)
    os.chown(masks, 65534, 65534)
    # Root as an ordinary user, who may not write everywhere.
    status, told = run(cases, masks, under=["setpriv", "--bounding-set", "-dac_override"])
    one = len(told.splitlines()) == 1 and "Permission denied" in told
    check("another's folder: status 2, one line", status == 2 and one, f"{status} {told}")


def limited_files(check: Check, cases: Path, folder: Path) -> None:
    """Files may not grow beyond 200 bytes: the table fits for a while, no mask does."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

    masks = folder / "limited"
    status, told = run(cases, masks, preexec_fn=limit)
    lines = told.splitlines()
    well = status == 1 and len(lines) == len(names(cases)) and "File too large" in lines[0]
    check("a limit on file sizes: status 1, a line each", well, f"{status} {told}")
    check("a limit on file sizes: no half file", names(masks) == {"efficiency.csv"})


def main() -> int:
    check = Check()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases, good = folder / "imgs", folder / "good"
        make_cases(cases, 8, np.random.default_rng(0))
        status, told = run(cases, good)
        check("undisturbed run", status == 0, told)
        two_processes(check, cases, good, folder)
        if can_mount(folder):
            full_disk(check, cases, good, folder)
            read_only(check, cases, folder)
        else:
            print("nothing can be mounted here: full and read-only disks were not tried")
        limited_files(check, cases, folder)
    print(f"{check.faults} faults")
    return 1 if check.faults else 0


if __name__ == "__main__":
    sys.exit(main())
