"""A folder of cases: one after the other, none able to take down the rest."""

import csv
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from litemedsam_jax.batch.one_case import (
    BatchOptions,
    CaseResult,
    Segmenter,
    is_npz,
    output_name,
)
from litemedsam_jax.files import one_line, remove_stale
from litemedsam_jax.imaging import file_kinds
from litemedsam_jax.imaging.case import CaseError


@dataclass
class Summary:
    """How the cases went; `failed` maps names to reasons."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def find_cases(folder: Path) -> list[Path]:
    """The folder's cases, by name, not its subfolders': npz, image files, DICOM series.

    A file, or a DICOM series' folder, is the one case.

    Raises:
        CaseError: there is no such folder, or nothing in it.
    """
    try:
        found = file_kinds.cases_in(folder)
        if folder.is_dir() and found != [folder]:
            # A folder named as a case is told of, not passed over.
            found = sorted({*found, *(path for path in folder.glob("[!.]*.npz"))})
    except FileNotFoundError:
        raise CaseError(f"{folder}: there is no such folder of cases") from None
    if not found:
        raise CaseError(f"{folder}: there are no cases in it; expected npz or image files")
    return found


# Lines come at once, through a pipe too.
_print = functools.partial(print, flush=True)


def segment_folder(options: BatchOptions, log: Callable[[str], None] = _print) -> Summary:
    """Segments every case of a folder; times go to `efficiency.csv` beside the masks, as they come.

    A shard's cases follow from the names in the folder alone, and its times have a table of their
    own: N processes with the same folders make all masks, each of them once. A case that cannot be
    used is told in one line and the next one runs.

    Raises:
        CaseError: there are no cases, or the masks would replace them. CheckpointError: the
            weights cannot be used.
        OSError: nothing can be written to the folder of masks.
    """
    paths = _cases_to_do(options)
    options.outputs.mkdir(parents=True, exist_ok=True)
    if any(is_npz(path) and options.outputs.samefile(path.parent) for path in paths):
        raise CaseError(f"{options.outputs}: the masks would replace the cases; give another -o")
    for folder in (options.outputs, options.overlays):
        if folder is not None:
            remove_stale(folder)
    summary = Summary()
    if options.skip_existing:
        there = {path for path in paths if (options.outputs / output_name(path)).exists()}
        summary.skipped = [path.name for path in paths if path in there]
        paths = [path for path in paths if path not in there]
    times_name = "efficiency.csv"
    if options.shard is not None:
        times_name = "efficiency_{}_of_{}.csv".format(*options.shard)
    times = _TimeTable(options.outputs / times_name, keep=options.skip_existing)
    for number, (path, result) in enumerate(_results(options, paths), start=1):
        progress = f"[{number}/{len(paths)}] {one_line(path.name)}"
        for warning in result.warnings:
            log(f"{progress}: warning: {warning}")
        if result.error is not None:
            summary.failed[path.name] = result.error
            log(f"{progress}: FAILED: {result.error}")
            continue
        summary.done.append(path.name)
        log(f"{progress}: {result.seconds:.2f} s")
        try:
            times.add(path.name, result.seconds)
        except OSError as error:  # a full disk: the masks that are there stay good
            summary.failed[times_name] = error.strerror or str(error)
    return summary


def _cases_to_do(options: BatchOptions) -> list[Path]:
    """The folder's cases, or the shard's share of them."""
    paths = find_cases(options.inputs)
    if options.files is not None:
        from litemedsam_jax.imaging.image_case import without_boxes

        paths = without_boxes(paths, options.files.boxes)
    elif any(map(is_npz, paths)):
        paths = [path for path in paths if is_npz(path)]  # a picture beside the cases is no case
    if options.shard is not None:
        index, count = options.shard
        # Strides, not blocks: names sort by kind, and volumes take far longer than pictures.
        paths = paths[index::count]
    return paths


def _results(options: BatchOptions, paths: list[Path]) -> Iterator[tuple[Path, CaseResult]]:
    if options.workers > 1 and len(paths) > 1:
        from litemedsam_jax.batch.worker_pool import run_in_processes

        yield from run_in_processes(options, paths)
        return
    segmenter = Segmenter(options)
    yield from ((path, segmenter.run(path)) for path in paths)


class _TimeTable:
    """`case,time` rows, each on disk as soon as it is known."""

    def __init__(self, path: Path, keep: bool):
        self._path = path
        header = ("case", "time")
        if not keep:
            self._write("w", header)
            return
        try:
            self._write("x", header)  # of several processes that start together one writes it
        except FileExistsError:
            if not path.stat().st_size:  # killed before that
                self._write("a", header)

    def add(self, name: str, seconds: float) -> None:
        # Opened for each row: two processes may append to the same table.
        self._write("a", (name, f"{seconds:.4f}"))

    def _write(self, mode: str, row: tuple[str, str]) -> None:
        path = self._path
        try:
            # A file name need not be text.
            with path.open(mode, newline="", encoding="utf-8", errors="backslashreplace") as out:
                csv.writer(out, lineterminator="\n").writerow(row)
        except OSError as error:
            error.filename = str(path)  # a full disk names no file
            raise
