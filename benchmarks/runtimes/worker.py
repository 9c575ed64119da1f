"""The command line of a runtime: `SCRIPT case|serve THREADS [IN OUT] [FLAGS]`.

`case` segments one npz and ends: a cold run. `serve` loads the model and times what it is told
line by line: "encode", "decode N" (seconds), "masks FILE" (the masks of 125 boxes).
"""

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
            print("0", flush=True)
            continue
        boxes = many_boxes(int(argument)) if command == "decode" else None
        start = time.perf_counter()
        if command == "encode":
            backend.encode(image)
        else:
            backend.decode(embedding, boxes)
        print(time.perf_counter() - start, flush=True)
