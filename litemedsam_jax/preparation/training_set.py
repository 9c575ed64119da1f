"""ArrayRecord shards: training data that has outgrown a folder of files.

A shard is `slices-00007.array_record`, a record a slice, with its index beside it,
`slices-00007.jsonl`, a line a slice, written last: a shard without index is unfinished. A record is
an npz in memory: `imgs` (H, W) or (H, W, 3) uint8 and `gts` (H, W), as compact as they were.
Source of the container: https://github.com/google/array_record.
"""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from litemedsam_jax.files import replacing
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.file_kinds import modality_of
from litemedsam_jax.imaging.input_frame import Frame, resize_labels
from litemedsam_jax.imaging.labels import as_labels
from litemedsam_jax.imaging.npz import HEADERS, read_npz

SHARD_PATTERN = "slices-*.array_record"
_SLICE_NAME = re.compile(r"(?P<case>.+)-(?P<index>\d{3,})")


@dataclass(frozen=True)
class Entry:
    """A slice as the index of a source lists it.

    Attributes:
        labels: those of which at least a pixel is left at the network's input size.
        position: the slice's number in its volume; None for 2D images.
        spacing: x, y, z in mm, where known.
    """

    name: str
    case: str
    modality: str
    labels: tuple[int, ...]
    position: int | None = None
    spacing: tuple[float, ...] | None = None


@dataclass(frozen=True)
class ShardTask:
    """Cases that go into one shard."""

    path: Path
    cases: tuple[tuple[Path, Path], ...]  # file with `imgs`, file with `gts` (mostly the same)
    all_slices: bool = False


@dataclass(frozen=True)
class ShardReport:
    """What became of the cases of one shard.

    Attributes:
        written: slices.
        background: slices without any label.
        lost: slices whose every object vanishes at the network's input size.
        failed: by file why a case was left out.
    """

    written: int
    background: int
    lost: int
    failed: dict[str, str] = field(default_factory=dict)


def split_name(name: str) -> tuple[str, int | None]:
    """`X-012` is slice 12 of case X; any other name is a case of its own."""
    match = _SLICE_NAME.fullmatch(name)
    return (match["case"], int(match["index"])) if match else (name, None)


def visible_labels(gts: np.ndarray) -> tuple[int, ...]:
    """The labels of (H, W) that survive the resize to the network's input."""
    frame = Frame(*gts.shape)
    small = resize_labels(gts, frame.inner_height, frame.inner_width)
    return tuple(int(label) for label in np.unique(small) if label)


def find_training_cases(folder: Path, gts: Path | None = None) -> list[tuple[Path, Path]]:
    """Pairs of files with `imgs` and with `gts`, by name, sub-folders included.

    Args:
        folder: of the cases.
        gts: the folder of the ground truth where it has files of its own (the challenge's
            layout: `imgs/X.npz`, `gts/X.npz`).

    Raises:
        FileNotFoundError: no npz there, or none with a partner; single ones are reported when they
            are packed. CaseError: two files of one name.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() == ".npz" and not path.name.startswith(".")
    )
    if not files:
        raise FileNotFoundError(f"{folder}: no .npz in it or below it; expected training cases")
    pairs = [(path, path if gts is None else gts / path.relative_to(folder)) for path in files]
    if not any(labels.is_file() for _, labels in pairs):
        raise FileNotFoundError(f"{pairs[0][1]}: there is no such file; it should hold `gts`")
    names = [path.stem for path in files]
    twice = (
        {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()
    )
    if twice:
        raise CaseError(f"{folder}: several files are called {sorted(twice)[0]}.npz; rename them")
    return pairs


def plan_shards(
    cases: list[tuple[Path, Path]], output: Path, megabytes: int, all_slices: bool = False
) -> list[ShardTask]:
    """Groups cases into shards.

    Args:
        cases: files with `imgs` and with `gts`.
        output: folder of the shards.
        megabytes: of npz in a shard, about.
        all_slices: whether slices without objects are kept.
    """
    groups: list[list[tuple[Path, Path]]] = [[]]
    filled = 0
    for case in cases:
        size = sum(path.stat().st_size for path in set(case) if path.is_file())
        if groups[-1] and filled + size > megabytes << 20:
            groups.append([])
            filled = 0
        groups[-1].append(case)
        filled += size
    return [
        ShardTask(output / f"slices-{number:05d}.array_record", tuple(group), all_slices)
        for number, group in enumerate(groups)
    ]


def write_shard(task: ShardTask) -> ShardReport:
    """Writes one shard and its index; a case that cannot be used is left out and reported.

    Raises:
        CaseError: none of its cases can be used; nothing is written then. OSError.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    entries: list[Entry] = []
    failed: dict[str, str] = {}
    background = lost = 0
    index = task.path.with_suffix(".jsonl")
    index.unlink(missing_ok=True)
    with replacing(task.path) as beside:
        writer = ArrayRecordWriter(str(beside), "group_size:1")
        try:
            for image_path, labels_path in task.cases:
                try:
                    for entry, image, gts in read_slices(image_path, labels_path):
                        background += not gts.any()
                        lost += bool(gts.any() and not entry.labels)
                        if entry.labels or task.all_slices:
                            writer.write(_encode(image, gts))
                            entries.append(entry)
                except CaseError as error:  # of the whole case, before its first slice
                    own = image_path == labels_path
                    failed[str(image_path)] = error.reason if own else str(error)
        finally:
            writer.close()
        if len(failed) == len(task.cases):
            raise CaseError("; ".join(f"{path}: {reason}" for path, reason in failed.items()))
    with replacing(index) as beside:
        lines = "".join(json.dumps(asdict(entry)) + "\n" for entry in entries)
        beside.write_text(lines, encoding="utf-8")
    return ShardReport(len(entries), background, lost, failed)


