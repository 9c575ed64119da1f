"""Bodies that no client sends, to `litemedsam serve`: it must go on and answer in a sentence.

    python -m tests.faults.fuzz_remote [--bodies 10000] [--sessions 200]

- Bodies: arrays of the protocol, changed at random (bytes flipped, cut off, lengthened, headers
  with other shapes, types and sizes), JSON likewise, headers without sense, to every path. Each
  answer is a status that clients know and, if it is a refusal, one sentence; afterwards the real
  work goes on.
- Sessions: so many one after the other, each with an image and prompts, a third of them left
  without a word; the memory of the last ones is that of the first.

The network is a fake, the server the real one, in this process. Exit status 0: all of it held.
"""

import argparse
import gc
import json
import random
import struct
import sys
from collections import Counter
from pathlib import Path

import httpx
import numpy as np

from litemedsam_jax.serving.remote import wire
from tests.support.fake_engine import FakeEngine
from tests.support.remote_server import RemoteServer

KNOWN = {200, 400, 404, 405, 408, 410, 413, 503, 504}
ARRAYS = ("/set_image", "/add_lasso_interaction", "/add_scribble_interaction",
          "/add_initial_seg_interaction")  # fmt: skip
OBJECTS = ("/set_target_buffer", "/add_bbox_interaction", "/add_point_interaction", "/undo",
           "/predict", "/set_do_autozoom", "/reset_interactions", "/heartbeat")  # fmt: skip
SHAPE = (4, 24, 32)
META = json.dumps({"include_interaction": True, "run_prediction": True,
                   "override_capability_checks": True})  # fmt: skip
SENSELESS = (None, True, -1, 2**70, 1e308, "x", [], {}, [[1]], [[0, 9]] * 3, [["a", 2]] * 3,
             [[1e300, 2e300]] * 3, [4, 24, 32], [2**40] * 3, "uint8", "object")  # fmt: skip


