"""Damaged and hostile `.pth` files by the hundred, from a seed."""

import io
import os
import pickle
import pickletools
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

Random = np.random.Generator
Members = list[tuple[str, bytes]]


def write_all(folder: Path, good: Path, canary: Path, seed: int = 0) -> Iterator[Path]:
    """Writes mutants of the checkpoint `good` into `folder`; `FAMILIES` says how many of which.

    Those that hold code would make the file `canary`.
    """
    rng = np.random.default_rng(seed)
    data, members = good.read_bytes(), read_members(good)
    for family, (make, count) in FAMILIES.items():
        for index in range(count):
            path = folder / f"{family}_{index:02}.pth"
            path.write_bytes(make(rng, data, members, canary))
            yield path


def read_members(path: Path) -> Members:
    """Names and contents of a checkpoint's parts; the name's first part is `NAME/`."""
    with zipfile.ZipFile(path) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def archive(members: Members, method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", method) as out:
        warnings.simplefilter("ignore")  # of a name that is there already
        for name, content in members:
            out.writestr(name, content)
    return stream.getvalue()


def _with_pickle(members: Members, pickled: bytes) -> bytes:
    return archive([(n, pickled if n.endswith("data.pkl") else c) for n, c in members])


def _pickle_of(members: Members) -> bytes:
    return next(content for name, content in members if name.endswith("data.pkl"))


def truncated(rng: Random, data: bytes, *_) -> bytes:
    return data[: rng.integers(0, len(data))]


def flipped(rng: Random, data: bytes, *_) -> bytes:
    content = bytearray(data)
    start = rng.choice([0, 0, len(data) - 400])  # zip's directory is at the end
    for _ in range(rng.integers(1, 9)):
        content[rng.integers(start, len(data))] ^= 1 << rng.integers(8)
    return bytes(content)


def pickle_bytes(rng: Random, _: bytes, members: Members, *__) -> bytes:
    """Changes in the description alone, whose checksum is right."""
    content = bytearray(_pickle_of(members))
    for _ in range(rng.integers(1, 5)):
        at, kind = int(rng.integers(len(content))), rng.integers(3)
        if kind == 0:
            content[at] = rng.integers(256)
        elif kind == 1:
            del content[at : at + int(rng.integers(1, 9))]
        else:
            content[at:at] = rng.bytes(int(rng.integers(1, 9)))
    return _with_pickle(members, bytes(content))


def pickle_opcodes(rng: Random, _: bytes, members: Members, *__) -> bytes:
    """Instructions left out, doubled, exchanged."""
    content = _pickle_of(members)
    starts = [at for _, _, at in pickletools.genops(content)] + [len(content)]
    parts = [content[a:b] for a, b in pairwise(starts)]
    for _ in range(rng.integers(1, 4)):
        a, b = (int(index) for index in rng.integers(1, len(parts) - 1, 2))
        kind = rng.integers(3)
        if kind == 0:
            del parts[a]
        elif kind == 1:
            parts.insert(a, parts[b])
        else:
            parts[a], parts[b] = parts[b], parts[a]
    return _with_pickle(members, b"".join(parts))


class Call:
    """Pickles as a call."""

    def __init__(self, function: object, *arguments: object):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Named:
    """Pickles as a reference to `module.name`, whatever that is."""

    def __init__(self, module: str, name: str):
        self.module, self.name = module, name

    def __call__(self) -> None:
        """Never called; pickle wants functions to be callable."""


class _Pickler(pickle._Pickler):  # Python's own, in Python: it can be taught names
    dispatch = pickle._Pickler.dispatch.copy()

    def save_named(self, value: Named) -> None:
        self.write(f"c{value.module}\n{value.name}\n".encode())

    dispatch[Named] = save_named


def pickled(value: object, protocol: int) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, protocol).dump(value)
    return stream.getvalue()


