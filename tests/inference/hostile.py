"""Hostile and broken cases by the hundred, from a seed; and a process that segments them.

`python -m tests.inference.hostile FOLDER MASKS boxes|gt` segments a folder with the fake engine and
prints one JSON object: what was done, what failed, all lines, the peak of memory.
"""

import io
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

Members = dict[str, bytes]
Random = np.random.Generator

DTYPES = [
    *"?bBhHiIlLqQefdgFDG",
    *("S5", "U3", "V4", "M8[s]", "m8[D]", ">u2", ">f4", "<i8"),
]


def npy(array: np.ndarray, pickled: bool = False) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=pickled)
    return stream.getvalue()


def header(shape: str, descr: str = "'|u1'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin1")


def zipped(members: Members, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def good(rng: Random, volume: bool | None = None) -> Members:
    """A case without a fault, small."""
    if volume is None:
        volume = bool(rng.integers(2))
    height, width, depth = rng.integers(2, 60), rng.integers(2, 60), rng.integers(1, 5)
    shape = (depth, height, width) if volume else (height, width, 3)
    image = rng.integers(0, 256, shape, np.uint8)
    count = rng.integers(1, 4)
    corners = np.sort(rng.integers(0, [width, height, depth], (2, count, 3)), axis=0)
    boxes = np.concatenate(corners[..., : 3 if volume else 2], axis=1)
    gts = rng.integers(0, 3, shape[: 3 if volume else 2], np.uint8)
    return {
        "imgs.npy": npy(image),
        "boxes.npy": npy(boxes),
        "gts.npy": npy(gts),
        "spacing.npy": npy(np.array([1.0, 1.0, 2.5])),
    }


def _truncated(rng: Random) -> bytes:
    content = zipped(good(rng))
    return content[: rng.integers(0, len(content))]


def _flipped(rng: Random) -> bytes:
    method = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    content = bytearray(zipped(good(rng), method[rng.integers(4)]))
    # The directory at the end and the array headers matter most.
    start = rng.choice([0, 0, len(content) - 300])
    for _ in range(rng.integers(1, 9)):
        content[rng.integers(max(start, 0), len(content))] ^= 1 << rng.integers(8)
    return bytes(content)


def _header_flipped(rng: Random) -> bytes:
    members = good(rng)
    key = list(members)[rng.integers(4)]
    content = bytearray(members[key])
    for _ in range(rng.integers(1, 6)):
        content[rng.integers(0, 128)] = rng.integers(32, 127) if rng.random() < 0.8 else 0
    return zipped(members | {key: bytes(content)})


def _garbage(rng: Random) -> bytes:
    start = [b"", b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY\x01\x00", b"\x1f\x8b"]
    return start[rng.integers(5)] + rng.bytes(int(rng.choice([0, 1, 22, 100, 5000])))


def _wrong_keys(rng: Random) -> bytes:
    members = good(rng)
    key = list(members)[rng.integers(3)]
    content = members.pop(key)
    names = [
        "{}",
        "IMGS.npy",
        "a/{}",
        "../{}",
        "/etc/{}",
        "{}.npy",
        "{}\x00.npy",
        "é\n{}",
        "x" * 9999,
    ]
    name = names[rng.integers(len(names))].format(key)
    return zipped(members | ({name: content} if rng.random() < 0.8 else {}))


def _dtype(rng: Random) -> bytes:
    members = good(rng)
    key = ["imgs", "boxes", "gts", "spacing"][rng.integers(4)] + ".npy"
    array = np.lib.format.read_array(io.BytesIO(members[key]))
    dtype = np.dtype(DTYPES[rng.integers(len(DTYPES))])
    array = array.astype("S5").astype(dtype) if dtype.kind == "V" else array.astype(dtype)
    return zipped(members | {key: npy(array)})


def _shape(rng: Random) -> bytes:
    members = good(rng)
    key = ["imgs", "imgs", "boxes", "gts", "spacing"][rng.integers(5)] + ".npy"
    sides = rng.choice([0, 1, 1, 2, 3, 4, 6, 40], rng.integers(0, 6))
    return zipped(members | {key: npy(np.ones(sides, np.uint8))})


def _strip(rng: Random) -> bytes:
    shapes = [(1, 5000), (5000, 1), (1, 1), (2, 5000), (1, 5000, 3), (5000, 1, 3), (1, 1, 3)]
    shapes += [(3, 1, 5000), (2, 5000, 1), (1, 1, 1), (5000, 1, 1), (700, 3, 3)]
    shape = shapes[rng.integers(len(shapes))]
    volume = len(shape) == 3 and (shape[-1] != 3 or bool(rng.integers(2)))
    size = shape[::-1] if volume else (shape[1], shape[0])
    first, last = np.zeros(len(size), int), np.array(size) - 1
    if volume:
        last[2] = min(last[2], 3)
    gts = np.ones(shape if volume else shape[:2], np.uint8)
    gts[5:] = 0
    return zipped(
        {
            "imgs.npy": npy(rng.integers(0, 256, shape, np.uint8)),
            "boxes.npy": npy(np.concatenate([first, last])[None]),
            "gts.npy": npy(gts),
        }
    )


def _declared(rng: Random) -> bytes:
    shapes = ["(10**9, 10**9)", "(99999, 99999)", "(1073741825,)", "(-5, 5)", "(0, 1<<62)", "()"]
    shapes += ["(2147483648, 4)", "(" + "9," * 200 + ")", "(4294967296, 4294967296, 3)", "(True,)"]
    shapes += ["(40000, 40000, 3)", "(30000, 30000)", "(1.5, 2)", "None", "'x'", "(0, 0)"]
    types = ["'|u1'", "'<f8'", "'|O'", "'<U99999999'", "'|V0'", "'|S0'", "[('a', '|u1')]", "'<c8'"]
    key = ["imgs", "boxes", "gts", "spacing"][rng.integers(4)] + ".npy"
    shape = shapes[rng.integers(len(shapes))].replace("10**9", "1000000000")
    content = header(shape.replace("1<<62", str(1 << 62)), types[rng.integers(len(types))])
    return zipped(good(rng) | {key: content + rng.bytes(rng.integers(100))})


def _values(rng: Random) -> bytes:
    members = good(rng)
    key = ["imgs.npy", "boxes.npy", "spacing.npy"][rng.integers(3)]
    array = np.lib.format.read_array(io.BytesIO(members[key])).astype(np.float64)
    odd = [np.nan, np.inf, -np.inf, -1, 256, 1e308, -1e308, 5e-324, -0.0, 255.9999, 1e300]
    array.flat[rng.integers(array.size)] = odd[rng.integers(len(odd))]
    dtype = [np.float64, np.longdouble][rng.integers(2)]
    return zipped(members | {key: npy(array.astype(dtype))})


def _boxes(rng: Random) -> bytes:
    volume = bool(rng.integers(2))
    columns, count = 6 if volume else 4, int(rng.choice([0, 1, 5, 300]))
    scale = float(rng.choice([1, 30, 1000, 1e15]))
    boxes = rng.normal(20, scale, (count, columns))
    integers = [np.int16, np.int64, np.uint64, np.uint8]
    if rng.random() < 0.5:
        with np.errstate(invalid="ignore"):
            boxes = boxes.astype(integers[rng.integers(4)])
    return zipped(good(rng, volume) | {"boxes.npy": npy(boxes)})


def _extreme_boxes(rng: Random) -> bytes:
    volume = bool(rng.integers(2))
    info = np.iinfo([np.int64, np.uint64, np.int8][rng.integers(3)])
    boxes = rng.choice(np.array([info.min, info.max, 0, 1], info.dtype), (3, 6 if volume else 4))
    return zipped(good(rng, volume) | {"boxes.npy": npy(boxes)})


class _Trap:
    def __reduce__(self):
        return os._exit, (86,)


def _pickled(rng: Random) -> bytes:
    trap = np.empty(2, object)
    trap[:] = [_Trap(), 1]
    key = ["imgs.npy", "boxes.npy", "gts.npy", "spacing.npy"][rng.integers(4)]
    bare = pickle.dumps(_Trap())
    if rng.random() < 0.2:
        return bare
    return zipped(good(rng) | {key: npy(trap, True) if rng.random() < 0.6 else bare})


def _bomb(rng: Random) -> bytes:
    members, zeros = good(rng, False), b"\0" * (48 << 20)
    kind = rng.integers(4)
    if kind == 0:
        return zipped({"imgs.npy": header("(9999, 99999, 3)") + zeros} | members)
    if kind == 1:  # more than it declares
        return zipped(members | {"imgs.npy": npy(np.zeros((9, 9), np.uint8)) + zeros})
    if kind == 2:
        return zipped(members | {f"{index}.npy": b"" for index in range(20_000)})
    return zipped(members | {"boxes.npy": npy(np.zeros((6 << 20, 4), np.uint8))})


def _odd_zip(rng: Random) -> bytes:
    content = bytearray(zipped(good(rng)))
    kind = rng.integers(6)
    directory = content.rfind(b"PK\x01\x02")
    if kind == 0:  # encrypted, it says
        for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
            content[content.find(mark) + offset] |= 1
    elif kind == 1:  # an unknown compression
        content[content.find(b"PK\x01\x02") + 10] = 77
    elif kind == 2:  # a name that is no UTF-8, though it says so
        content[directory + 9] |= 8
        content[directory + 46] = 0xFF
    elif kind == 3:  # the end says that the directory lies elsewhere
        content[-6:-2] = int(rng.integers(1 << 32)).to_bytes(4, "little")
    elif kind == 4:  # sizes that are not so
        at = content.find(b"PK\x01\x02")
        content[at + 20 : at + 28] = rng.bytes(8)
    else:  # an offset of a member that is not so
        content[directory + 42 : directory + 46] = rng.bytes(4)
    return bytes(content)


FAMILIES: dict[str, tuple[Callable[[Random], bytes], int]] = {
    "truncated": (_truncated, 35),
    "flipped": (_flipped, 60),
    "header": (_header_flipped, 35),
    "garbage": (_garbage, 12),
    "keys": (_wrong_keys, 25),
    "dtype": (_dtype, 45),
    "shape": (_shape, 45),
    "strip": (_strip, 20),
    "declared": (_declared, 35),
    "values": (_values, 25),
    "boxes": (_boxes, 30),
    "extreme": (_extreme_boxes, 12),
    "pickled": (_pickled, 12),
    "bomb": (_bomb, 6),
    "zip": (_odd_zip, 20),
}

# Names that are no trouble but in a careless program; each holds a good case.
NAMES = [
    b"a b;touch pwned.npz", b"$(touch pwned).npz", b"-o.npz", b"--help.npz", b"%s%n.npz", b"~.npz",
    b"a..npz", b"a....npz", b"a\nb.npz", b"a\x1b[31mred.npz", "ü漢字🙂.npz".encode(),
    b"\xff\xfe.npz",
    "\u202ezpn.npz".encode(), b"x" * 230 + b".npz", b"NUL.npz", b"efficiency.csv.npz", b"'\".npz",
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
    (folder / "many_boxes.npz").write_bytes(_many_boxes(rng))
    return _links(folder) | {os.fsdecode(name) for name in NAMES} | {"many_boxes.npz"} | {
        f"good_{index}.npz" for index in range(10)
    }  # fmt: skip


def _many_boxes(rng: Random) -> bytes:
    boxes = rng.integers(0, 60, (10_000, 4))
    gts = np.zeros((64, 64), np.uint8)
    return zipped(
        {"imgs.npy": npy(np.ones((64, 64), np.uint8)), "boxes.npy": npy(boxes), "gts.npy": npy(gts)}
    )


def _links(folder: Path) -> set[str]:
    (folder / "link_good.npz").symlink_to("good_0.npz")
    (folder / "link_dangling.npz").symlink_to("nothing.npz")
    (folder / "link_loop.npz").symlink_to("link_loop.npz")
    (folder / "link_folder.npz").symlink_to("/")
    (folder / "link_device.npz").symlink_to("/dev/zero")
    (folder / "folder.npz").mkdir()
    os.mkfifo(folder / "pipe.npz")
    return {"link_good.npz"}


def main(inputs: str, outputs: str, prompts: str) -> None:
    """Segments the folder with the fake engine; prints the report."""
    from litemedsam_jax.inference.batch import BatchOptions, segment_folder
    from litemedsam_jax.inference.predictor import LiteMedSAM
    from tests.inference.fake import FakeEngine

    LiteMedSAM.from_pretrained = lambda *_: LiteMedSAM(FakeEngine(record=False))  # type: ignore[method-assign]
    lines: list[str] = []
    options = BatchOptions(Path(inputs), Path(outputs), Path("none"), prompts)
    summary = segment_folder(options, lines.append)
    report = {
        "done": summary.done,
        "failed": summary.failed,
        "lines": lines,
        "peak": _peak_memory(),
    }
    print(json.dumps(report))


def _peak_memory() -> int:
    """Bytes. Linux's own count: getrusage starts from what the parent process held."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
