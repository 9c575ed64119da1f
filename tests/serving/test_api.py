"""The HTTP interface, as a script uses it; the network is a fake."""

import json
import threading

import numpy as np
import pytest
from starlette.testclient import TestClient

from litemedsam_jax.imaging.npz import write_npz
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.serving.app import create_app
from litemedsam_jax.serving.events import Events
from litemedsam_jax.serving.model_worker import PROMPT, ModelWorker, Superseded
from litemedsam_jax.serving.workspace import Workspace
from tests.support.fake_engine import FakeEngine

API = "/api/v1/cases/0"
TOKEN = "secret"


class Client:
    """A script's view of a server with one case, a volume (8, 64, 64)."""

    def __init__(self, folder, engine, read_only=False, load=None):
        volume = np.arange(8 * 64 * 64, dtype=np.int64).reshape(8, 64, 64) % 251
        path = folder / "volume.npz"
        write_npz(path, imgs=volume.astype(np.uint8), spacing=np.array([0.5, 0.5, 2.0]))
        self.volume = volume
        workspace = Workspace([path], folder / "out", read_only=read_only)
        worker = ModelWorker(load or (lambda: LiteMedSAM(engine)), lambda: None)
        self.events = Events()
        app = create_app(workspace, worker, self.events, TOKEN, 1234)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        self.http = TestClient(app, "http://127.0.0.1:1234", headers=headers)

    def get(self, path, status=200):
        answer = self.http.get(API + path)
        assert answer.status_code == status, answer.text
        return answer

    def post(self, path, body=None, status=200):
        answer = self.http.post(API + path, json=body or {})
        assert answer.status_code == status, answer.text
        return answer.json() if "ndjson" not in answer.headers["content-type"] else answer.text

    def labels(self, axis=0, index=3) -> np.ndarray:
        patch = self.get(f"/labels/{axis}/{index}").json()["patch"]
        rows, columns = (n for k, n in enumerate((8, 64, 64)) if k != axis)
        whole = np.zeros((rows, columns), int)
        part = np.repeat(patch["values"], patch["lengths"])
        y, x, height, width = (patch[k] for k in ("y", "x", "height", "width"))
        whole[y : y + height, x : x + width] = part.reshape(height, width)
        return whole


@pytest.fixture
def client(tmp_path, fake_engine):
    client = Client(tmp_path, fake_engine)
    with client.http:
        yield client


BOX = {"slice": 3, "box": [10, 20, 29, 39], "label": 1}


def test_slices_come_as_they_are(client):
    case = client.get("").json()
    assert case["shape"] == [8, 64, 64] and case["revision"] == 0
    for axis, index in ((0, 5), (1, 40), (2, 7)):
        answer = client.get(f"/slices/{axis}/{index}")
        shape = tuple(map(int, answer.headers["x-shape"].split(",")))
        values = np.frombuffer(answer.content, answer.headers["x-dtype"]).reshape(shape)
        np.testing.assert_array_equal(values, client.volume.take(index, axis))


def test_events_begin_with_the_model_whose_coming_may_have_been_missed(client):
    client.events.close()  # so that the stream ends with its first event
    first = json.loads(client.get("/events").text.removeprefix("data: "))
    assert first == {"revision": 0, "model": True}


@pytest.mark.parametrize("path", ["/slices/0/8", "/slices/3/0", "/labels/0/99"])
def test_slices_that_are_not_there(client, path):
    assert "no slice" in client.get(path, 422).json()["error"]


def test_no_path_comes_from_a_request(client):
    assert client.http.get("/api/v1/cases/1").status_code == 404
    assert client.http.get("/api/v1/cases/..%2f..%2fetc").status_code == 404


def test_a_box_is_tried_without_a_trace_and_kept(client):
    tried = client.post("/predict", {**BOX, "number": 5})
    assert tried["number"] == 5 and tried["patch"]["values"] == [1]
    assert not client.labels().any() and not client.get("/state").json()["can_undo"]
    kept = client.post("/boxes", BOX)
    assert kept["revision"] == 1 and kept["slices"] == [3]
    mask = client.labels()
    assert mask[22:38, 12:28].all() and mask.sum() < 25 * 25
    np.testing.assert_array_equal(client.labels(1, 30)[3], mask[30])
    # Moved: the old mask goes.
    client.post("/boxes", {**BOX, "box": [40, 40, 50, 50], "layer": kept["layer"]})
    mask = client.labels()
    assert mask[45, 45] == 1 and not mask[20:38, 10:38].any()
    client.post("/undo")
    assert client.labels()[30, 20] == 1