def calls(canary: Path) -> list[object]:
    """Values whose unpickling makes the file `canary`, or tries something as bad."""
    touch = f"open({str(canary)!r}, 'w').close()"
    shell = f"touch '{canary}'"
    return [
        Call(os.system, shell),
        Call(Named("posix", "system"), shell),
        Call(Named("subprocess", "check_output"), ["touch", str(canary)]),
        Call(eval, touch),
        Call(exec, touch),
        Call(open, str(canary), "w"),
        Call(Named("builtins", "__import__"), "os"),
        Call(Named("__builtin__", "eval"), touch),
        Call(Named("numpy", "save"), str(canary), [1]),
        Call(Named("numpy._core.multiarray", "_reconstruct"), Named("os", "system"), (0,), b"b"),
        Call(Named("numpy", "load"), str(canary)),
        Call(Named("torch", "load"), str(canary)),
        Call(Named("torch.hub", "load"), "a/b", "c"),
        Call(Named("torch._utils", "_rebuild_tensor_v2"), Call(os.system, shell)),
        Call(Named("torch", "FloatStorage"), 1 << 40),
        Call(Named("collections.OrderedDict", "fromkeys"), "ab"),
        Call(Named("functools", "partial"), os.system, shell),
        Call(Named("operator", "attrgetter"), "__class__"),
        Call(Named("importlib", "import_module"), "os"),
        Call(Named("codecs", "encode"), "x", "rot13"),
        Call(Named("_codecs", "encode"), "x" * 50, "utf-7"),
        Call(Named("builtins", "bytearray"), 1 << 40),
        Call(Named("runpy", "run_path"), str(canary)),
        Call(Named("os", "execv"), "/bin/touch", ["touch", str(canary)]),
        Call(Named("litemedsam_jax.pickle_reader", "read_pickle"), b"."),
    ]


def code(rng: Random, _: bytes, members: Members, canary: Path) -> bytes:
    """Code to be run: bare, as a value, as a key, in an argument, as a state."""
    choices = calls(canary)
    call = choices[rng.integers(len(choices))]
    places = [
        call,
        {"model": {"weight": call}},
        [1, (2, call)],
        Call(Named("collections", "OrderedDict"), [["a", call]]),
        Call(Named("torch._utils", "_rebuild_parameter"), call, False, call),
        {"model": {}, "optimizer": call},
    ]
    protocol = int(rng.choice([0, 1, 2, 2, 2, 3, 4, 5]))
    return _with_pickle(members, pickled(places[rng.integers(len(places))], protocol))


def instructions(rng: Random, _: bytes, members: Members, canary: Path) -> bytes:
    """Old and rare ways of the pickle language to call, to name, to fill memory."""
    shell = f"S'touch {canary}'\n".encode()
    dtype, nest = b"cnumpy\ndtype\n", b"]q\x00" + b"h\x00h\x00\x86q\x00" * 60
    choices = [
        b"\x80\x02" + dtype + nest + b"\x85R.",  # to print it would take 2**60 steps
        b"\x80\x02" + dtype + b"]" + b"\x85" * 5000 + b"\x85R.",
        b"(" + shell + b"ios\nsystem\n.",
        b"(cos\nsystem\n" + shell + b"o.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93" + shell + b"\x85R.",
        b"\x80\x02cos\nsystem\n" + shell + b"\x85\x81.",
        b"\x80\x04cos\nsystem\n" + shell + b"\x85}\x92.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02\x84\xff\xff\xff\x7f.",
        b"Pstorage\n.",
        b"\x80\x05\x97.",
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
        b"\x80\x02\x8b\xff\xff\xff\x7f" + b"\x01" * 99 + b".",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b".",
        b"I" + b"9" * 100_000 + b"\n.",
        b"L" + b"9" * 100_000 + b"L\n.",
        b"\x80\x02" + b"]" * 50_000 + b"." * 2,
        b"\x80\x02]" + b"\x85" * 60_000 + b".",  # as deep as Python's stack is not
        b"\x80\x02]q\x00" + b"h\x00h\x00\x86q\x00" * 10_000 + b".",
        b"\x80\x02}(]q\x00" + b"h\x00\x85" * 5000 + b"K\x01u.",
        b"(" * 50_000 + b".",
        b"\x80\x02" + b"0" * 50 + b".",
        b"\x80\x02]q\x00h\x00a.",  # a list in itself
        b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
        b"\x80\x02X\xff\xff\xff\x7fa.",
        b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",
        b"\x80\x09.",
        b"\x80\x02N" + b"2" * 50_000 + b".",
    ]
    return _with_pickle(members, choices[rng.integers(len(choices))])


