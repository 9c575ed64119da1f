"""A folder of cases: one after the other, none able to take down the rest."""

import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from litemedsam_jax.inference.cases import Case, CaseError, one_line, read_case, write_arrays
from litemedsam_jax.preparation import naming
from litemedsam_jax.weights.errors import CheckpointError

if TYPE_CHECKING:
    from litemedsam_jax.inference.files import OpenFile
    from litemedsam_jax.inference.predictor import LiteMedSAM
    from litemedsam_jax.preparation.direct import FileOptions


@dataclass(frozen=True)
class BatchOptions:
    """What to do with each case; the defaults are the challenge's."""

    inputs: Path
    outputs: Path
    weights: Path
    prompts: str = "boxes"  # or "gt"
    box_shift: int = 5  # with "gt"
    strategy: str = "reference"
    skip_existing: bool = False
    overlays: Path | None = None
    overlay_format: str = "png"  # or gif, mp4: volumes as a scroll through their slices
    device: str | None = None  # "cpu", "gpu", "tpu"; None: JAX's choice
    workers: int = 1  # processes, each with a model of its own
    shard: tuple[int, int] | None = None  # (I, N): of every N cases the one after I others
    files: "FileOptions | None" = None  # where boxes of image files (other than npz) come from


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
        found = naming.cases_in(folder)
        if folder.is_dir() and found != [folder]:
            # A folder named as a case is told of, not passed over.
            found = sorted({*found, *(path for path in folder.glob("[!.]*.npz"))})
    except FileNotFoundError:
        raise CaseError(f"{folder}: there is no such folder of cases") from None
    if not found:
        raise CaseError(f"{folder}: there are no cases in it; expected npz or image files")
    return found


