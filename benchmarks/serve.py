"""How long programs wait for `litemedsam serve`, and how much memory it takes.

    python benchmarks/serve.py [--depth 600]     # needs nninteractive-client; 2 minutes

By the real client: a CT-like volume (depth x 512 x 512, int16) sent; then pairs, in turn, of a box
until its crop is in the client's buffer, and of the same call in this process, on slices that are
encoded: of one slice, and through the volume; the first box after the image, whose slices are not
all encoded; the server's memory at its highest, with one session and with three.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
SIDE, RADII, PAIRS = 512, (9, 60, 70), 9


def phantom(depth: int) -> np.ndarray:
    """A body in air with an ellipsoid in its middle, and grain as of a CT; int16, in HU."""
    rng = np.random.default_rng(0)
    grain = [cv2.GaussianBlur(rng.normal(0, 30, (SIDE, SIDE)), (0, 0), 1.5) for _ in range(16)]
    volume = np.tile(np.asarray(grain, np.int16), (-(-depth // 16), 1, 1))[:depth]
    z, y, x = np.ogrid[-RADII[0] : RADII[0] + 1, :SIDE, :SIDE]
    body = ((y - 256) / 150) ** 2 + ((x - 256) / 200) ** 2 <= 1
    volume += np.where(body[0], 30, -1000).astype(np.int16)
    inside = (z / RADII[0]) ** 2 + ((y - 256) / RADII[1]) ** 2 + ((x - 256) / RADII[2]) ** 2 <= 1
    volume[depth // 2 - RADII[0] : depth // 2 + RADII[0] + 1] += (120 * inside).astype(np.int16)
    return volume


class Server:
    """A running server."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "litemedsam_jax", "serve", "--port", "0"]
        self.process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("serving"), line
        self.address = line.split()[1]

    def connect(self, volume: np.ndarray) -> tuple[Any, np.ndarray, float]:
        """A session with an image, its buffer, and the seconds that it took."""
        from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession

        session = nnInteractiveRemoteInferenceSession(self.address)
        start = time.perf_counter()
        session.set_image(volume[None], {"spacing": [1, 1, 1]})
        buffer = np.zeros(volume.shape, np.uint8)
        session.set_target_buffer(buffer)
        return session, buffer, time.perf_counter() - start

    def peak_mebibytes(self) -> int:
        """The highest resident memory so far (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(status.split("VmHWM:")[1].split()[0]) >> 10


class InProcess:
    """The same masks, made by the same parts of the server, without HTTP."""

    def __init__(self, volume: np.ndarray):
        from litemedsam_jax.imaging.intensity import IntensityOptions
        from litemedsam_jax.serving.remote.image_intake import take_in
        from litemedsam_jax.serving.remote.server import open_model

        self.model = open_model(None, 1 << 29)
        self.image = take_in(volume[None], None, IntensityOptions("auto"))

    def mask(self, box: list[list[int]], through: bool) -> None:
        """Makes the mask of a box."""
        from litemedsam_jax.inference.strategies import REFERENCE
        from litemedsam_jax.serving.remote import part_masks
        from litemedsam_jax.serving.remote.drawn_box import DrawnBox, parts_of

        part = parts_of([DrawnBox.read(box, self.image.shape, True, through)])[0]
        arguments = (self.model, self.image.volume, part, 0, REFERENCE, lambda: False)
        found = {one.number: one for one in part_masks.slices_of(*arguments) if one.final}
        part_masks.assemble(found, 0)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--depth", type=int, default=600)
    depth = parser.parse_args().depth
    volume, middle = phantom(depth), depth // 2
    box = [[middle, middle + 1], [256 - RADII[1], 256 + RADII[1]], [256 - RADII[2], 256 + RADII[2]]]
    server = Server()
    session, buffer, sent = server.connect(volume)
    print(f"{depth}x{SIDE}x{SIDE} int16 sent and ready in {sent:.1f} s")
    first = seconds(lambda: session.add_bbox_interaction(box, True))
    slices = int(buffer.any((1, 2)).sum())
    print(f"first box, right after: {slices} slices (of {2 * RADII[0] + 1}) in {first:.2f} s")
    here = InProcess(volume)
    for through in (False, True):
        session.set_do_autozoom(through)
        served, direct = [], []
        here.mask(box, through)
        for number in range(PAIRS):
            moved = [box[0], [box[1][0] + number, box[1][1]], box[2]]
            session.reset_interactions()
            served.append(seconds(lambda b=moved: session.add_bbox_interaction(b, True)))
            direct.append(seconds(lambda b=moved, t=through: here.mask(b, t)))
        ratio = statistics.median(a / b for a, b in zip(served, direct, strict=True))
        kind = "through the volume" if through else "of one slice"
        times = [f"{1000 * statistics.median(them):.0f} ms" for them in (served, direct)]
        print(f"box {kind}, encoded: {times[0]} in the client, {times[1]} in process, {ratio:.2f}")
    print(f"memory at its highest, one session: {server.peak_mebibytes()} MiB")
    others = [server.connect(volume) for _ in range(2)]
    for other, _, _ in others:
        other.add_bbox_interaction(box, True)
    print(f"three sessions: {server.peak_mebibytes()} MiB; load {os.getloadavg()[0]:.1f}")
    for one in (session, *(other for other, _, _ in others)):
        one.close()
    server.process.terminate()


if __name__ == "__main__":
    main()
