"""Where the time of our own cold case goes, stage by stage.

    python benchmarks/profile_cold.py [CASE.npz] [--runs 9]

Each run is a fresh process, as predict.sh starts it, with the functions of each stage wrapped by a
clock. Medians in milliseconds: when a stage started after the process, and how long it took. A
program is loaded in a thread of its own while other stages go on; what had to wait for it shows in
`encode` and `decode`, of which the table tells the waiting apart. The clock itself and importing
everything first, not along the way, cost some 20 ms.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from threading import current_thread, main_thread

REPOSITORY = Path(__file__).resolve().parents[1]
TUNABLES = "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1"  # as predict.sh sets them
CASE = REPOSITORY / "demo" / "imgs" / "2DBox_Fundus_retina.npz"


class Clock:
    """Spans (stage, start, seconds) since the parent started this process."""

    def __init__(self, start: float):
        self.start = start
        self.spans: list[tuple[str, float, float]] = []

    def now(self) -> float:
        return time.time() - self.start

    def wrap(self, owner: object, name: str, stage: str) -> None:
        function: Callable = getattr(owner, name)

        def timed(*args, **options):
            begin = self.now()
            try:
                return function(*args, **options)
            finally:
                thread = "" if current_thread() is main_thread() else " (thread)"
                told = f" {args[0].name}" if stage == "load program" else ""
                self.spans.append((stage + told + thread, begin, self.now() - begin))

        setattr(owner, name, timed)


def child(start: float, case: Path, outputs: Path) -> None:
    """One run; prints its spans."""
    clock = Clock(start)
    clock.spans.append(("interpreter", 0.0, clock.now()))
    begin = clock.now()
    sys.path.insert(0, str(REPOSITORY))
    from litemedsam_jax import cli, process

    process.apply(process.ProcessNeeds(quick_start=True))
    # Wrapped where they are defined, before others import them from there.
    from litemedsam_jax.imaging import case as case_files
    from litemedsam_jax.imaging import input_frame, npz
    from litemedsam_jax.weights import load

    for owner, name, stage in (
        (case_files, "read_case", "read"),
        (npz, "write_npz", "write"),
        (load, "open_model", "map weights"),
        (input_frame, "to_input", "resize (imports OpenCV)"),
        (input_frame, "mask_from_logits", "mask from logits"),
    ):
        clock.wrap(owner, name, stage)
    from litemedsam_jax.engine import engine, executables

    clock.spans.append(("imports (NumPy)", begin, clock.now() - begin))
    for owner, name, stage in (
        (engine.Engine, "__init__", "map folded weights, start loading"),
        (executables.PendingExecutable, "get", "load program"),
        (executables.StoredExecutables, "bind", "wait for program, give weights"),
        (engine.Engine, "encode", "encode"),
        (engine.Engine, "decode", "decode"),
    ):
        clock.wrap(owner, name, stage)
    begin = clock.now()
    status = cli.main(["-i", str(case), "-o", str(outputs)], command="segment")
    clock.spans.append(("whole command", begin, clock.now() - begin))
    print(json.dumps(clock.spans), flush=True)
    os._exit(status)  # as infer.py does


def run(case: Path) -> dict[str, tuple[float, float]]:
    """Stage -> start and seconds, summed over its calls."""
    with tempfile.TemporaryDirectory() as outputs:
        start = time.time()
        command = [sys.executable, __file__, str(case), "--child", str(start), outputs]
        environment = dict(os.environ, GLIBC_TUNABLES=TUNABLES)
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment, check=True, capture_output=True, text=True
        )
        end = time.time() - start
    stages: dict[str, tuple[float, float]] = {}
    last = 0.0
    for stage, begin, seconds in json.loads(done.stdout.splitlines()[-1]):
        before = stages.get(stage, (begin, 0.0))
        stages[stage] = before[0], before[1] + seconds
        last = max(last, begin + seconds)
    stages["exit"] = (last, end - last)
    stages["total"] = (0.0, end)
    return stages


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", nargs="?", type=Path, default=CASE, help="default: %(default)s")
    parser.add_argument("--runs", type=int, default=9, help="default: %(default)s")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(float(args.child[0]), args.case, Path(args.child[1]))
    subprocess.run([sys.executable, "-m", "litemedsam_jax", "compile"], cwd=REPOSITORY, check=True)
    run(args.case)
    runs = [run(args.case.resolve()) for _ in range(args.runs)]
    print(f"{args.case.name}, median of {args.runs} runs\n")
    print("| stage | starts at ms | takes ms | fastest |\n|---|---|---|---|")
    stages = sorted(runs[-1], key=lambda stage: runs[-1][stage][0])
    for stage in [*(s for s in stages if s != "total"), "total"]:
        found = [run[stage] for run in runs if stage in run]
        begin, took = (1000 * median(values) for values in zip(*found, strict=True))
        fastest = 1000 * min(seconds for _, seconds in found)
        print(f"| {stage} | {begin:.0f} | {took:.0f} | {fastest:.0f} |")


if __name__ == "__main__":
    main()
