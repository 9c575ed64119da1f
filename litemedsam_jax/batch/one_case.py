"""One case from file to file: read, segmented, written, its faults reported in a line."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from litemedsam_jax.files import one_line
from litemedsam_jax.imaging.case import Case, read_case
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.npz import write_npz
from litemedsam_jax.inference.strategies import REFERENCE, Strategy
from litemedsam_jax.process import keep_memory, leave_to_the_end
from litemedsam_jax.weights.errors import CheckpointError

if TYPE_CHECKING:
    from litemedsam_jax.imaging.image_case import FileOptions, ImageCase
    from litemedsam_jax.imaging.postprocess import Step
    from litemedsam_jax.inference.predictor import LiteMedSAM
    from litemedsam_jax.progress import Counter


# What no other case would survive either.
FATAL = (CheckpointError, ModuleNotFoundError)


@dataclass(frozen=True)
class BatchOptions:
    """What to do with each case; the defaults are the challenge's."""

    inputs: Path
    outputs: Path
    weights: Path | None  # None: the default ones
    prompts: str = "boxes"  # or "gt"
    box_shift: int = 5  # with "gt"
    strategy: Strategy = REFERENCE
    skip_existing: bool = False
    overlays: Path | None = None
    overlay_format: str = "png"  # or gif, mp4: volumes as a scroll through their slices
    device: str | None = None  # "cpu", "gpu", "tpu"; None: JAX's choice
    precision: str = "float32"  # or "bfloat16", "auto"
    workers: int = 1  # processes, each with a model of its own
    shard: tuple[int, int] | None = None  # (I, N): of every N cases the one after I others
    postprocess: "tuple[Step, ...]" = ()  # that clean the masks
    files: "FileOptions | None" = None  # where boxes of image files (other than npz) come from
    ends_process: bool = False  # nothing runs after the cases: the model need not be freed


def is_npz(path: Path) -> bool:
    """Whether a path is named as a case in the challenge's format."""
    return path.suffix.lower() == ".npz"


def masks_name(path: Path) -> str:
    """The name of the file of a case's masks: an npz's own, else by the image file's kind."""
    if is_npz(path):
        return path.name
    from litemedsam_jax.imaging.label_files import output_name

    return output_name(path)


@dataclass(frozen=True)
class CaseResult:
    """How one case went.

    Attributes:
        seconds: Reading, segmenting and writing together.
        warnings: What was corrected or assumed, in sentences.
        error: Why there are no masks; None where there are.
    """

    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    error: str | None = None


class Segmenter:
    """Reads, segments and writes cases; loads the model with the first of them.

    Args:
        options: What to do with each case.
        counter: Takes the slices of volumes under way.
    """

    def __init__(self, options: BatchOptions, counter: "Counter | None" = None):
        self.options = options
        self._counter = counter
        self._loaded: LiteMedSAM | None = None

    def run(self, path: Path) -> CaseResult:
        """Segments one case from file to file.

        Reading, segmenting and writing are timed, overlays are not.

        Raises:
            CheckpointError: The weights cannot be used.
            ModuleNotFoundError: A package of an extra is missing.
        """
        start = time.perf_counter()
        try:
            if self._loaded is not None:
                keep_memory()  # there are several cases
            case, image = self._read(path)
            segs = self._segment(case)
            if self.options.postprocess:
                from litemedsam_jax.imaging.postprocess import postprocess

                segs = postprocess(segs, self.options.postprocess, case.spacing)
            self._write(path, case, image, segs)
            seconds = time.perf_counter() - start
            if self.options.overlays is not None:
                _write_overlay(
                    self.options.overlays / f"{case.name}.{self.options.overlay_format}",
                    case,
                    image,
                    segs,
                )
        except FATAL:
            raise
        except CaseError as error:
            return CaseResult(error=str(error))
        except MemoryError:
            return CaseResult(error="not enough memory for it; split the case or give more")
        except OSError as error:
            return CaseResult(
                error=one_line(f"{error.filename or path}: {error.strerror or error}")
            )
        except Exception as error:  # the other cases run whatever this one has met
            message = one_line(str(error), 200)
            reason = f"unexpected {type(error).__name__}, a bug to report: {message}"
            return CaseResult(error=reason)
        return CaseResult(seconds, case.warnings)

    def _read(self, path: Path) -> "tuple[Case, ImageCase | None]":
        """Reads a case, while the model's weights are checked and its programs loaded."""
        model = self._model()
        try:
            if is_npz(path):
                return read_case(path, self.options.prompts), None
            image = _read_image_case(path, self.options)
            return image.case, image
        except Exception:
            model.engine.wait()  # weights that cannot be used end the run, whatever the case has
            raise

    def _segment(self, case: Case) -> np.ndarray:
        model = self._model()

        def on_slice(done: int, total: int) -> None:
            if self._counter is not None:
                if done == 0:
                    self._counter.begin(total, one_line(case.name))
                else:
                    self._counter.advance()

        if case.slice_prompts:
            keep_memory()
            return model.segment_from_slices(case.image, case.slice_prompts, on_slice=on_slice)
        if case.boxes is None:
            from litemedsam_jax.inference.gt_prompts import segment_by_labels

            assert case.gts is not None  # a case has one or the other
            return segment_by_labels(model, case.image, case.gts, self.options.box_shift, on_slice)
        if case.is_volume:
            keep_memory()
            return model.segment_volume(case.image, case.boxes, self.options.strategy, on_slice)
        return model.segment_image(case.image, case.boxes, self.options.strategy)

    def _model(self) -> "LiteMedSAM":
        if self._loaded is None:
            from litemedsam_jax.inference.predictor import LiteMedSAM

            options = self.options
            self._loaded = LiteMedSAM.from_pretrained(
                options.weights, options.device, options.precision, wait=False
            )
            if options.ends_process:
                leave_to_the_end(self._loaded)
        return self._loaded

    def _write(self, path: Path, case: Case, image: "ImageCase | None", segs: np.ndarray) -> None:
        if image is None:
            write_npz(self.options.outputs / path.name, **self._outputs(case, segs))
            return
        from litemedsam_jax.imaging.label_files import write_labels

        dicom_seg = self.options.files is not None and self.options.files.dicom_seg
        write_labels(image, segs, self.options.outputs, dicom_seg)

    def _outputs(self, case: Case, segs: np.ndarray) -> dict[str, np.ndarray]:
        outputs = {"segs": segs}
        if case.gts is not None:
            outputs["gts"] = case.gts
            if case.spacing is not None:
                outputs["spacing"] = case.spacing
        return outputs


def _read_image_case(path: Path, options: BatchOptions) -> "ImageCase":
    from litemedsam_jax.imaging.image_case import read_image_case

    return read_image_case(path, options.files)


def _write_overlay(path: Path, case: Case, image: "ImageCase | None", segs: np.ndarray) -> None:
    from litemedsam_jax.drawing.animation import write_case

    names = None
    if image is not None:
        names = [f"{box}: label {label}" for box, label in enumerate(image.labels, start=1)]
    more = {"gts": case.gts, "direction": case.direction, "names": names}
    boxes = case.boxes if case.boxes is not None else case.drawn_boxes
    write_case(path, case.image, boxes, segs, case.spacing, **more)
