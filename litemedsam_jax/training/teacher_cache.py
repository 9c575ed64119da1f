"""The teacher's embeddings, computed once: ArrayRecord shards of bfloat16, a record per flip.

The teacher is frozen and the only augmentation of stage 1 are flips, so a slice has four embeddings
in all, and the teacher's forward pass at 1024x1024 is nearly all of a step's cost. A cache grows:
slices that it lacks are added in new shards. `cache.json` says whose embeddings they are.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from litemedsam_jax.files import replacing
from litemedsam_jax.progress import ProgressDisplay
from litemedsam_jax.training.catalog import Catalog, DataError
from litemedsam_jax.training.samples import flip, teacher_input

VARIANTS = 4  # lr + 2·ud, as samples.DistillSample counts them
_PATTERN = "embeddings-*.array_record"
_SLICES_PER_SHARD = 64  # of MedSAM's 2 MiB embeddings: half a gigabyte


class TeacherCache:
    """Embeddings by slice name and flip variant; pickled to worker processes."""

    def __init__(self, folder: Path):
        self.folder = folder
        try:
            about = json.loads((folder / "cache.json").read_text())
            self.shape, self.teacher = tuple(about["shape"]), about["teacher"]
            self.resize = about["resize"]
            self._places = {
                name: (path, row)
                for path in sorted(folder.glob(_PATTERN))
                for row, name in enumerate(_names_of(path))
            }
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{folder}: no intact teacher cache ({error})") from error
        self._readers: dict[Path, Any] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def embedding(self, name: str, variant: int) -> np.ndarray:
        """(G, G, C) bfloat16."""
        path, row = self._places[name]
        if path not in self._readers:
            from array_record.python.array_record_data_source import ArrayRecordDataSource

            self._readers[path] = ArrayRecordDataSource([str(path)])
        record = self._readers[path][row * VARIANTS + variant]
        return np.frombuffer(record, ml_dtypes.bfloat16).reshape(self.shape)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_readers": {}}  # open files stay in their process


def digest(variables: Any) -> str:
    """A digest of a teacher's variables."""
    import jax

    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        total.update(jax.tree_util.keystr(path).encode())
        total.update(np.ascontiguousarray(leaf).tobytes())
    return total.hexdigest()[:16]


def missing_slices(folder: Path, catalog: Catalog) -> list[int]:
    """Which slices of the catalog the cache lacks; all if there is no cache yet."""
    names = [entry.name for entry in catalog.entries]
    if len(set(names)) < len(names):
        raise DataError("two sources have slices of the same name; a teacher cache goes by names")
    if not (folder / "cache.json").is_file():
        return list(range(len(names)))
    cache = TeacherCache(folder)
    return [index for index, name in enumerate(names) if name not in cache]


def check(folder: Path, resize: str, teacher: str | None = None) -> None:
    """Checks that a cache, if there is one, is of this teacher and resize.

    Args:
        folder: of the cache.
        resize: "pad" or "squash".
        teacher: its digest; None: not known, not checked.

    Raises:
        DataError: it is of another, or damaged.
    """
    if not (folder / "cache.json").is_file():
        return
    cache = TeacherCache(folder)
    for what, stored, wanted in (
        ("resize", cache.resize, resize),
        ("teacher", cache.teacher, teacher or cache.teacher),
    ):
        if stored != wanted:
            raise DataError(
                f"{folder}: a cache of another {what} ({stored}, not {wanted}); give another folder"
            )


def describe(folder: Path, shape: tuple[int, ...], teacher: str, resize: str) -> None:
    """Writes cache.json: shape of an embedding, digest of the teacher, the way of resizing."""
    about = {"shape": list(shape), "teacher": teacher, "resize": resize, "dtype": "bfloat16"}
    with replacing(folder / "cache.json") as beside:
        beside.write_text(json.dumps(about) + "\n")


def fill(
    folder: Path,
    catalog: Catalog,
    indices: list[int],
    embed: Callable[[np.ndarray], np.ndarray],
    *,
    size: int,
    resize: str,
    batch: int,
    part: tuple[int, int] = (0, 1),
) -> None:
    """Computes the embeddings of some slices and writes them, shard by shard.

    A killed run leaves whole shards, which the next one keeps.

    Args:
        folder: of the cache; its shards are added to.
        catalog: the slices.
        indices: of those to embed.
        embed: (batch, size, size, 3) -> (batch, G, G, C) bfloat16.
        size: side of the teacher's input, in pixels.
        resize: "pad" or "squash".
        batch: images that `embed` takes; VARIANTS divides it or it divides VARIANTS.
        part: which of how many hosts this is; each makes shards of its own.
    """
    start, count = part
    own = indices[start::count]
    taken = {path.stem for path in folder.glob(_PATTERN)}
    free = (f"embeddings-{start:03d}-{n:05d}" for n in range(10**5))
    names = (name for name in free if name not in taken)
    with ProgressDisplay("slices of the teacher's embeddings", len(own)) as shown:
        for first in range(0, len(own), _SLICES_PER_SHARD):
            chunk = own[first : first + _SLICES_PER_SHARD]
            images = _counted(_variants(catalog, chunk, size, resize), shown)
            path = folder / f"{next(names)}.array_record"
            _write(path, [catalog.entries[i].name for i in chunk], embed, images, batch)


def _counted(images: Iterator[np.ndarray], shown: ProgressDisplay) -> Iterator[np.ndarray]:
    """The images; whenever a slice's variants have all been taken, it is counted as done."""
    for number, image in enumerate(images, start=1):
        yield image
        if number % VARIANTS == 0:
            shown.advance()


def _variants(catalog: Catalog, indices, size: int, resize: str) -> Iterator[np.ndarray]:
    for index in indices:
        image = teacher_input(catalog[index], size, resize)
        for variant in range(VARIANTS):
            yield flip(image, variant % 2, variant // 2)


def _write(path: Path, names: list[str], embed, images: Iterator[np.ndarray], batch: int) -> None:
    from array_record.python.array_record_module import ArrayRecordWriter

    left = len(names) * VARIANTS
    with replacing(path) as beside:
        writer = ArrayRecordWriter(str(beside), "group_size:1")
        try:
            while left:
                some = [next(images) for _ in range(min(batch, left))]
                padded = np.stack(some + [some[-1]] * (batch - len(some)))
                for embedding in embed(padded)[: len(some)]:
                    writer.write(np.ascontiguousarray(embedding).tobytes())
                left -= len(some)
        finally:
            writer.close()
    with replacing(path.with_suffix(".json")) as beside:
        beside.write_text(json.dumps(names))


def _names_of(path: Path) -> list[str]:
    names = path.with_suffix(".json")
    return json.loads(names.read_text()) if names.is_file() else []  # unfinished: not counted