def test_a_subtracting_box_and_a_painted_stroke(client):
    client.post("/boxes", BOX)
    client.post("/boxes", {**BOX, "box": [10, 20, 19, 39], "adds": False})
    mask = client.labels()
    assert not mask[22:38, 11:19].any() and mask[22:38, 22:28].all()
    stroke = {"x": 5, "y": 2, "width": 3, "height": 2, "values": [1], "lengths": [6]}
    client.post("/paint", {"axis": 1, "index": 9, "label": 1, "mask": stroke})
    assert [client.labels(0, z)[9, 5:8].tolist() for z in (1, 2, 3, 4)] == [
        [0] * 3, [1] * 3, [1] * 3, [0] * 3,
    ]  # fmt: skip
    np.testing.assert_array_equal(client.labels(1, 9)[2:4, 5:8], np.ones((2, 3)))
    client.post(
        "/paint", {"axis": 2, "index": 6, "label": 1, "mask": {**stroke, "x": 8}, "adds": False}
    )
    assert client.labels(1, 9)[2:4, 5:8].tolist() == [[1, 0, 1]] * 2


def test_propagation_comes_slice_by_slice_and_is_one_step(client):
    layer = client.post("/boxes", BOX)["layer"]
    client.post("/ranges", {"label": 1, "first": 1, "last": 6})
    lines = client.post("/propagate", {"layer": layer}).splitlines()
    assert len(lines) == 6 and '"ended":"finished"' in lines[-1]
    assert [bool(client.labels(0, z).any()) for z in range(8)] == [
        z in range(1, 7) for z in range(8)
    ]
    client.post("/undo")
    assert [bool(client.labels(0, z).any()) for z in range(8)] == [z == 3 for z in range(8)]
    client.post("/redo")
    saved = client.post("/save")
    assert "volume.npz" in saved["files"]


def test_boxes_on_other_slices_lead_a_propagation(client):
    first = client.post("/boxes", BOX)["layer"]
    client.post("/ranges", {"label": 1, "first": 1, "last": 6})
    client.post("/propagate", {"layer": first})
    before = [client.labels(0, z) for z in range(1, 6)]
    wider = [BOX["box"][0] - 8, *BOX["box"][1:]]
    second = client.post("/boxes", {**BOX, "box": wider, "slice": 6})["layer"]
    last = json.loads(client.post("/propagate", {"layer": second}).splitlines()[-1])
    assert last["ended"] == "finished" and last["guides"] == [3]
    starts = [int(np.flatnonzero(client.labels(0, z).any(axis=0))[0]) for z in range(1, 7)]
    assert starts[5] < starts[4] < starts[3] < starts[2]  # from box to box
    kinds = {one["number"]: one["kind"] for one in last["layers"]}
    assert kinds == {first: "box", second: "propagation"}
    client.post("/undo")  # what the first box had left comes back
    np.testing.assert_array_equal([client.labels(0, z) for z in range(1, 6)], before)


def test_diameters_lie_where_the_label_does(client):
    stroke = {"x": 5, "y": 7, "width": 12, "height": 4, "values": [1], "lengths": [48]}
    client.post("/paint", {"axis": 0, "index": 6, "label": 1, "mask": stroke})
    (found,) = client.get("/diameters").json()["labels"]
    assert (found["axis"], found["slice"], found["unit"]) == (0, 6, "mm")
    x1, y1, x2, y2 = found["lines"][0]
    assert {x1, x2} <= {4.5, 16.5} and {y1, y2} <= {7, 10}
    assert found["lengths"][0] == pytest.approx(np.hypot(x2 - x1, y2 - y1) * 0.5)
    assert found["text"].endswith("mm") and f"{found['lengths'][0]:.1f}" in found["text"]


