"""Runs processes and times them: cold (start to end, peak memory) and warm (told what to do)."""

import contextlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
RUNTIMES = Path(__file__).resolve().parent / "runtimes"
# More than this share of the machine taken by others while a run lasts, and it is repeated.
DISTURBED = 0.08
TRIES = 4
LONG = 10.0  # seconds; such a run is not repeated

OURS, OURS_BFLOAT16 = "ours", "ours, bfloat16"
OURS_FLOAT32 = "ours, float32"  # beside OURS_BFLOAT16
SCRIPTS = {
    "reference script": ("with_torch.py", "--reference", "--plotting"),
    "torch alone": ("with_torch.py", "--reference"),
    "torch, cached": ("with_torch.py",),
    "ONNX Runtime": ("with_onnxruntime.py",),
    "OpenVINO": ("with_openvino.py",),
    "OpenVINO, its default precision": ("with_openvino.py", "--default-precision"),
    OURS: ("with_ours.py",),
    OURS_FLOAT32: ("with_ours.py",),
    OURS_BFLOAT16: ("with_ours.py", "--bfloat16"),
}
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1"}  # predict.sh's


class BenchmarkError(RuntimeError):
    """Something that makes the figures worthless."""


@dataclass
class Run:
    """One cold run."""

    seconds: float
    megabytes: float
    segment: float  # of these, between a loaded model and masks; 0 where not told
    others: float  # share of the machine that other processes took meanwhile


def processor_kind() -> str:
    """The kind of processor that results are kept apart by, such as "intel_amx"."""
    # Of two generations of AMD's with AVX-512, the second has twice the multiply-adds a cycle.
    generations = {"25": "zen4", "26": "zen5"}
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    vendor = {"GenuineIntel": "intel", "AuthenticAMD": "amd"}
    name = next((short for full, short in vendor.items() if full in text), platform.machine())
    words = set(text.split())
    best = [("amx_bf16", "amx"), ("avx512f", "avx512"), ("avx2", "avx2")]
    level = next((level for flag, level in best if flag in words), "")
    family = re.search(r"^cpu family\s*: (\d+)$", text, re.MULTILINE)
    if name == "amd" and level == "avx512" and family:
        level = generations.get(family[1], level)
    return "_".join(filter(None, [name, level]))


@contextlib.contextmanager
def confined_to(threads: int) -> Iterator[None]:
    """Confines this process and its children to so many CPUs."""
    available = os.sched_getaffinity(0)
    if threads > len(available):
        raise BenchmarkError(f"{threads} threads were asked for on {len(available)} CPUs")
    os.sched_setaffinity(0, sorted(available)[-threads:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, available)


def child_environment(huge_pages: bool = False) -> dict[str, str]:
    """Of everything that is started here; predict.sh sets huge pages itself."""
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    environment |= {"PYTHON": sys.executable, "PYTHONPATH": str(REPOSITORY)}
    return environment | (HUGE_PAGES if huge_pages else {})


def run_cold(
    who: str,
    case: Path,
    threads: int,
    masks: Path,
    everyone_huge: bool = False,
    tries: int = TRIES,
) -> Run:
    """One fresh process: imports, load, read the npz, segment, write `masks`."""
    for _ in range(tries):
        run = _run_once(who, case, threads, masks, everyone_huge)
        if run.others < DISTURBED or run.seconds > LONG:
            break
    return run


def _run_once(who: str, case: Path, threads: int, masks: Path, everyone_huge: bool) -> Run:
    environment = child_environment(everyone_huge)
    if who.startswith(OURS):
        command = ["sh", "predict.sh", "-i", str(case), "-o", str(masks.parent)]
        command += ["--precision", "bfloat16"] if who == OURS_BFLOAT16 else []
    else:
        script, *flags = SCRIPTS[who]
        command = [sys.executable, str(RUNTIMES / script), "case", str(threads)]
        command += [str(case), str(masks), *flags]
    with tempfile.TemporaryFile("w+") as out:
        busy, start = _busy_seconds(), time.perf_counter()
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        busy = _busy_seconds() - busy
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        told = out.read()
    if process.returncode or (who.startswith(OURS) and "compiling" in told):
        raise BenchmarkError(f"{who} failed, or compiled:\n{told}")
    own = usage.ru_utime + usage.ru_stime
    others = max(0.0, busy - own) / seconds / (os.cpu_count() or 1)
    last = told.strip().rpartition("\n")[2]
    segment = json.loads(last)["segment"] if last.startswith("{") else 0.0
    return Run(seconds, usage.ru_maxrss / 1024, segment, others)


def _busy_seconds() -> float:
    """CPU time of the whole machine (Linux): all but idle and waiting."""
    fields = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:9]
    times = [int(field) for field in fields]
    return (sum(times) - times[3] - times[4]) / os.sysconf("SC_CLK_TCK")


class Worker:
    """A runtime with its model loaded, which times what it is told."""

    def __init__(self, who: str, threads: int, everyone_huge: bool = False):
        script, *flags = SCRIPTS[who]
        self._process = subprocess.Popen(
            [sys.executable, str(RUNTIMES / script), "serve", str(threads), *flags],
            cwd=REPOSITORY,
            env=child_environment(who.startswith(OURS) or everyone_huge),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        while (line := self._read()) != "ready":
            print(line)

    def ask(self, command: str) -> tuple[float, float]:
        """ "encode" or "decode N": seconds, and the share of the machine that others took."""
        assert self._process.stdin is not None
        for _ in range(TRIES):
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
            seconds, others = map(float, self._read().split())
            time.sleep(0.05)  # thread pools spin for a while after their work
            if others < DISTURBED:
                break
        return seconds, others

    def masks(self) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            self.ask(f"masks {folder}/masks.npy")
            return np.load(f"{folder}/masks.npy")

    def close(self) -> None:
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError(f"{self._process.args} ended")
        return line.strip()


def agreement(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The smallest DSC of any label, or of any mask of a stack of boolean ones."""
    if ours.dtype == bool:
        pairs = list(zip(ours, theirs, strict=True))
    else:
        pairs = [(ours == k, theirs == k) for k in np.unique(np.maximum(ours, theirs)) if k]
    scores = [2 * (a & b).sum() / max(1, a.sum() + b.sum()) for a, b in pairs if (a | b).any()]
    return float(min(scores, default=1.0))


@dataclass
class Pair:
    """Two adjacent measurements of the same work, ours and another's."""

    row: str
    threads: int
    other: str
    ours_s: float
    other_s: float
    ours_mb: float = 0.0
    other_mb: float = 0.0
    dsc: float = 1.0
    segment: float = 0.0  # the other's, without its start: what a longer case is scaled from
    others: float = 0.0  # disturbance, the larger of the two
    huge: bool = False  # huge pages for the other, too


class Record:
    """The pairs measured so far; each is on disk at once, so that a run can be cut into pieces."""

    def __init__(self, path: Path):
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.pairs = [Pair(**json.loads(line)) for line in lines]

    def add(self, pair: Pair) -> None:
        self.pairs.append(pair)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(asdict(pair)) + "\n")
        text = f"{pair.row}, {pair.threads} threads, {pair.other}: "
        text += f"{pair.ours_s:.3f} / {pair.other_s:.3f} = {pair.ours_s / pair.other_s:.2f}"
        print(f"{text} (DSC {pair.dsc:.4f}, others {pair.others:.0%})", flush=True)
