"""Times this project beside PyTorch, ONNX Runtime and OpenVINO with the same weights.

    pip install -c constraints.txt -r benchmarks/requirements.txt
    python benchmarks/inference.py

Every figure is a pair of adjacent measurements, ours and another's, on the same CPUs; the table
(benchmarks/RESULTS_inference.md, and printed) gives medians of the pairs and of their ratios. The
pairs are kept in work_dir/benchmark/pairs.jsonl: --rows and --against measure a part, and a later
call adds to it; --fresh starts anew, --report only writes the table. Masks are compared with ours
in every cold run. Runs during which other processes take more than 8 % of the machine are repeated.
"""

import argparse
import subprocess
import sys

import bench_cases
import numpy as np
from bench_report import write_report
from measuring import (
    OURS,
    REPOSITORY,
    RUNTIMES,
    BenchmarkError,
    Pair,
    Record,
    Worker,
    agreement,
    child_environment,
    confined_to,
    run_cold,
)

WORK = REPOSITORY / "work_dir" / "benchmark"
REPORT = REPOSITORY / "benchmarks" / "RESULTS_inference.md"
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
MEMORY = {"memory-volume": "large_volume", "memory-picture": "large_picture"}
ROWS = (*COLD, *WARM, *MEMORY)


def prepare() -> None:
    """Programs stored, graphs exported; OpenVINO fills its cache in the first, untimed run."""
    commands = [["-m", "litemedsam_jax", "compile"]]
    if not (WORK / "decoder.xml").exists():
        commands.append([str(RUNTIMES / "export.py")])
    for command in commands:
        subprocess.run(
            [sys.executable, *command], cwd=REPOSITORY, env=child_environment(), check=True
        )


def measure_cold(row: str, threads: int, rounds: int, args, record: Record) -> None:
    name, others = COLD[row]
    case = bench_cases.write(name, WORK / "cases")
    if args.full and row == "cold-3d-8":
        others = ("reference script", *others)
    folder = WORK / "masks"
    for who in (OURS, *others):
        (folder / who).mkdir(parents=True, exist_ok=True)
    chosen = [other for other in others if not args.against or other in args.against]
    if not args.no_first_run:  # page cache, and what runtimes store
        short = bench_cases.write("picture", WORK / "cases")
        for who in (OURS, *chosen):
            run_cold(who, short, threads, folder / who / short.name)
    for _ in range(rounds):
        for other in chosen:
            masks = {who: folder / who / case.name for who in (OURS, other)}
            ours, theirs = (
                run_cold(who, case, threads, masks[who], args.huge_pages) for who in (OURS, other)
            )
            dsc = agreement(*(np.load(path)["segs"] for path in masks.values()))
            pair = Pair(row, threads, other, ours.seconds, theirs.seconds)
            pair.ours_mb, pair.other_mb, pair.dsc = ours.megabytes, theirs.megabytes, dsc
            pair.segment, pair.others = theirs.segment, max(ours.others, theirs.others)
            pair.huge = args.huge_pages
            if dsc < SAME:
                raise BenchmarkError(f"the masks of {other} differ from ours: DSC {dsc:.4f}")
            record.add(pair)


def measure_warm(rows: list[str], threads: int, rounds: int, args, record: Record) -> None:
    names = dict.fromkeys(name for row in rows for name in WARM[row][1])
    names = [name for name in names if not args.against or name in args.against]
    workers = {name: Worker(name, threads, args.huge_pages) for name in (OURS, *names)}
    try:
        masks = workers[OURS].masks()
        dsc = {name: agreement(masks, workers[name].masks()) for name in names}
        if min(dsc.values()) < SAME:
            raise BenchmarkError(f"masks differ from ours: DSC {dsc}")
        for row in rows:
            command, others = WARM[row]
            for _ in range(rounds):
                for other in (other for other in others if other in names):
                    ours, theirs = (workers[who].ask(command) for who in (OURS, other))
                    pair = Pair(row, threads, other, ours[0], theirs[0], dsc=dsc[other])
                    pair.others, pair.huge = max(ours[1], theirs[1]), args.huge_pages
                    record.add(pair)
    finally:
        for worker in workers.values():
            worker.close()


def measure_memory(row: str, threads: int, record: Record) -> None:
    case = bench_cases.write(MEMORY[row], WORK / "cases")
    folder = WORK / "masks" / OURS
    folder.mkdir(parents=True, exist_ok=True)
    run = run_cold(OURS, case, threads, folder / case.name, tries=1)
    record.add(Pair(row, threads, OURS, run.seconds, run.seconds, run.megabytes, run.megabytes))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--threads", type=int, nargs="+", default=[2, 1], help="CPUs used (default: 2 1)")
    add("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    add("--against", nargs="+", metavar="RUNTIME", help="only these of the others")
    add("--rounds", type=int, default=5, help="pairs of a cold row (default: %(default)s)")
    add("--warm-rounds", type=int, default=9, help="of a warm row (default: %(default)s)")
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
    path = WORK / "pairs.jsonl"
    if args.fresh:
        path.unlink(missing_ok=True)
    record = Record(path)
    if not args.report:
        if not args.no_prepare:
            prepare()
        for threads in args.threads:
            measure(threads, args, record)
    print(write_report(record.pairs, bench_cases, WORK / "cases", REPORT, args.note))


def measure(threads: int, args: argparse.Namespace, record: Record) -> None:
    """All chosen rows, confined to so many CPUs."""
    with confined_to(threads):
        for row in args.rows:
            if row in COLD:
                measure_cold(row, threads, args.rounds, args, record)
        if warm := [row for row in args.rows if row in WARM]:
            measure_warm(warm, threads, args.warm_rounds, args, record)
        for row in args.rows:
            if row in MEMORY and threads == max(args.threads):
                measure_memory(row, threads, record)


if __name__ == "__main__":
    main()