def read_slices(
    image_path: Path, labels_path: Path
) -> Iterator[tuple[Entry, np.ndarray, np.ndarray]]:
    """The slices of one case: entry, image, labels.

    Raises:
        CaseError: one of its files cannot be used; before the first slice.
    """
    arrays = read_npz(image_path, ("imgs",), ("spacing",))
    gts = as_labels(read_npz(labels_path, ("gts",))["gts"], "gts")
    images, case, modality = arrays["imgs"], image_path.stem, modality_of(image_path.stem)
    if gts.ndim not in (2, 3) or images.shape[: gts.ndim] != gts.shape:
        raise CaseError(
            f"imgs is {images.shape} and gts {gts.shape}; expected images (H, W) or (H, W, 3) with "
            "gts (H, W), or volumes (D, H, W) or (D, H, W, 3) with (D, H, W)",
            image_path,
        )
    if images.shape[gts.ndim :] not in ((), (3,)):
        raise CaseError(f"imgs is {images.shape}; a last axis of 3 was expected", image_path)
    if images.dtype != np.uint8:
        raise CaseError(
            f"imgs is {images.dtype}; uint8 was expected, as `litemedsam prepare` writes it",
            image_path,
        )
    if gts.ndim == 2:
        yield Entry(case, case, modality, visible_labels(gts)), images, gts
        return
    spacing = tuple(float(v) for v in arrays["spacing"]) if "spacing" in arrays else None
    for z, (image, labels) in enumerate(zip(images, gts, strict=True)):
        name = f"{case}-{z:03d}"
        yield Entry(name, case, modality, visible_labels(labels), z, spacing), image, labels


def read_index(shard: Path) -> list[Entry]:
    """The entries of a shard, in the order of its records.

    Raises:
        FileNotFoundError: the shard is unfinished. CaseError: its index is damaged.
    """
    index = shard.with_suffix(".jsonl")
    if not index.is_file():
        raise FileNotFoundError(
            f"{index}: missing, so {shard.name} is unfinished; run `litemedsam pack` again"
        )
    try:
        rows = [json.loads(line) for line in index.read_text(encoding="utf-8").splitlines()]
        return [
            Entry(
                **{
                    **row,
                    "labels": tuple(row["labels"]),
                    "spacing": row["spacing"] and tuple(row["spacing"]),
                }
            )
            for row in rows
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise CaseError(f"damaged ({error}); run `litemedsam pack` again", index) from None


def is_finished(shard: Path) -> bool:
    """Whether a shard is there with an index that can be read."""
    try:
        read_index(shard)
    except (OSError, ValueError):
        return False
    return shard.is_file()


def _encode(image: np.ndarray, gts: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, imgs=image, gts=gts)
    return stream.getvalue()


def decode(record: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W) or (H, W, 3) and labels (H, W) of a record."""
    with HEADERS, np.load(io.BytesIO(record), allow_pickle=False) as arrays:
        return arrays["imgs"], arrays["gts"]
