"""Learning from annotated cases: its process, its progress, what comes of it, also on the page."""

import json
import sys
import time

import numpy as np
import pytest
from starlette.testclient import TestClient

from litemedsam_jax.imaging.npz import write_npz
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.inference.strategies import CLEAN
from litemedsam_jax.serving.app import create_app
from litemedsam_jax.serving.events import Events
from litemedsam_jax.serving.learning import Learning
from litemedsam_jax.serving.model_worker import ModelWorker
from litemedsam_jax.serving.workspace import Workspace
from litemedsam_jax.weights import safetensors_file
from litemedsam_jax.weights.adaptation_note import KEY
from litemedsam_jax.weights.tree import flatten
from tests.conftest import REPOSITORY
from tests.support.fake_engine import FakeEngine
from tests.support.small_network import random_variables, small_model


def script(text: str):
    """A stand-in for `litemedsam adapt`: Python code that knows images, labels, output."""
    start = "import shutil, sys, time; images, labels, output = sys.argv[1:]\n"
    return lambda images, labels, output: [
        *(sys.executable, "-u", "-c", start + text, str(images), str(labels), str(output))
    ]


FUNDUS = REPOSITORY / "demo" / "imgs" / "2DBox_Fundus_retina.npz"
LEARN = "shutil.copy(images + '/adapted.safetensors', output); "


def notched(_, box):
    """Logits of the box without the middle of its upper half, and a row less below."""
    logits = np.full((256, 256), -5, np.float32)
    x_min, y_min, x_max, y_max = box.astype(int)
    logits[y_min : y_max - 8, x_min : x_max + 1] = 5
    logits[: (y_min + y_max) // 2, (2 * x_min + x_max) // 3 : (x_min + 2 * x_max) // 3] = -5
    return logits


@pytest.fixture
def parts(tmp_path, fake_engine):
    """Makes a worker, a `Learning` with another process, and a workspace; the worker runs.

    Learned weights give masks with a notch, and name a step that fills it.
    """
    write_npz(tmp_path / "a.npz", imgs=np.zeros((8, 8), np.uint8))
    made: list[tuple[ModelWorker, Learning, Workspace]] = []

    variables = random_variables(small_model())
    record = {"summary": "DSC 0.5 -> 0.7", "strategy": "best", "postprocess": "hull"}
    start, adapted = tmp_path / "start.safetensors", tmp_path / "adapted.safetensors"
    safetensors_file.save(start, variables, small_model())
    safetensors_file.save(adapted, variables, small_model(), None, {KEY: json.dumps(record)})

    def loaded(path):
        assert path.is_file()
        return LiteMedSAM(fake_engine if path == start else FakeEngine(notched))

    def make(text: str, paths=("a.npz",)) -> tuple[ModelWorker, Learning, Workspace]:
        workspace = Workspace([tmp_path / path for path in paths], tmp_path / "out")
        worker = ModelWorker(lambda: LiteMedSAM(fake_engine), lambda: None)
        worker.start()
        learning = Learning(workspace, worker, start, "best", loaded, script(text))
        made.append((worker, learning, workspace))
        return made[-1]

    yield make
    for worker, learning, workspace in made:
        learning.close()
        worker.stop()
        workspace.close()


@pytest.fixture
def learner(parts):
    """The `Learning` of `parts`."""
    return lambda *arguments: parts(*arguments)[1]


def wait_for(learning: Learning, state: str):
    for _ in range(600):
        if (found := learning.state()).state == state:
            return found
        time.sleep(0.05)
    raise AssertionError(learning.state())


def test_progress_is_the_newest_line_and_the_result_is_a_choice(learner, tmp_path):
    learning = learner("print('fold 1 of 3'); " + LEARN + "print(images)")
    assert learning.state().state == "idle" and not learning.state().learned
    with pytest.raises(ValueError, match="nothing has been learned"):
        learning.choose("learned")
    learning.start()
    ended = wait_for(learning, "done")
    assert ended.line == str(tmp_path)
    assert ended.learned and ended.chosen == "start"
    assert ended.note == "" and not learning.steps
    state = learning.choose("learned")
    assert state.chosen == "learned" and "hull is applied" in state.note
    assert [step.name for step in learning.steps] == ["hull"]
    assert learning.choose("start").note == ""
    with pytest.raises(ValueError, match="expected start or learned"):
        learning.choose("other")


def test_masks_are_those_of_the_weights_in_use_also_on_slices_encoded_before(parts, tmp_path):
    write_npz(tmp_path / "v.npz", imgs=np.arange(3 * 64 * 64).reshape(3, 64, 64).astype(np.uint8))
    worker, learning, workspace = parts(LEARN, ("v.npz",))
    app = create_app(workspace, worker, Events(), "secret", 1234, strategy=CLEAN, learning=learning)
    http = TestClient(app, "http://127.0.0.1:1234", headers={"Authorization": "Bearer secret"})
    box = {"slice": 1, "box": [10, 20, 40, 50], "label": 1}

    def mask() -> np.ndarray:
        patch = http.post("/api/v1/cases/0/predict", json=box).json()["patch"]
        values = np.repeat(patch["values"], patch["lengths"])
        return values.reshape(patch["height"], patch["width"])

    before = mask()
    assert before.all() and len(before) == 30
    learning.start()
    wait_for(learning, "done")
    http.post("/api/v1/learn/model", json={"weights": "learned"})
    after = mask()
    assert after.all() and len(after) == 28  # of the learned decoder, its notch filled
    http.post("/api/v1/learn/model", json={"weights": "start"})
    np.testing.assert_array_equal(mask(), before)


def test_weights_with_another_encoder_are_refused(learner, tmp_path):
    """Slices that are encoded would be taken for its own."""
    learning = learner(LEARN)
    other = flatten(random_variables(small_model(), seed=1))
    safetensors_file.save(tmp_path / "adapted.safetensors", other, small_model())
    learning.start()
    wait_for(learning, "done")
    with pytest.raises(ValueError, match="its image encoder is another"):
        learning.choose("learned")
    assert learning.state().chosen == "start"


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


def test_learning_from_the_page_says_what_it_lacks_and_can_be_tried_again(open_page, tmp_path):
    """The real command in its own process; no case has labels, which it says in seconds."""
    page = open_page(FUNDUS)
    page.wait_for_model()
    page.click("#learn")
    page.wait(lambda: page.text("#learn") == "Cancel learning", "learning")
    page.wait(lambda: page.text("#learn") == "Learn from these cases", "its end")
    assert "holds no images" in page.text("#learn-line")
    assert not (tmp_path / "out" / "learned" / "learned.safetensors").exists()


def test_learned_weights_are_chosen_on_the_page_and_say_what_is_done(
    open_page, tmp_path, published_weights
):
    record = {"summary": "DSC 0.5 -> 0.7", "strategy": "reference", "postprocess": "hull"}
    (tmp_path / "out" / "learned").mkdir(parents=True)
    safetensors_file.save(
        tmp_path / "out" / "learned" / "learned.safetensors",
        published_weights.variables,
        published_weights.config,
        metadata={KEY: json.dumps(record)},
    )
    page = open_page(FUNDUS)
    page.wait_for_model()
    assert page.text("#weights-note") == ""
    page.script(
        "const weights = document.getElementById('weights'); weights.value = 'learned';"
        "weights.dispatchEvent(new Event('change'));"
    )
    said = "DSC 0.5 -> 0.7; hull is applied (--postprocess none: without)"
    page.wait(lambda: page.text("#weights-note") == said, "the learned weights")
