"""The command line of a runtime: `SCRIPT case|serve THREADS [IN OUT] [FLAGS]`.

`case` segments one npz and ends: a cold run. `serve` loads the model and times what it is told
line by line: "encode", "decode N", "masks FILE" (writes the masks of 125 boxes).
"""

import os
import sys
import time
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]  # in PYTHONPATH, for the tests' oracle
MODELS = REPOSITORY / "work_dir" / "benchmark"
PICTURE = REPOSITORY / "demo" / "imgs" / "2DBox_Fundus_retina.npz"


def main(load, together=True):
    """load(threads) -> backend, as algorithm.py wants it."""
    mode, threads = sys.argv[1], int(sys.argv[2])
    backend = load(threads)
    if mode == "case":
        from algorithm import segment_case

        seconds = segment_case(backend, sys.argv[3], sys.argv[4], together)
        print(f'{{"segment": {seconds}}}')
        return
    from algorithm import to_input

    with np.load(PICTURE) as case:
        serve(backend, to_input(case["imgs"]))


def many_boxes(count):
    """Boxes in the input frame, the same ones everywhere."""
    rng = np.random.default_rng(0)
    low = rng.integers(0, 180, (125, 2))
    return np.concatenate([low, low + rng.integers(12, 76, (125, 2))], 1)[:count].astype(np.float32)


def serve(backend, image):
    embedding = backend.encode(image)
    backend.decode(embedding, many_boxes(8))
    print("ready", flush=True)
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "masks":
            np.save(argument, np.asarray(backend.decode(embedding, many_boxes(125))) > 0)
            print("0 0", flush=True)
        elif command == "encode":
            print(*timed(lambda: backend.encode(image)), flush=True)
        else:
            boxes = many_boxes(int(argument))
            print(*timed(lambda boxes=boxes: backend.decode(embedding, boxes)), flush=True)


def timed(work):
    """Seconds of one call, the mean of as many as take a third of a second, after one that is not
    counted; and the share of the CPUs that other processes took."""
    work()
    count, seconds, own, busy = 0, 0.0, time.process_time(), busy_seconds()
    start = time.perf_counter()
    while seconds < 0.3:
        work()
        count, seconds = count + 1, time.perf_counter() - start
    others = busy_seconds() - busy - (time.process_time() - own)
    return seconds / count, max(0.0, others) / seconds / os.cpu_count()


def busy_seconds():
    """CPU time of the whole machine (Linux): all but idle and waiting."""
    times = [int(field) for field in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return (sum(times) - times[3] - times[4]) / os.sysconf("SC_CLK_TCK")
