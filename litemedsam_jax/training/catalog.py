"""Where training slices come from: npy folders and ArrayRecord shards, as one catalog."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from litemedsam_jax.files import replacing
from litemedsam_jax.imaging.file_kinds import modality_of
from litemedsam_jax.imaging.npz import HEADERS
from litemedsam_jax.preparation.training_set import (
    SHARD_PATTERN,
    Entry,
    as_labels,
    decode,
    read_index,
    split_name,
    visible_labels,
)
from litemedsam_jax.progress import ProgressDisplay

_CACHE_NAME = ".litemedsam_index.json"


class DataError(ValueError):
    """Training data that cannot be used; the message says which, why, and what was expected."""


@dataclass(frozen=True)
class Slice:
    """An entry with its pixels.

    image: (H, W) or (H, W, 3). gts: (H, W) uint8 or uint16 labels.
    """

    entry: Entry
    image: np.ndarray
    gts: np.ndarray


@dataclass(frozen=True)
class Skipped:
    """Slices that the index leaves out, since nothing could be learned from them."""

    background: int = 0
    lost: int = 0  # every object vanishes at the network's input size

    def __add__(self, other: "Skipped") -> "Skipped":
        return Skipped(self.background + other.background, self.lost + other.lost)


class Source(Protocol):
    """A place with slices, read at random; pickled to worker processes."""

    entries: list[Entry]
    skipped: Skipped

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W) or (H, W, 3) and labels (H, W) of an entry."""
        ...


class NpyFolder:
    """The reference's layout, `imgs/X.npy` and `gts/X.npy`; its float64 RGB, and uint8 grey."""

    def __init__(self, root: Path, all_slices: bool = False):
        self.root = root
        names = sorted(path.stem for path in (root / "gts").glob("*.npy"))
        paired = [name for name in names if (root / "imgs" / f"{name}.npy").is_file()]
        if not paired:
            raise DataError(f"{root}: no pairs imgs/X.npy and gts/X.npy of the same name in it")
        labels = _labels_of_folder(root, paired)
        entries = [_npy_entry(name, labels[name]["visible"]) for name in paired]
        self.entries = [entry for entry in entries if entry.labels or all_slices]
        background = sum(labels[name]["background"] for name in paired)
        lost = sum(not entry.labels for entry in entries) - background
        self.skipped = Skipped() if all_slices else Skipped(background, lost)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W) or (H, W, 3) and labels (H, W); raises DataError if they do not match."""
        name = self.entries[index].name
        image = _load_npy(self.root / "imgs" / f"{name}.npy")
        gts = as_labels(_load_npy(self.root / "gts" / f"{name}.npy"))
        if image.shape[:2] != gts.shape or image.shape[2:] not in ((), (3,)):
            raise DataError(
                f"{self.root / 'imgs' / name}.npy: is {image.shape} and its labels {gts.shape}; "
                "expected (H, W) or (H, W, 3) and (H, W)"
            )
        return image, gts


class Shards:
    """A folder that `litemedsam pack` wrote."""

    def __init__(self, root: Path, all_slices: bool = False):
        self.paths = sorted(root.glob(SHARD_PATTERN))
        indexes = [read_index(path) for path in self.paths]
        located = [
            (entry, (shard, row))
            for shard, entries in enumerate(indexes)
            for row, entry in enumerate(entries)
            if entry.labels or all_slices
        ]
        self.entries = [entry for entry, _ in located]
        self._places = [place for _, place in located]
        self.skipped = Skipped(background=sum(map(len, indexes)) - len(located))
        self._readers: dict[int, Any] = {}

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W) or (H, W, 3) and labels (H, W)."""
        shard, row = self._places[index]
        if shard not in self._readers:
            from array_record.python.array_record_data_source import ArrayRecordDataSource

            self._readers[shard] = ArrayRecordDataSource([str(self.paths[shard])])
        return decode(self._readers[shard][row])

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_readers": {}}  # open files stay in their process


@dataclass(frozen=True)
class Catalog:
    """Slices of several sources, or some of them; the random-access source that grain reads."""

    sources: tuple[Source, ...]
    places: tuple[tuple[int, int], ...]  # (source, index in it)
    skipped: Skipped = field(default_factory=Skipped)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Slice:
        source, row = self.places[index]
        image, gts = self.sources[source].read(row)
        return Slice(self.sources[source].entries[row], image, gts)

    def __repr__(self) -> str:
        return f"Catalog({len(self)} slices)"

    @property
    def entries(self) -> list[Entry]:
        """What is known of each slice without reading it."""
        return [self.sources[source].entries[row] for source, row in self.places]

    def subset(self, indices: Sequence[int]) -> "Catalog":
        """Those slices alone, in that order."""
        return Catalog(self.sources, tuple(self.places[i] for i in indices), self.skipped)

    def fingerprint(self) -> str:
        """A digest of the slices' names in their order."""
        return sha256("\n".join(entry.name for entry in self.entries).encode()).hexdigest()[:16]

    def describe(self) -> str:
        """One line for people: how many slices of what, and what was skipped."""
        entries = self.entries
        counts = Counter(entry.modality for entry in entries)
        parts = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        cases = len({entry.case for entry in entries})
        return (
            f"{len(entries)} slices of {cases} cases ({parts}); skipped: "
            f"{self.skipped.background} without object, {self.skipped.lost} whose objects vanish "
            "at 256x256"
        )