class Fuzz:
    """A server, and what is sent to it."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.server = RemoteServer(FakeEngine(record=False), memory_bytes=256 << 20)
        self.http = httpx.Client(base_url=self.server.address, timeout=60)
        self.statuses: Counter[int] = Counter()
        image = np.arange(np.prod(SHAPE), dtype=np.uint8).reshape(1, *SHAPE)
        self.image = wire.pack(image)
        self.mask = wire.pack((image[0] > 99).astype(np.uint8))
        self.begin()

    def begin(self) -> None:
        """A session with an image and a buffer."""
        self.http.headers.pop("X-Lease-Token", None)
        token = self.http.post("/claim").json()["lease_token"]
        self.http.headers["X-Lease-Token"] = token
        self.work()

    def work(self) -> None:
        """What a client does must go on as ever."""
        assert self.http.post("/set_image", content=self.image).status_code == 200
        buffer = {"shape": SHAPE, "dtype": "uint8"}
        assert self.http.post("/set_target_buffer", json=buffer).status_code == 200
        box = {"bbox_coords": [[1, 3], [4, 20], [4, 20]], "include_interaction": True}
        answer = self.http.post("/add_bbox_interaction", json=box)
        assert answer.status_code == 200 and json.loads(answer.headers["X-Meta"])["bbox"]

    def one(self) -> None:
        """One request without sense; raises AssertionError."""
        chance = self.random
        headers = {"X-Meta": META}
        if chance.random() < 0.6:
            path = chance.choice(ARRAYS)
            body = self._array(self.image if path == "/set_image" else self.mask)
        else:
            path = chance.choice(OBJECTS)
            body = self._object()
        if chance.random() < 0.1:
            headers["X-Meta"] = chance.choice(["", "{", "[" * 5000, '"x"', '{"a":NaN}', "{}"])
        if chance.random() < 0.03:
            headers["X-Lease-Token"] = chance.choice(["", "x" * 3000])
        answer = self.http.post(path, content=body, headers=headers)
        self.statuses[answer.status_code] += 1
        assert answer.status_code in KNOWN, (answer.status_code, path, answer.text)
        if answer.status_code not in (200, 404, 405):
            detail = answer.json()["detail"]
            assert detail and "\n" not in detail and "Traceback" not in detail, detail

    def _array(self, body: bytes) -> bytes:
        chance, data = self.random, bytearray(body)
        for _ in range(chance.choice((1, 1, 2, 8))):
            kind = chance.randrange(6)
            if kind == 0 and data:  # in the header more often than elsewhere
                at = chance.randrange(min(len(data), 110) if chance.random() < 0.7 else len(data))
                data[at] = chance.choice((0, 1, 127, 255, chance.randrange(256)))
            elif kind == 1:
                del data[chance.randrange(len(data) + 1) :]
            elif kind == 2:
                data += chance.randbytes(chance.choice((1, 16, 4000)))
            elif kind == 3 and len(data) > 60:
                at = chance.randrange(8, 60)
                data[at : at + 8] = struct.pack("<q", chance.choice((-1, 0, 2**31, 2**62, 7)))
            elif kind == 4 and len(data) > 100:
                at = chance.randrange(50, len(data) - 4)
                data[at : at + 4] = struct.pack("<i", chance.choice((-1, 0, 2**30, 2**31 - 1)))
            else:
                at = chance.randrange(len(data) + 1)
                data[at:at] = chance.randbytes(chance.randrange(1, 9))
        return bytes(data)

    def _object(self) -> bytes:
        chance = self.random
        names = ("bbox_coords", "include_interaction", "run_prediction", "shape", "dtype",
                 "do_autozoom", "coordinates", "force_full_refine")  # fmt: skip
        data = {name: chance.choice(SENSELESS) for name in names if chance.random() < 0.7}
        body = json.dumps(data).encode()
        if chance.random() < 0.2:
            body = body[: chance.randrange(len(body) + 1)] + chance.randbytes(3)
        return body if chance.random() > 0.02 else b"[" * 70_000


def sessions(fuzz: Fuzz, count: int) -> tuple[int, int]:
    """Resident bytes after a tenth of the sessions, and after all."""
    volume = np.random.default_rng(0).integers(0, 2000, (1, 40, 256, 256)).astype(np.int16)
    image, after = wire.pack(volume), []
    buffer = {"shape": volume.shape[1:], "dtype": "uint8"}
    for number in range(count):
        fuzz.http.post("/release")
        token = fuzz.http.post("/claim").json()["lease_token"]
        fuzz.http.headers["X-Lease-Token"] = token
        assert fuzz.http.post("/set_image", content=image).status_code == 200
        assert fuzz.http.post("/set_target_buffer", json=buffer).status_code == 200
        for z in range(4):
            box = [[z, z + 4], [10, 200], [10, 200]]
            data = {"bbox_coords": box, "include_interaction": z != 2}
            assert fuzz.http.post("/add_bbox_interaction", json=data).status_code == 200
        if number in (count // 10, count - 1):
            gc.collect()
            after.append(_resident())
    return after[0], after[1]


def _resident() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


def main() -> int:
    """Runs it; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bodies", type=int, default=10_000)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    fuzz = Fuzz(args.seed)
    try:
        for number in range(args.bodies):
            fuzz.one()
            if number % 100 == 99:
                fuzz.work()
        print(f"held: {args.bodies} bodies: {dict(sorted(fuzz.statuses.items()))}", flush=True)
        if args.sessions:
            first, last = sessions(fuzz, args.sessions)
            held = last - first < 64 << 20
            print(f"{'held' if held else 'FAULT'}: {args.sessions} sessions: resident memory "
                  f"{first >> 20} to {last >> 20} MiB")  # fmt: skip
            return int(not held)
        return 0
    finally:
        fuzz.server.stop()


if __name__ == "__main__":
    sys.exit(main())
