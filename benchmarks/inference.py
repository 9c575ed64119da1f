"""Times this project beside PyTorch, ONNX Runtime and OpenVINO with the same weights.

    pip install -c constraints.txt -r benchmarks/requirements.txt
    python benchmarks/inference.py

Every figure is a pair of adjacent measurements, ours and another's, on the same CPUs; the table
(benchmarks/RESULTS_inference_KIND_jaxlib_VERSION.md, KIND of the processor, and printed) gives
medians of the pairs and of their ratios. The pairs are kept in work_dir/benchmark, each as soon as
it is measured, and the table is written anew after every row: --rows and --against measure a part,
and a later call adds to it; --fresh starts anew, --report only writes the table. All rows take 25
minutes on 2 quiet cores; --pairs sets how many pairs, of every row alike. Masks are compared with
ours in every cold run. Runs during which other processes take more than 8 % of the machine are
repeated.
"""

import argparse
import importlib.metadata
import subprocess
import sys

import bench_cases
import numpy as np
from bench_report import profile_path, write_report
from measuring import (
    OURS,
    OURS_BFLOAT16,
    OURS_FLOAT32,
    REPOSITORY,
    RUNTIMES,
    BenchmarkError,
    Pair,
    Record,
    Worker,
    agreement,
    child_environment,
    confined_to,
    processor_kind,
    run_cold,
)

WORK = REPOSITORY / "work_dir" / "benchmark"
# A result belongs to a kind of processor and a version: pairs of others are not mixed in.
NAME = f"{processor_kind()}_jaxlib_{importlib.metadata.version('jaxlib')}"
REPORT = REPOSITORY / "benchmarks" / f"RESULTS_inference_{NAME}.md"
SAME = 0.999  # DSC
EXPORTED = ("ONNX Runtime", "OpenVINO")
COLD = {
    "cold-2d": ("picture", ("reference script", "torch alone", *EXPORTED)),
    "cold-3d-1": ("volume_1_box", ("reference script", *EXPORTED)),
    "cold-3d-8": ("volume_8_boxes", ("torch, cached", *EXPORTED)),
}
WARM = {
    "encoder": ("encode", ("torch alone", *EXPORTED)),
    **{f"decoder-{n}": (f"decode {n}", ("torch alone", *EXPORTED)) for n in (1, 8, 32, 125)},
}
# Ours in bfloat16, whose masks are compared but need not be the same.
LOW = ("OpenVINO, its default precision", OURS_FLOAT32)
COLD |= {f"{row}-bfloat16": (COLD[row][0], LOW) for row in ("cold-2d", "cold-3d-8")}
WARM |= {"encoder-bfloat16": ("encode", LOW)}
MEMORY = {"memory-picture": "large_picture", "memory-volume": "large_volume"}
PROFILE = "profile"
# In this order, what matters most first; pairs with all threads, and with fewer.
PAIRS = {
    "cold-2d": (7, 3),
    "encoder": (9, 3),
    "decoder-1": (7, 3),
    "decoder-8": (5, 3),
    "decoder-32": (3, 1),
    "decoder-125": (2, 1),
    PROFILE: (1, 0),
    "encoder-bfloat16": (7, 3),
    "cold-2d-bfloat16": (7, 3),
    "cold-3d-8-bfloat16": (3, 1),
    "cold-3d-8": (3, 1),
    "cold-3d-1": (2, 1),
    "memory-picture": (1, 0),
    "memory-volume": (1, 0),
}
ROWS = tuple(PAIRS)


def prepare() -> None:
    """Programs stored, graphs exported; OpenVINO fills its cache in the first, untimed run."""
    commands = [["-m", "litemedsam_jax", "compile"]]
    commands.append([*commands[0], "--precision", "bfloat16"])
    if not (WORK / "decoder.xml").exists():
        commands.append([str(RUNTIMES / "export.py")])
    for command in commands:
        subprocess.run(
            [sys.executable, *command], cwd=REPOSITORY, env=child_environment(), check=True
        )


def measure_cold(row: str, threads: int, count: int, args, record: Record) -> None:
    name, others = COLD[row]
    case = bench_cases.write(name, WORK / "cases")
    if args.full and row == "cold-3d-8":
        others = ("reference script", *others)
    folder, mine = WORK / "masks", ours_in(row)
    for who in (mine, *others):
        (folder / who).mkdir(parents=True, exist_ok=True)
    chosen = [other for other in others if not args.against or other in args.against]
    if not args.no_first_run:  # page cache, and what runtimes store
        short = bench_cases.write("picture", WORK / "cases")
        for who in (mine, *chosen):
            run_cold(who, short, threads, folder / who / short.name)
    for _ in range(count):
        for other in chosen:
            masks = {who: folder / who / case.name for who in (mine, other)}
            ours, theirs = (
                run_cold(who, case, threads, masks[who], args.huge_pages) for who in (mine, other)
            )
            dsc = agreement(*(np.load(path)["segs"] for path in masks.values()))
            pair = Pair(row, threads, other, ours.seconds, theirs.seconds)
            pair.ours_mb, pair.other_mb, pair.dsc = ours.megabytes, theirs.megabytes, dsc
            pair.segment, pair.others = theirs.segment, max(ours.others, theirs.others)
            pair.huge = args.huge_pages
            if dsc < SAME and mine == OURS:
                raise BenchmarkError(f"the masks of {other} differ from ours: DSC {dsc:.4f}")
            record.add(pair)