def open_catalog(paths: Sequence[str | Path], all_slices: bool = False) -> Catalog:
    """Indexes folders of either kind.

    Args:
        paths: npy folders, or folders of shards.
        all_slices: also those without objects (distillation needs no masks).

    Raises:
        DataError: a folder is missing, of no known layout, damaged, or nothing is left.
    """
    sources = tuple(_open(Path(path), all_slices) for path in paths)
    places = tuple(
        (s, row) for s, source in enumerate(sources) for row in range(len(source.entries))
    )
    skipped = sum((source.skipped for source in sources), Skipped())
    if not places:
        raise DataError(
            f"{', '.join(map(str, paths))}: no slice with an object in it "
            f"({skipped.background} without object, {skipped.lost} lost in resizing)"
        )
    return Catalog(sources, places, skipped)


def split_by_case(catalog: Catalog, fraction: float, seed: int) -> tuple[Catalog, Catalog]:
    """Training and validation slices, no case in both; the fraction is taken of each modality.

    Which cases are chosen depends on their names and the seed alone, so that data added later
    moves few cases across. A modality with one case is trained on.
    """
    entries = catalog.entries
    by_modality: dict[str, set[str]] = {}
    for entry in entries:
        by_modality.setdefault(entry.modality, set()).add(entry.case)
    held_out: set[str] = set()
    for cases in by_modality.values():
        order = sorted(cases, key=lambda case: sha256(f"{seed}/{case}".encode()).digest())
        count = round(fraction * len(order))
        held_out.update(order[: min(max(count, 1), len(order) - 1)])
    chosen = [entry.case in held_out for entry in entries]
    if fraction > 0 and not held_out:
        raise DataError(
            "every modality has a single case, so none can be held out for validation; give "
            "validation data with --val-dir, or --val-fraction 0"
        )
    return (
        catalog.subset([i for i, is_held in enumerate(chosen) if not is_held]),
        catalog.subset([i for i, is_held in enumerate(chosen) if is_held]),
    )


def _open(path: Path, all_slices: bool) -> Source:
    try:
        if (path / "imgs").is_dir() and (path / "gts").is_dir():
            return NpyFolder(path, all_slices)
        if any(path.glob(SHARD_PATTERN)):
            return Shards(path, all_slices)
    except (OSError, ValueError) as error:
        raise DataError(str(error)) from error
    reason = "holds neither" if path.is_dir() else "there is no such folder; expected"
    hint = ""
    if path.is_dir() and any(path.rglob("*.npz")):
        hint = ". It has npz files: convert them with `litemedsam npz-to-npy` or `litemedsam pack`"
    raise DataError(
        f"{path}: {reason} imgs/ and gts/ of npy files nor shards of `litemedsam pack`{hint}"
    )


def _npy_entry(name: str, labels: Sequence[int]) -> Entry:
    case, position = split_name(name)
    return Entry(name, case, modality_of(case), tuple(labels), position)


def _load_npy(path: Path) -> np.ndarray:
    try:
        with HEADERS:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        return np.array(mapped)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: no intact npy file of numbers ({error})") from None


def _labels_of_folder(root: Path, names: Sequence[str]) -> dict[str, dict]:
    """What every mask holds; kept in a file of the folder, since reading all masks takes long."""
    cache = root / _CACHE_NAME
    known = _read_index_file(cache)

    def examine(name: str) -> dict:
        path = root / "gts" / f"{name}.npy"
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        if known.get(name, {}).get("stamp") == stamp:
            return known[name]
        gts = _load_npy(path)
        try:
            gts = as_labels(gts)
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None
        if gts.ndim != 2 or 0 in gts.shape:
            raise DataError(f"{path}: is {gts.shape}; labels of one slice (H, W) were expected")
        visible = [int(label) for label in visible_labels(gts)]
        return {"stamp": stamp, "visible": visible, "background": not gts.any()}

    rows = []
    with ThreadPoolExecutor(4) as pool, ProgressDisplay("masks read", len(names)) as shown:
        for row in pool.map(examine, names):
            rows.append(row)
            shown.advance()
    index = dict(zip(names, rows, strict=True))
    if index != known:
        # A folder that cannot be written to is read again next time.
        with suppress(OSError), replacing(cache) as beside:
            beside.write_text(json.dumps(index))
    return index


def _read_index_file(path: Path) -> dict[str, dict]:
    """The rows of an npy folder's index that are what this version writes.

    A damaged index is only a cache: it is reported and made anew.
    """
    if not path.is_file():
        return {}
    try:
        rows = json.loads(path.read_text())
        if not isinstance(rows, dict) or not all(map(_is_index_row, rows.values())):
            raise ValueError("not what litemedsam writes")
    except (OSError, ValueError, RecursionError) as error:
        print(f"note: {path}: damaged ({error}); all masks are read again", file=sys.stderr)
        return {}
    return rows


def _is_index_row(row: Any) -> bool:
    """Whether a row is {"stamp": [bytes, ns], "visible": [labels], "background": bool}."""
    if not isinstance(row, dict) or row.keys() != {"stamp", "visible", "background"}:
        return False
    lists = (row["stamp"], row["visible"])
    numbers = all(isinstance(x, list) and all(type(n) is int for n in x) for x in lists)
    positive = numbers and all(0 < label < 2**16 for label in row["visible"])
    return positive and len(row["stamp"]) == 2 and isinstance(row["background"], bool)
