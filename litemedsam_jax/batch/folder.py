"""A folder of cases: one after the other, none able to take down the rest."""

import csv
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from litemedsam_jax.batch.one_case import (
    FATAL,
    BatchOptions,
    CaseResult,
    Segmenter,
    is_npz,
    masks_name,
)
from litemedsam_jax.batch.outputs import conflicts
from litemedsam_jax.files import one_line, remove_stale
from litemedsam_jax.imaging import file_kinds
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.parallel import outcomes
from litemedsam_jax.progress import Counter, ProgressDisplay, SharedCounter

_LOOKED_AT = 200  # subfolders


@dataclass
class Summary:
    """How the cases went; `failed` maps names to reasons."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def list_cases(folder: Path) -> list[Path]:
    """The folder's cases, by name, not its subfolders': npz, image files, DICOM series.

    A file, or a DICOM series' folder, is the one case.

    Raises:
        CaseError: There is no such folder, or nothing in it.
    """
    try:
        cases = file_kinds.cases_in(folder)
        if folder.is_dir() and cases != [folder]:
            # A folder named as a case is reported, not passed over.
            cases = sorted({*cases, *(path for path in folder.glob("[!.]*.npz"))})
    except FileNotFoundError:
        raise CaseError(f"{folder}: there is no such folder of cases") from None
    if not cases:
        raise CaseError(
            f"{folder}: there are no cases in it; expected npz or image files{_deeper(folder)}"
        )
    return cases


def _deeper(folder: Path) -> str:
    """Names a subfolder that holds cases, since scanners and archives nest theirs."""
    for name, subfolders, files in islice(os.walk(folder), 1, _LOOKED_AT):
        path = Path(name)
        subfolders.sort()
        if file_kinds.kind_of(path) == "dicom":
            return f". {path} holds a DICOM series: give its folder, {path.parent}"
        if any(file_kinds.kind_of(path / file) for file in files):
            return f". {path} holds some: give that folder"
    return ""


# Lines come at once, through a pipe too.
_print = functools.partial(print, flush=True)


def segment_folder(
    options: BatchOptions,
    log: Callable[[str], None] = _print,
    progress: ProgressDisplay | None = None,
) -> Summary:
    """Segments every case of a folder; times go to `efficiency.csv` beside the masks, as they come.

    A shard's cases follow from the names in the folder alone, and its times have a table of their
    own: N processes with the same folders make all masks, each of them once. A case that cannot be
    used is reported in one line and the next one runs.

    Args:
        options: What to do, and where.
        log: Takes a line for each case, and its warnings.
        progress: Shows the slices of volumes under way; by default nothing does.

    Returns:
        How the cases went.

    Raises:
        CaseError: There are no cases, or the masks would replace them.
        CheckpointError: The weights cannot be used.
        OSError: Nothing can be written to the folder of masks.
    """
    cases = _cases(options)
    _prepare_folders(options, cases)
    summary = Summary()
    conflicting = conflicts(cases, options)
    paths = _share(cases, options)
    for path in paths:
        if path in conflicting:
            summary.failed[path.name] = conflicting[path]
            log(f"{one_line(path.name)}: FAILED: {conflicting[path]}")
    paths = [path for path in paths if path not in conflicting]
    if options.skip_existing:
        there = {path for path in paths if (options.outputs / masks_name(path)).exists()}
        summary.skipped = [path.name for path in paths if path in there]
        paths = [path for path in paths if path not in there]
    times_name = "efficiency.csv"
    if options.shard is not None:
        times_name = "efficiency_{}_of_{}.csv".format(*options.shard)
    times = TimeTable(options.outputs / times_name, keep=options.skip_existing)
    with progress or ProgressDisplay("slices", style="none") as shown:
        for number, (path, result) in enumerate(_results(options, paths, shown), start=1):
            shown.clear()
            _report(result, f"[{number}/{len(paths)}] {one_line(path.name)}", log)
            if result.error is not None:
                summary.failed[path.name] = result.error
                continue
            summary.done.append(path.name)
            try:
                times.add(path.name, result.seconds)
            except OSError as error:  # a full disk: the masks that are there stay good
                summary.failed[times_name] = error.strerror or str(error)
    return summary


def _prepare_folders(options: BatchOptions, paths: list[Path]) -> None:
    options.outputs.mkdir(parents=True, exist_ok=True)
    if any(is_npz(path) and options.outputs.samefile(path.parent) for path in paths):
        raise CaseError(f"{options.outputs}: the masks would replace the cases; give another -o")
    for folder in (options.outputs, options.overlays):
        if folder is not None:
            remove_stale(folder)


def _report(result: CaseResult, name: str, log: Callable[[str], None]) -> None:
    for warning in result.warnings:
        log(f"{name}: warning: {warning}")
    if result.error is not None:
        log(f"{name}: FAILED: {result.error}")
    else:
        log(f"{name}: {result.seconds:.2f} s")


def _cases(options: BatchOptions) -> list[Path]:
    """The folder's cases, those of all shards."""
    paths = list_cases(options.inputs)
    if options.files is not None:
        from litemedsam_jax.imaging.box_source import without_boxes

        paths = without_boxes(paths, options.files.boxes)
    elif any(map(is_npz, paths)):
        paths = [path for path in paths if is_npz(path)]  # an image beside the cases is no case
    return paths


def _share(paths: list[Path], options: BatchOptions) -> list[Path]:
    if options.shard is None:
        return paths
    index, count = options.shard
    # Strides, not blocks: names sort by kind, and volumes take far longer than 2D images.
    return paths[index::count]


def _results(
    options: BatchOptions, paths: list[Path], progress: ProgressDisplay
) -> Iterator[tuple[Path, CaseResult]]:
    counter: Counter = progress

    def refresh() -> None:
        if isinstance(counter, SharedCounter):
            progress.show(*counter.read())

    if options.workers > 1 and len(paths) > 1:
        from multiprocessing import get_context

        counter = SharedCounter(get_context("spawn"))
    segment = Segmenter(options, counter).run
    for outcome in outcomes(segment, paths, options.workers, fatal=FATAL, on_wait=refresh):
        yield outcome.item, outcome.result or CaseResult(error=outcome.error)


class TimeTable:
    """`case,time` rows, each on disk as soon as it is known.

    Args:
        path: The CSV file.
        keep: Whether rows that are there stay.

    Raises:
        OSError: It cannot be written; names the file.
    """

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
        """Adds a case's row. Raises OSError."""
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