def measure_warm(row: str, threads: int, count: int, args, workers: "Workers", record: Record):
    command, others = WARM[row]
    for _ in range(count):
        for other in (name for name in others if not args.against or name in args.against):
            mine = ours_in(row)
            dsc = workers.agreement(mine, other)
            ours, theirs = (workers.get(who).ask(command) for who in (mine, other))
            pair = Pair(row, threads, other, ours[0], theirs[0], dsc=dsc)
            pair.others, pair.huge = max(ours[1], theirs[1]), args.huge_pages
            record.add(pair)


class Workers:
    """The runtimes that warm rows need, started when the first of these asks for them."""

    def __init__(self, threads: int, huge_pages: bool):
        self._threads, self._huge_pages = threads, huge_pages
        self._running: dict[str, Worker] = {}
        self._agreement: dict[tuple[str, str], float] = {}

    def get(self, who: str) -> Worker:
        if who not in self._running:
            self._running[who] = Worker(who, self._threads, self._huge_pages)
        return self._running[who]

    def agreement(self, mine: str, who: str) -> float:
        """DSC of its masks and ours, the smallest of 125 boxes."""
        if (mine, who) not in self._agreement:
            dsc = agreement(self.get(mine).masks(), self.get(who).masks())
            if dsc < SAME and mine == OURS:
                raise BenchmarkError(f"the masks of {who} differ from ours: DSC {dsc:.4f}")
            self._agreement[mine, who] = dsc
        return self._agreement[mine, who]

    def close(self) -> None:
        """Ends them all, so that cold rows have the memory to themselves."""
        while self._running:
            self._running.popitem()[1].close()


def ours_in(row: str) -> str:
    """Which of ours a row is about."""
    return OURS_BFLOAT16 if row.endswith("-bfloat16") else OURS


def measure_memory(row: str, threads: int, record: Record) -> None:
    case = bench_cases.write(MEMORY[row], WORK / "cases")
    folder = WORK / "masks" / OURS
    folder.mkdir(parents=True, exist_ok=True)
    run = run_cold(OURS, case, threads, folder / case.name, tries=1)
    record.add(Pair(row, threads, OURS, run.seconds, run.seconds, run.megabytes, run.megabytes))


def measure_profile() -> None:
    """Our own cold case by stage, into a file that the report takes in."""
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "profile_cold.py")]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=child_environment(), check=True, capture_output=True, text=True
    )
    profile_path(WORK, REPORT).write_text(
        done.stdout[done.stdout.index("2DBox") :], encoding="utf-8"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--threads", type=int, nargs="+", default=[2, 1], help="CPUs used (default: 2 1)")
    add("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    add("--against", nargs="+", metavar="RUNTIME", help="only these of the others")
    add("--pairs", type=int, metavar="N", help="of each row (default: 1 to 9, by its length)")
    add(
        "--full",
        action="store_true",
        help="also run the reference's algorithm on all 8 boxes (minutes a run); else it is scaled "
        "from the case with 1 box by the number of encoder passes",
    )
    add("--huge-pages", action="store_true", help="huge pages for the others as well as for us")
    add("--fresh", action="store_true", help="forget the pairs measured before")
    add("--no-prepare", action="store_true", help="nothing is compiled or exported")
    add("--no-first-run", action="store_true", help="no untimed run before the timed ones")
    add("--report", action="store_true", help="only write the table")
    add("--note", default="", help="a sentence for the table, on the state of the machine")
    return parser.parse_args()


def main() -> None:
    args = parse()
    path = WORK / f"pairs_{NAME}.jsonl"
    if args.fresh:
        for old in (path, profile_path(WORK, REPORT)):
            old.unlink(missing_ok=True)
    record = Record(path)
    if not args.report:
        if not args.no_prepare:
            prepare()
        for threads in args.threads:
            measure(threads, args, record)
    print(report(record, args))


def report(record: Record, args: argparse.Namespace) -> str:
    return write_report(record.pairs, bench_cases, WORK, REPORT, args.note)


def measure(threads: int, args: argparse.Namespace, record: Record) -> None:
    """All chosen rows, confined to so many CPUs; the report is written after each."""
    workers = Workers(threads, args.huge_pages)
    with confined_to(threads):
        try:
            for row in (row for row in ROWS if row in args.rows):
                most = threads == max(args.threads)
                count = PAIRS[row][0 if most else 1]
                if not count:
                    continue
                count = args.pairs or count
                if row in WARM:
                    measure_warm(row, threads, count, args, workers, record)
                    report(record, args)
                    continue
                workers.close()
                if row in COLD:
                    measure_cold(row, threads, count, args, record)
                elif row in MEMORY:
                    measure_memory(row, threads, record)
                else:
                    measure_profile()
                report(record, args)
        finally:
            workers.close()


if __name__ == "__main__":
    main()