def _is_npz(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


def output_name(path: Path) -> str:
    """What the masks of a case are called: an npz's name, an image file's kind."""
    if _is_npz(path):
        return path.name
    from litemedsam_jax.preparation.direct import output_name as name_of_labels

    return name_of_labels(path)


def segment_folder(options: BatchOptions, log: Callable[[str], None] = print) -> Summary:
    """Segments every case of a folder; times go to `efficiency.csv` beside the masks, as they come.

    A shard's cases follow from the names in the folder alone, and its times have a table of their
    own: N processes with the same folders make all masks, each of them once. A case that cannot be
    used is told in one line and the next one runs.

    Raises:
        CaseError: there are no cases, or the masks would replace them. CheckpointError: the
            weights cannot be used.
        OSError: nothing can be written to the folder of masks.
    """
    paths = find_cases(options.inputs)
    if options.files is not None:
        from litemedsam_jax.preparation.direct import without_boxes

        paths = without_boxes(paths, options.files.boxes)
    elif any(map(_is_npz, paths)):
        paths = [path for path in paths if _is_npz(path)]  # a picture beside the cases is no case
    options.outputs.mkdir(parents=True, exist_ok=True)
    if any(_is_npz(path) and options.outputs.samefile(path.parent) for path in paths):
        raise CaseError(f"{options.outputs}: the masks would replace the cases; give another -o")
    times_name = "efficiency.csv"
    if options.shard is not None:
        index, count = options.shard
        # Strides, not blocks: names sort by kind, and volumes take far longer than pictures.
        paths = paths[index::count]
        times_name = f"efficiency_{index}_of_{count}.csv"
    summary = Summary()
    if options.skip_existing:
        summary.skipped = [
            path.name for path in paths if (options.outputs / output_name(path)).exists()
        ]
        skipped = set(summary.skipped)
        paths = [path for path in paths if path.name not in skipped]
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


def _results(options: BatchOptions, paths: list[Path]) -> Iterator[tuple[Path, "CaseResult"]]:
    if options.workers <= 1 or len(paths) <= 1:
        segmenter = Segmenter(options)
        yield from ((path, segmenter.run(path)) for path in paths)
        return
    from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    # Spawned, not forked: XLA's threads do not survive a fork.
    with ProcessPoolExecutor(
        min(options.workers, len(paths)), get_context("spawn"), _start_worker, (options,)
    ) as pool:
        futures = {pool.submit(_run_in_worker, path): path for path in paths}
        for future in as_completed(futures):
            try:
                result = future.result()
            except BrokenExecutor:
                result = CaseResult(
                    error="a process ended before its time, for want of memory perhaps; run the "
                    "rest with --skip-existing and fewer workers"
                )
            except (CheckpointError, ModuleNotFoundError):
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            yield futures[future], result


def _start_worker(options: BatchOptions) -> None:
    global _segmenter
    _segmenter = Segmenter(options)


def _run_in_worker(path: Path) -> "CaseResult":
    return _segmenter.run(path)


_segmenter: "Segmenter"  # of a worker process


@dataclass(frozen=True)
class CaseResult:
    """How one case went."""

    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    error: str | None = None


class Segmenter:
    """Reads, segments and writes cases; loads the model with the first of them."""

    def __init__(self, options: BatchOptions):
        self.options = options
        self._loaded: LiteMedSAM | None = None

    def run(self, path: Path) -> CaseResult:
        """One case from file to file. Reading, segmenting and writing are timed, overlays not."""
        start = time.perf_counter()
        try:
            self._model()  # its programs load while the case is read
            file = None if _is_npz(path) else _open_file(path, self.options)
            case = file.case if file else read_case(path, self.options.prompts)
            segs = self._segment(case)
            self._write(path, case, file, segs)
            seconds = time.perf_counter() - start
            if self.options.overlays is not None:
                _write_overlay(
                    self.options.overlays / f"{case.name}.{self.options.overlay_format}",
                    case,
                    file,
                    segs,
                )
        except (CheckpointError, ModuleNotFoundError):
            raise  # no other case will fare better
        except CaseError as error:
            return CaseResult(error=str(error))
        except MemoryError:
            return CaseResult(error="not enough memory for it; split the case or give more")
        except OSError as error:
            told = f"{error.filename or path}: {error.strerror or error}"
            return CaseResult(error=one_line(told))
        except Exception as error:  # the other cases run whatever this one has met
            told = one_line(str(error), 200)
            return CaseResult(error=f"unexpected {type(error).__name__}, a bug to report: {told}")
        return CaseResult(seconds, case.warnings)

    def _segment(self, case: Case) -> np.ndarray:
        model = self._model()
        if case.boxes is None:
            from litemedsam_jax.inference.from_labels import segment_by_labels

            assert case.gts is not None  # a case has one or the other
            return segment_by_labels(model, case.image, case.gts, self.options.box_shift)
        if case.is_volume:
            return model.segment_volume(case.image, case.boxes, self.options.strategy)
        return model.segment_image(case.image, case.boxes)

    def _model(self) -> "LiteMedSAM":
        if self._loaded is None:
            from litemedsam_jax.inference.predictor import LiteMedSAM

            self._loaded = LiteMedSAM.from_pretrained(self.options.weights, self.options.device)
        return self._loaded

    def _write(self, path: Path, case: Case, file: "OpenFile | None", segs: np.ndarray) -> None:
        if file is None:
            write_arrays(self.options.outputs / path.name, **self._outputs(case, segs))
            return
        from litemedsam_jax.inference.files import write_masks

        dicom_seg = self.options.files is not None and self.options.files.dicom_seg
        write_masks(file, segs, self.options.outputs, dicom_seg)

    def _outputs(self, case: Case, segs: np.ndarray) -> dict[str, np.ndarray]:
        outputs = {"segs": segs}
        if case.gts is not None:
            outputs["gts"] = case.gts
            if case.spacing is not None:
                outputs["spacing"] = case.spacing
        return outputs


def _open_file(path: Path, options: BatchOptions) -> "OpenFile":
    from litemedsam_jax.inference.files import open_file

    return open_file(path, options.files)


def _write_overlay(path: Path, case: Case, file: "OpenFile | None", segs: np.ndarray) -> None:
    if file is not None:
        from litemedsam_jax.inference.files import draw

        draw(path, file, segs)
        return
    from litemedsam_jax.animate import write_case

    write_case(path, case.image, case.boxes, segs, case.spacing, gts=case.gts)


class _TimeTable:
    """`case,time` rows, each on disk as soon as it is known."""

    def __init__(self, path: Path, keep: bool):
        self._path = path
        if not (keep and path.exists() and path.stat().st_size):
            self._write("w", ("case", "time"))

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
