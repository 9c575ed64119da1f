"""A folder of them, with odd names and links; which of its cases must be segmented."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.batch.hostile import archives, arrays, pickles, prompts
from tests.batch.hostile.making import Random, good, zipped

FAMILIES: dict[str, tuple[Callable[[Random], bytes], int]] = {
    "truncated": (archives.truncated, 35),
    "flipped": (archives.flipped, 60),
    "header": (arrays.header_flipped, 35),
    "garbage": (archives.garbage, 12),
    "keys": (archives.wrong_keys, 25),
    "dtype": (arrays.dtype, 45),
    "shape": (arrays.shape, 45),
    "strip": (arrays.strip, 20),
    "declared": (arrays.declared, 35),
    "values": (arrays.values, 25),
    "boxes": (prompts.boxes, 30),
    "extreme": (prompts.extreme_boxes, 12),
    "pickled": (pickles.pickled, 12),
    "bomb": (archives.bomb, 6),
    "zip": (archives.odd_zip, 20),
}

# Names that are no trouble but in a careless program; each holds a good case.
NAMES = [
    b"a b;touch pwned.npz", b"$(touch pwned).npz", b"-o.npz", b"--help.npz", b"%s%n.npz", b"~.npz",
    b"a..npz", b"a....npz", b"a\nb.npz", b"a\x1b[31mred.npz", "ü漢字🙂.npz".encode(),
    b"\xff\xfe.npz",
    "\u202ezpn.npz".encode(), b"x" * 251 + b".npz", b"NUL.npz", b"efficiency.csv.npz", b"'\".npz",
    b"a\\b.npz", b" .npz", b"case.NPZ",
]  # fmt: skip


def write_all(folder: Path, seed: int = 0) -> set[str]:
    """Fills a folder; returns the names of the cases that must be segmented."""
    rng = np.random.default_rng(seed)
    for family, (make, count) in FAMILIES.items():
        for index in range(count):
            (folder / f"{family}_{index:02}.npz").write_bytes(make(rng))
    for name in NAMES:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(zipped(good(rng)))
    for index in range(10):
        (folder / f"good_{index}.npz").write_bytes(zipped(good(rng)))
    (folder / "many_boxes.npz").write_bytes(prompts.many_boxes(rng))
    return _links(folder) | {os.fsdecode(name) for name in NAMES} | {"many_boxes.npz"} | {
        f"good_{index}.npz" for index in range(10)
    }  # fmt: skip


def _links(folder: Path) -> set[str]:
    (folder / "link_good.npz").symlink_to("good_0.npz")
    (folder / "link_dangling.npz").symlink_to("nothing.npz")
    (folder / "link_loop.npz").symlink_to("link_loop.npz")
    (folder / "link_folder.npz").symlink_to("/")
    (folder / "link_device.npz").symlink_to("/dev/zero")
    (folder / "folder.npz").mkdir()
    os.mkfifo(folder / "pipe.npz")
    return {"link_good.npz"}
