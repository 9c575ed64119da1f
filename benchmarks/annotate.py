"""How long a user of `litemedsam annotate` waits, and how much memory the server takes.

    python benchmarks/annotate.py            # writes and opens a volume of 300x512x512, 3 minutes

Measured over HTTP, as the page asks: from the first touch of an unseen slice to its first mask, in
pairs with encoding another one; each further position of a box; ten seconds of dragging without a
pause; opening, beside reading the file alone; the server's memory at its highest.
"""

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
DEPTH, SIDE = 300, 512
PAIRS, MOVES, DRAG_SECONDS = 9, 60, 10.0


class Server:
    """A running server and one connection to it."""

    def __init__(self, image: Path, output: Path):
        command = [sys.executable, "-m", "litemedsam_jax", "annotate", image, "-o", output]
        self.process = subprocess.Popen(
            [*map(str, command), "--no-browser"], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        found = re.search(r":(\d+)/\?token=(\S+)", self.process.stdout.readline())
        assert found, "the server did not start"
        self._headers = {"Authorization": f"Bearer {found[2]}"}
        self._connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=120)

    def ask(self, path: str, body: dict | None = None) -> tuple[float, bytes]:
        """Seconds and answer of a request."""
        start = time.perf_counter()
        content = None if body is None else json.dumps(body)
        method = "GET" if body is None else "POST"
        self._connection.request(method, f"/api/v1/{path}", content, self._headers)
        answer = self._connection.getresponse()
        data = answer.read()
        assert answer.status == 200, data
        return time.perf_counter() - start, data

    def wait_for_model(self) -> None:
        """Until the model is loaded."""
        while json.loads(self.ask("workspace")[1])["model"]["state"] == "loading":
            time.sleep(0.05)

    def cpu_seconds(self) -> float:
        """What it has computed so far, all threads together (Linux).

        Where other work shares the cores this counts, and the time of an answer does not.
        """
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_megabytes(self) -> float:
        """The highest resident memory so far (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024

    def stop(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()


def write_volume(path: Path) -> None:
    """A CT-like volume: air, a body, organs, noise."""
    import SimpleITK as sitk

    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:DEPTH, :SIDE, :SIDE]
    volume = np.full((DEPTH, SIDE, SIDE), -1000, np.int16)
    body = ((x - 256) / 200) ** 2 + ((y - 256) / 140) ** 2 < 1
    volume[np.broadcast_to(body, volume.shape)] = 20
    for centre in ((180, 200), (330, 260), (250, 330)):
        ball = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) + ((z - 150) * 0.4) ** 2 < 45**2
        volume[ball] = 120
    volume += rng.integers(-15, 15, volume.shape, np.int16)
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing((0.8, 0.8, 1.0))
    sitk.WriteImage(image, str(path))


def read_seconds(path: Path) -> float:
    """Reading the file alone, in a process of its own."""
    code = (
        "import sys, time\nfrom litemedsam_jax.imaging.volumes import read_volume\n"
        "start = time.perf_counter()\nread_volume(sys.argv[1])\nprint(time.perf_counter() - start)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=REPOSITORY, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return float(run.stdout)


def box(z: int, step: int = 0) -> dict:
    """A request for a box around one of the organs, moved by some pixels."""
    return {"slice": z, "box": [130 + step, 150, 230 + step, 250], "label": 1, "client": "bench"}


def dragged(server: Server, z: int) -> list[float]:
    """Seconds of each answer while a box is moved without a pause."""
    seconds, end, step = [], time.perf_counter() + DRAG_SECONDS, 0
    while time.perf_counter() < end:
        step += 1
        seconds.append(server.ask("cases/0/predict", box(z, step % 40))[0])
    return seconds


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suffix", default=".nii", choices=(".nii", ".nii.gz"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"volume{args.suffix}")
        write_volume(path)
        reading = read_seconds(path)
        server = Server(path, Path(folder, "out"))
        try:
            server.wait_for_model()
            before = server.cpu_seconds()
            opening = server.ask("cases/0")[0] + server.ask("cases/0/slices/0/150")[0]
            opening_cpu = server.cpu_seconds() - before
            server.ask("cases/0/predict", box(0))  # loads and touches what the first one does
            firsts, encodings = [], []
            for pair in range(PAIRS):
                firsts.append(server.ask("cases/0/predict", box(20 + 2 * pair))[0])
                encode = {"slice": 21 + 2 * pair, "client": "bench"}
                encodings.append(server.ask("cases/0/encode", encode)[0])
            moves = [server.ask("cases/0/predict", box(20, k))[0] for k in range(MOVES)]
            before = server.cpu_seconds()
            drag = dragged(server, 20)
            position_cpu = (server.cpu_seconds() - before) / len(drag)
            peak = server.peak_megabytes()
        finally:
            server.stop()
    first, encoding = statistics.median(firsts), statistics.median(encodings)
    third = len(drag) // 3
    rows = (
        ("first mask of an unseen slice, s", f"{first:.3f}", f"{1.2 * encoding + 0.1:.3f}"),
        ("encoding alone, in pairs with it, s", f"{encoding:.3f}", ""),
        ("further position of the box, median, ms", f"{1e3 * statistics.median(moves):.1f}", "40"),
        ("the same, computing, all threads together, ms", f"{1e3 * position_cpu:.1f}", ""),
        (f"positions answered in {DRAG_SECONDS:.0f} s", str(len(drag)), ""),
        ("their first third, median, ms", f"{1e3 * statistics.median(drag[:third]):.1f}", ""),
        ("their last third, median, ms", f"{1e3 * statistics.median(drag[-third:]):.1f}", ""),
        (f"opening {DEPTH}x{SIDE}x{SIDE} {args.suffix}, s", f"{opening:.2f}", f"{reading + 1:.2f}"),
        ("the same, computing, s", f"{opening_cpu:.2f}", ""),
        ("reading the file alone, s", f"{reading:.2f}", ""),
        ("server's memory at its highest, MB", f"{peak:.0f}", "1200"),
    )
    print("| what | measured | at most |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