def test_labels_are_added_locked_and_removed(client):
    client.post("/boxes", BOX)
    two = client.post("/labels", {"name": "  spleen \n"})
    assert two["label"] == 2 and two["labels"][1]["name"] == "spleen"
    client.post("/labels", {"value": 1, "locked": True})
    client.post("/boxes", {**BOX, "label": 2, "box": [5, 5, 60, 60]})
    mask = client.labels()
    assert (mask[22:38, 12:28] == 1).all() and mask[50, 50] == 2
    for path, body in (("/boxes", BOX), ("/tidy", {"what": "clear", "label": 1})):
        assert "is locked" in client.post(path, body, 422)["error"]
    assert client.http.delete(API + "/labels/1").status_code == 422
    state = client.http.delete(API + "/labels/2").json()
    assert [label["value"] for label in state["labels"]] == [1] and client.labels().max() == 1
    sizes = client.get("/measurements").json()["labels"][0]
    assert sizes["ml"] == pytest.approx(sizes["voxels"] * 0.5 / 1000)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/boxes", {**BOX, "label": 9}),
        ("/boxes", {**BOX, "box": [1, 2, 3]}),
        ("/boxes", {**BOX, "box": [100, 100, 120, 120]}),
        ("/boxes", {**BOX, "slice": 8}),
        ("/boxes", {**BOX, "slice": "3"}),
        ("/boxes", {**BOX, "surplus": 1}),
        ("/boxes", {"slice": 1}),
        ("/boxes", {**BOX, "layer": 77, "label": 5}),
        ("/predict", {**BOX, "threshold": None}),
        ("/paint", {"axis": 5, "index": 0, "label": 1, "mask": {}}),
        ("/paint", {"axis": 0, "index": 0, "label": 1, "mask": {"x": 1}}),
        ("/tidy", {"what": "explode", "label": 1}),
        ("/tidy", {"what": "fill", "label": 1}),
        ("/propagate", {"layer": 1}),
        ("/labels", {"colour": 3}),
        ("/undo", {}),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_said_in_a_line_and_changes_nothing(client, path, body):
    before = client.get("/state").json()
    error = client.post(path, body, 422)["error"]
    assert error.isprintable() and len(error) > 5
    assert client.get("/state").json() == before
    for content in (b"[not json", b"[]", b'{"box": [NaN, 1, 2, 3], "slice": 1, "label": 1}'):
        assert client.http.post(API + "/boxes", content=content).status_code == 422


def test_read_only_keeps_nothing(tmp_path, fake_engine):
    client = Client(tmp_path, fake_engine, read_only=True)
    with client.http:
        assert client.post("/predict", BOX)["patch"]["values"] == [1]
        assert "read-only" in client.post("/boxes", BOX, 403)["error"]
        assert "read-only" in client.post("/save", {}, 403)["error"]
    assert not (tmp_path / "out").exists()


def test_without_weights_all_but_the_model_works(tmp_path, fake_engine):
    def load():
        raise ValueError("no_weights.safetensors: there is no such file; run `make weights`")

    client = Client(tmp_path, fake_engine, load=load)
    with client.http:
        assert "make weights" in client.post("/boxes", BOX, 503)["error"]
        stroke = {"x": 5, "y": 2, "width": 3, "height": 2, "values": [1], "lengths": [6]}
        client.post("/paint", {"axis": 0, "index": 3, "label": 1, "mask": stroke})
        assert client.labels().sum() == 6
        state = client.http.get("/api/v1/workspace").json()["model"]
        assert state["state"] == "missing" and "make weights" in state["message"]


def test_of_one_clients_waiting_requests_the_latest_is_run():
    started, release = threading.Event(), threading.Event()
    worker = ModelWorker(lambda: LiteMedSAM(FakeEngine()), lambda: None)
    worker.start()

    def first(_):
        started.set()
        release.wait(10)
        return "first"

    ran = []
    futures = [worker.submit(first, PROMPT, "a")]
    started.wait(10)
    futures += [worker.submit(lambda _, n=n: ran.append(n), PROMPT, "a") for n in range(5)]
    other = worker.submit(lambda _: "other", PROMPT, "b")
    release.set()
    assert futures[0].result(10) == "first" and other.result(10) == "other"
    for future in futures[1:-1]:
        assert isinstance(future.exception(10), Superseded)
    futures[-1].result(10)
    assert ran == [4]
    worker.stop()


def test_embeddings_are_kept_and_bounded(tmp_path):
    engine = FakeEngine()
    client = Client(tmp_path, engine)
    with client.http:
        for _ in range(3):
            client.post("/predict", BOX)
        assert len(engine.images) == 1
        client.post("/encode", {"slice": 4})
        client.post("/predict", {**BOX, "slice": 4})
        assert len(engine.images) == 2


def test_learning_is_offered_where_the_server_learns(client, tmp_path):
    answer = client.http.get("/api/v1/learn")
    assert answer.status_code == 404 and "does not learn" in answer.json()["error"]
    wrong = client.http.post("/api/v1/learn/model", json={"weights": 3})
    assert wrong.status_code == 422