def storages(rng: Random, _: bytes, members: Members, *__) -> bytes:
    """Storages renamed, exchanged, dropped, doubled, grown and cut; names as paths."""
    members = list(members)
    where = [index for index, (name, _) in enumerate(members) if "/data/" in name]
    a, b = rng.choice(where, 2, replace=False)
    (name, content), (other, _) = members[a], members[b]
    root, key = name.rsplit("/", 1)
    names = [f"{root}/../{key}", f"/{name}", f"{root}//{key}", f"{root}\\{key}", "x" * 60_000]
    names += [f"{root}/é{key}", f"{root}/{key}\n", f"../../{key}", "/", other]
    kind = rng.integers(7)
    if kind == 0:
        members[a] = names[rng.integers(len(names))], content
    elif kind == 1:
        members[a], members[b] = (name, members[b][1]), (other, content)
    elif kind == 2:
        del members[a]
    elif kind == 3:
        members.append((name, content[::-1]))  # the same name again
    elif kind == 4:
        members[a] = name, content + rng.bytes(int(rng.integers(1, 9)))
    elif kind == 5:
        members[a] = name, content[: rng.integers(len(content))]
    else:
        members.append((f"{root.split('/')[0]}/x/data.pkl", b"."))
    return archive(members)


def tensors(rng: Random, _: bytes, members: Members, *__) -> bytes:
    """Tensors whose fields do not fit their storage."""
    odd = [-1, 0, 1, 2, 7, 1 << 31, 1 << 40, 1 << 62, 1 << 63, 1 << 200, True, 1.5, None, "3"]

    def number(usual: object) -> object:
        return odd[rng.integers(len(odd))] if rng.random() < 0.3 else usual

    shape = tuple(number(side) for side in (2, 3))
    strides = tuple(number(stride) for stride in (3, 1))
    kinds = ["FloatStorage", "DoubleStorage", "BFloat16Storage", "QInt8Storage", "UntypedStorage"]
    kind = Named("torch", kinds[rng.choice([0, 0, 0, 1, 2, 3, 4])])
    key = [members[-1][0].rsplit("/", 1)[1], "0", "0", "../data.pkl", "99", 0][rng.integers(6)]

    class Storage:
        identity = ("storage", kind, key, "cpu", number(6))

    class WithStorage(_Pickler):
        def persistent_id(self, value):
            return Storage.identity if value is Storage else None

    tensor = Named("torch._utils", "_rebuild_tensor_v2")
    stream = io.BytesIO()
    value = Call(tensor, Storage, number(0), shape, strides, False, {})
    WithStorage(stream, 2).dump({"weight": value})
    return _with_pickle(members, stream.getvalue())


def bombs(rng: Random, _: bytes, members: Members, *__) -> bytes:
    """Much out of little."""
    kind = rng.integers(4)
    if kind == 0:
        return archive(members, zipfile.ZIP_DEFLATED)
    if kind == 1:
        large = [(n, b"\x80\x02" + b"N" * (20 << 20) + b".") for n, _ in members[:1]]
        return archive(large + members[1:], zipfile.ZIP_DEFLATED)
    if kind == 2:
        return archive(members + [(f"archive/data/{n}", b"") for n in range(10_000, 25_000)])
    content = bytearray(archive(members))  # a size that is not so, where the directory has it
    at = content.find(b"PK\x01\x02")
    content[at + 20 : at + 28] = struct.pack("<2I", 0xFFFFFFF0, 0xFFFFFFF0)
    return bytes(content)


FAMILIES: dict[str, tuple[Callable[..., bytes], int]] = {
    "truncated": (truncated, 20),
    "flipped": (flipped, 30),
    "pickle_bytes": (pickle_bytes, 40),
    "pickle_opcodes": (pickle_opcodes, 30),
    "code": (code, 50),
    "instructions": (instructions, 40),
    "storages": (storages, 25),
    "tensors": (tensors, 30),
    "bombs": (bombs, 6),
}


def save_good(path: Path) -> None:
    """A small checkpoint as trainers write them."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    content["loss"] = np.float64(0.5)
    torch.save(content, path)
