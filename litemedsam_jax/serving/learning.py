"""Learning from the cases that were annotated: `litemedsam adapt` in a process of its own."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from litemedsam_jax.files import one_line
from litemedsam_jax.imaging.postprocess import Step
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.serving.model_worker import ModelWorker
from litemedsam_jax.serving.workspace import Workspace
from litemedsam_jax.weights.adapted_steps import MaskSteps, steps_for
from litemedsam_jax.weights.same_encoder import check_same_encoder

LONGEST_LINE = 300
_GRACE_SECONDS = 10.0  # between asking a process to end and ending it
# (images, labels, output) -> the command line of a process
Command = Callable[[Path, Path, Path], Sequence[str]]


@dataclass(frozen=True)
class LearningState:
    """What pages show.

    Attributes:
        state: "idle", "running", "done", "failed" or "cancelled".
        line: the newest line that the process wrote.
        learned: whether there are learned weights, of this or an earlier process.
        chosen: "start", the weights that the server was started with, or "learned".
        note: what adapted weights in use say of themselves, and of steps that clean masks.
    """

    state: str
    line: str
    learned: bool
    chosen: str
    note: str


class Learning:
    """One process at a time, and which weights the model has."""

    def __init__(
        self,
        workspace: Workspace,
        worker: ModelWorker,
        weights: Path | None,
        strategy: str,
        load: Callable[[Path | None], LiteMedSAM],
        command: Command | None = None,
        postprocess: Sequence[Step] | None = None,
    ):
        """Starts nothing.

        Args:
            workspace: its cases with saved labels are learned from.
            worker: runs the model.
            weights: that the server was started with, which learning starts from too.
            strategy: of masks that are kept.
            load: a model from weights; None: the default ones.
            command: of the process; None: `litemedsam adapt`.
            postprocess: steps for masks; None: those that the weights in use name.
        """
        self._workspace, self._worker, self._weights = workspace, worker, weights
        self._strategy, self._command = strategy, command or self._adapt_command
        self._load, self._postprocess = load, postprocess
        self._masks = self._steps_of(weights)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._follower: threading.Thread | None = None
        self._state, self._line, self._chosen = "idle", "", "start"

    @property
    def output(self) -> Path:
        """Where learned weights go."""
        return self._workspace.output / "learned" / "learned.safetensors"

    @property
    def steps(self) -> tuple[Step, ...]:
        """That clean the masks of boxes, slice by slice."""
        return self._masks.steps

    def state(self) -> LearningState:
        """Where learning stands."""
        learned = self.output.is_file()
        return LearningState(self._state, self._line, learned, self._chosen, self._masks.line)

    def start(self) -> LearningState:
        """Starts the process; raises ValueError where one runs or the cases cannot be learned from.

        What is open must be saved: the process reads the output folder.
        """
        folders = {entry.path.parent.resolve() for entry in self._workspace.entries}
        if len(folders) > 1:
            raise ValueError("learning takes cases of one folder; these lie in several")
        with self._lock:
            if self._state == "running":
                raise ValueError("learning is under way already")
            images, labels = folders.pop(), self._workspace.output
            self.output.parent.mkdir(parents=True, exist_ok=True)
            self._process = subprocess.Popen(
                list(self._command(images, labels, self.output)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            self._state, self._line = "running", "starting"
            self._follower = threading.Thread(
                target=self._follow, args=(self._process,), daemon=True
            )
            self._follower.start()
        return self.state()

    def cancel(self) -> LearningState:
        """Asks the process to end; what it has encoded stays for the next time."""
        with self._lock:
            if self._process is not None and self._state == "running":
                self._state, self._line = "cancelled", "cancelled"
                _end(self._process)
        return self.state()

    def choose(self, name: str) -> LearningState:
        """Gives the model other weights: "start" or "learned"; returns when it has them.

        Raises:
            ValueError: there are no such weights.
            CheckpointError: they cannot be used; the model keeps those it has.
            OSError: the file cannot be read; likewise.
        """
        if name not in ("start", "learned"):
            raise ValueError(f"there are no weights '{name}'; expected start or learned")
        if name == "learned" and not self.output.is_file():
            raise ValueError("nothing has been learned yet")
        path = self.output if name == "learned" else self._weights
        if name == "learned":
            check_same_encoder(self.output, self._weights)
        masks = self._steps_of(path)
        self._worker.replace(lambda: self._load(path)).result()
        self._chosen, self._masks = name, masks
        return self.state()

    def close(self) -> None:
        """Ends a process that still runs, with the server."""
        self.cancel()
        if self._follower is not None:
            self._follower.join(_GRACE_SECONDS + 1)

    def _steps_of(self, weights: Path | None) -> MaskSteps:
        return steps_for(weights, self._strategy, self._postprocess, by_slice=True)

    def _adapt_command(self, images: Path, labels: Path, output: Path) -> list[str]:
        weights = ["--weights", str(self._weights)] if self._weights else []
        return [
            *(sys.executable, "-m", "litemedsam_jax", "adapt", "--labelled-only"),
            *("-i", str(images), "-l", str(labels), "-o", str(output)),
            *("--strategy", self._strategy, *weights),
        ]

    def _follow(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process:
            for line in _lines(process.stdout):
                if self._state == "running":
                    self._line = line  # of a cancelled one nobody wants to know
        status = process.returncode
        with self._lock:
            if self._process is process and self._state == "running":
                self._state = "failed" if status else "done"


def _lines(stream: IO[str]) -> Iterator[str]:
    """Lines as they come; a progress bar writes many between carriage returns."""
    for line in stream:  # text mode ends lines at carriage returns too
        text = one_line(line.strip(), LONGEST_LINE)
        if text:
            yield text


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()

    def insist() -> None:
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            with suppress(OSError):
                process.kill()

    threading.Thread(target=insist, daemon=True).start()
