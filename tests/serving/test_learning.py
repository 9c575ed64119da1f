"""Learning from annotated cases: a stand-in process, its progress, and what comes of it."""

import sys
import time

import numpy as np
import pytest

from litemedsam_jax.imaging.npz import write_npz
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.serving.learning import Learning
from litemedsam_jax.serving.model_worker import ModelWorker
from litemedsam_jax.serving.workspace import Workspace


def script(text: str):
    """A stand-in for `litemedsam adapt`: Python code that knows images, labels, output."""
    start = "import shutil, sys, time; images, labels, output = sys.argv[1:]\n"
    return lambda images, labels, output: [
        *(sys.executable, "-u", "-c", start + text, str(images), str(labels), str(output))
    ]


@pytest.fixture
def learner(tmp_path, fake_engine):
    """Makes a `Learning` with another process; its worker runs."""
    write_npz(tmp_path / "a.npz", imgs=np.zeros((8, 8), np.uint8))
    made: list[tuple[ModelWorker, Learning]] = []

    def loaded(path):
        assert path is None or path.is_file()
        return LiteMedSAM(fake_engine)

    def make(text: str, paths=("a.npz",)) -> Learning:
        workspace = Workspace([tmp_path / path for path in paths], tmp_path / "out")
        worker = ModelWorker(lambda: LiteMedSAM(fake_engine), lambda: None)
        worker.start()
        learning = Learning(workspace, worker, None, "best", loaded, script(text))
        made.append((worker, learning))
        return learning

    yield make
    for worker, learning in made:
        learning.close()
        worker.stop()


def wait_for(learning: Learning, state: str):
    for _ in range(600):
        if (found := learning.state()).state == state:
            return found
        time.sleep(0.05)
    raise AssertionError(learning.state())


def test_progress_is_the_newest_line_and_the_result_is_a_choice(learner, tmp_path):
    learning = learner("print('fold 1 of 3'); open(output, 'w').close(); print(images)")
    assert learning.state().state == "idle" and not learning.state().learned
    with pytest.raises(ValueError, match="nothing has been learned"):
        learning.choose("learned")
    learning.start()
    found = wait_for(learning, "done")
    assert found.line == str(tmp_path)
    assert found.learned and found.chosen == "start"
    assert learning.choose("learned").chosen == "learned"
    with pytest.raises(ValueError, match="expected start or learned"):
        learning.choose("other")


def test_what_went_wrong_is_the_last_line(learner):
    learning = learner("print('error: labels are empty', file=sys.stderr); sys.exit(1)")
    learning.start()
    found = wait_for(learning, "failed")
    assert found.line == "error: labels are empty" and not found.learned
    assert learning.start().state == "running"  # it may be tried again
    wait_for(learning, "failed")


def test_one_process_at_a_time_which_can_be_ended(learner):
    learning = learner("print('at it', flush=True); time.sleep(60)")
    learning.start()
    with pytest.raises(ValueError, match="under way"):
        learning.start()
    assert learning.cancel().state == "cancelled"
    assert learning.cancel().state == "cancelled" and learning.state().line == "cancelled"
    assert learning.start().state == "running"


def test_cases_of_several_folders_are_refused(learner, tmp_path):
    (tmp_path / "b").mkdir()
    write_npz(tmp_path / "b" / "b.npz", imgs=np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match="one folder"):
        learner("", ("a.npz", "b/b.npz")).start()
