"""The protocol as its real client speaks it; the network is a fake, but for parity."""

import threading
import time

import httpx
import numpy as np
import pytest

from litemedsam_jax.imaging.npz import read_npz
from litemedsam_jax.imaging.postprocess import parse
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.serving.embedding_cache import EmbeddingCache
from litemedsam_jax.serving.remote.caching_engine import CachingEngine
from litemedsam_jax.serving.remote.served_weights import ServedWeights
from tests.conftest import REPOSITORY
from tests.serving.remote.conftest import SHAPE
from tests.support.fake_engine import FakeEngine

# The fake engine's mask of a box is the box, so masks are told by where they lie.
BOX = [[4, 9], [10, 20], [12, 30]]


def on_slice(index, axis=0, box=BOX):
    return [[index, index + 1] if k == axis else list(span) for k, span in enumerate(box)]


def extent(mask, axis):
    set_ = np.flatnonzero(mask.any(tuple(k for k in range(3) if k != axis)))
    return [int(set_[0]), int(set_[-1]) + 1]


@pytest.mark.parametrize("strategy", ["reference", "best"])
def test_a_3d_box_gives_the_mask_of_infer_py(model, serve, begin, strategy):
    from litemedsam_jax.inference.strategies import parse

    case = read_npz(REPOSITORY / "demo/imgs/3DBox_MR_brain1_tumor.npz", ("imgs", "boxes"))
    x_min, y_min, z_min, x_max, y_max, z_max = (int(edge) for edge in case["boxes"][0])
    expected = model.segment_volume(case["imgs"], case["boxes"][:1], strategy)
    session, buffer = begin(serve(model.engine, strategy=parse(strategy)), case["imgs"])
    box = [[z_min, z_max + 1], [y_min, y_max + 1], [x_min, x_max + 1]]
    changed = session.add_bbox_interaction(box, True)
    np.testing.assert_array_equal(buffer, expected)
    assert expected.any() and changed == [extent(expected, axis) for axis in range(3)]


def test_a_2d_box_gives_the_mask_of_its_object_and_of_its_slice_alone_without_autozoom(
    model, serve, begin
):
    case = read_npz(REPOSITORY / "demo/imgs/3DBox_MR_brain1_tumor.npz", ("imgs", "boxes"))
    x_min, y_min, z_min, x_max, y_max, z_max = (int(edge) for edge in case["boxes"][0])
    middle = (z_min + z_max) // 2
    box = [[middle, middle + 1], [y_min, y_max + 1], [x_min, x_max + 1]]
    session, buffer = begin(serve(model.engine), case["imgs"])
    session.set_do_autozoom(False)
    session.add_bbox_interaction(box, True)
    model.set_image(case["imgs"][middle])
    expected = model.predict(np.array([x_min, y_min, x_max, y_max]))[0][0]
    np.testing.assert_array_equal(buffer[middle], expected)
    assert buffer.sum() == expected.sum() > 0
    session.reset_interactions()
    session.set_do_autozoom(True)
    session.add_bbox_interaction(box, True)
    first, end = extent(buffer, 0)
    assert first <= middle - 1 and middle + 1 < end and end - first < 15


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_box_on_any_plane_becomes_a_mask_there(serve, begin, volume, axis):
    session, buffer = begin(serve(), volume)
    session.set_do_autozoom(False)
    changed = session.add_bbox_interaction(on_slice(6, axis), True)
    assert changed[axis] == [6, 7]
    for k in range(3):  # boxes are rounded to pixels of the network's input
        np.testing.assert_allclose(extent(buffer, k), on_slice(6, axis)[k], atol=1)


def test_boxes_between_voxels_as_napari_draws_them_are_rounded(serve, begin, volume):
    server = serve()
    session, exact = begin(server, volume)
    other, rounded = begin(server, volume)
    session.add_bbox_interaction(BOX, True)
    other.add_bbox_interaction([[8.6, 3.7], [10.3, 19.6], [11.8, 30.4]], True)
    np.testing.assert_array_equal(exact, rounded)


def test_undo_goes_back_step_by_step_and_reset_to_nothing(serve, begin, volume):
    session, buffer = begin(serve(), volume)
    states = [buffer.copy()]
    for box, adds in (
        (BOX, True),
        ([[5, 7], [12, 16], [14, 20]], False),
        ([[0, 3], *BOX[1:]], True),
    ):
        session.add_bbox_interaction(box, adds)
        states.append(buffer.copy())
    assert [int(a.sum() > b.sum()) for a, b in zip(states[1:], states, strict=False)] == [1, 0, 1]
    for state in states[-2::-1]:
        assert session.undo()
        np.testing.assert_array_equal(buffer, state)
    assert not session.undo()
    session.add_bbox_interaction(BOX, True)
    session.reset_interactions()
    assert not session.undo() and not buffer.any()


def test_only_what_changes_comes_back(serve, begin, volume):
    session, buffer = begin(serve(), volume)
    session.add_bbox_interaction([[2, 5], [4, 12], [4, 12]], True)
    changed = session.add_bbox_interaction([[7, 10], [20, 30], [20, 40]], True)
    assert changed[0] == [7, 10] and changed[1][0] >= 19
    assert session.add_bbox_interaction([[7, 10], [20, 30], [20, 40]], True) is None  # the same
    assert extent(buffer, 0) == [2, 10]


def test_prompts_may_be_gathered_before_a_mask_is_made(serve, begin, volume):
    session, buffer = begin(serve(), volume)
    assert session._predict() is None
    session.add_bbox_interaction(BOX, True, run_prediction=False)
    session.add_bbox_interaction([[5, 7], [12, 16], [14, 20]], False, run_prediction=False)
    assert not buffer.any()
    assert session._predict()[0] == [4, 9]
    assert buffer[4, 14, 16] and not buffer[5, 14, 16]
    assert session.undo() and not buffer.any()  # as before the box that subtracts
    assert session._predict() is not None and buffer[5, 14, 16]
    assert session.undo() and not buffer.any()


def test_a_mask_to_go_on_from_is_joined_and_subtracted_from(serve, begin, volume):
    session, buffer = begin(serve(), volume)
    begun = np.zeros(SHAPE, np.uint8)
    begun[1:4, 5:35, 5:45] = 1
    session.add_initial_seg_interaction(begun)
    np.testing.assert_array_equal(buffer, begun)
    session.add_bbox_interaction(BOX, True)
    assert buffer[2, 6, 6] and buffer[8, 15, 20]
    session.add_bbox_interaction([[1, 2], [10, 20], [10, 20]], False)
    assert not buffer[1, 15, 15] and buffer[1, 30, 40]
    assert session.undo() and session.undo()
    np.testing.assert_array_equal(buffer, begun)
    assert session.undo() and not buffer.any()


def test_a_lasso_counts_as_the_box_around_it_wherever_its_mask_is_cut_out(serve, begin, volume):
    server = serve()
    session, boxed = begin(server, volume)
    session.add_bbox_interaction(on_slice(6), True)
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[6, 10:20, 20], drawn[6, 14, 12:30] = 1, 1
    for bounds in (None, [[6, 7], [8, 24], [10, 34]]):
        other, lassoed = begin(server, volume)
        crop = drawn if bounds is None else drawn[tuple(slice(a, b) for a, b in bounds)]
        other.add_lasso_interaction(crop, True, interaction_bbox=bounds)
        np.testing.assert_array_equal(lassoed, boxed)


def test_what_the_network_does_not_know_is_denied(serve, begin, volume):
    session, buffer = begin(serve(), volume)
    assert session.supported_interactions == {
        "points": False, "scribble": False, "lasso": True, "bbox2d": True, "bbox3d": True,
    }  # fmt: skip
    assert session.license == "Apache-2.0" and session.supports_undo
    scribble = np.zeros(SHAPE, np.uint8)
    scribble[6, 10:20, 12:30] = 1
    for refused in (
        lambda: session.add_point_interaction([1, 2, 3], True),
        lambda: session.add_scribble_interaction(scribble, True),
    ):
        with pytest.raises(httpx.HTTPStatusError) as caught:
            refused()
        assert caught.value.response.status_code == 400
        assert "box" in caught.value.response.json()["detail"]
    assert not buffer.any()
    session.add_scribble_interaction(scribble, True, override_capability_checks=True)
    assert buffer[6, 15, 20]


def test_a_2d_image_is_one_slice(serve, connect):
    session = connect(serve())
    image = (np.arange(60 * 80).reshape(60, 80) % 256).astype(np.uint8)
    session.set_image(image[None, None])
    buffer = np.zeros((1, 60, 80), np.uint8)
    session.set_target_buffer(buffer)
    session.add_bbox_interaction([[0, 1], [10, 30], [20, 50]], True)
    assert buffer[0, 20, 35] and not buffer[0, 40, 35]
    flat = np.zeros((60, 80), np.int32)
    session.set_target_buffer(flat)
    assert session.add_bbox_interaction([[10, 30], [20, 50]], True) is not None
    np.testing.assert_array_equal(flat, buffer[0])


def test_sessions_beside_each_other_do_not_meet(serve, begin, volume):
    server = serve()
    first, one = begin(server, volume)
    second, other = begin(server, volume[:, ::-1].copy())
    boxes = [[[k, k + 3], [4, 20], [6, 30]] for k in range(8)]

    def draw(session, chosen):
        for box in chosen:
            session.add_bbox_interaction(box, True)

    threads = [
        threading.Thread(target=draw, args=(first, boxes)),
        threading.Thread(target=draw, args=(second, boxes[:2])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (extent(one, 0), extent(other, 0)) == ([0, 10], [0, 4])


def test_time_that_runs_out_leaves_the_slices_done_and_run_goes_on(serve, begin, volume):
    server = serve(answer_seconds=1e-9)
    session, buffer = begin(server, volume)
    session.add_bbox_interaction(on_slice(6), True)
    assert extent(buffer, 0) == [6, 7] and any("not reached" in line for line in server.log)
    assert session._predict() is not None or buffer.any()
    with pytest.raises(httpx.HTTPStatusError) as caught:
        session.add_bbox_interaction(BOX, True)
    assert caught.value.response.status_code == 504


def test_slices_around_the_middle_are_encoded_when_the_image_comes(serve, begin, volume):
    server = serve(cache_bytes=1 << 30)
    begin(server, volume)
    end = time.monotonic() + 20
    while server.engine.passes < len(volume) and time.monotonic() < end:
        time.sleep(0.01)
    assert server.engine.passes == len(volume)


def test_the_modality_is_guessed_and_told(serve, connect):
    server = serve()
    session = connect(server)
    ct = np.linspace(-1000, 1500, 4 * 32 * 32).reshape(1, 4, 32, 32)
    session.set_image(ct.astype(np.int16), {"spacing": np.array([1.0, 1.0, 4.0])})
    assert session.original_image_shape == (1, 4, 32, 32)
    said = server.log[-1]
    assert "values from -1000: taken as CT, window 40/400" in said and "axis 2" in said


def notched(_, box):
    """The box, without the middle of its upper half."""
    logits = np.full((256, 256), -5, np.float32)
    x_min, y_min, x_max, y_max = box.astype(int)
    logits[y_min : y_max + 1, x_min : x_max + 1] = 5
    x, y, third = (x_min + x_max) // 2, (y_min + y_max) // 2, (x_max - x_min) // 6
    logits[:y, x - third : x + third] = -5
    return logits


def test_other_weights_are_chosen_by_the_servers_address(serve, connect, volume):
    """They share the encoded slices, and bring the step that cleans their masks."""
    cache: EmbeddingCache = EmbeddingCache(1 << 30)
    engine = CachingEngine(FakeEngine(notched), cache)
    adapted = ServedWeights(LiteMedSAM(engine), parse("hull"), "DSC 0.5 -> 0.7")
    server = serve(weights={"my": adapted, "raw": ServedWeights(LiteMedSAM(engine))})
    masks = {}
    for name in ("", "/my", "/raw"):
        session = connect(server, path=name)
        session.set_image(volume[None])
        masks[name] = np.zeros(SHAPE, np.uint8)
        session.set_target_buffer(masks[name])
        session.add_bbox_interaction(BOX, True)
    assert masks["/raw"].any() and masks["/raw"].sum() < masks[""].sum()
    np.testing.assert_array_equal(masks["/my"], masks[""])  # the notch is filled
    served = httpx.get(f"{server.address}/weights").json()["weights"]
    assert {"path": "/my", "note": "DSC 0.5 -> 0.7"} in served and len(served) == 3
    refused = httpx.post(f"{server.address}/your/claim")
    assert refused.status_code == 404 and "no weights /your" in refused.json()["detail"]


def test_what_is_taken_away_is_not_cleaned(serve, connect, volume):
    engine = CachingEngine(FakeEngine(notched), EmbeddingCache(1))
    served = ServedWeights(LiteMedSAM(engine), parse("hull"))
    session = connect(serve(weights={"my": served}), path="/my")
    session.set_image(volume[None])
    buffer = np.zeros(SHAPE, np.uint8)
    session.set_target_buffer(buffer)
    session.add_bbox_interaction(BOX, True)
    whole = buffer.sum()
    session.add_bbox_interaction(BOX, False)
    assert 0 < buffer.sum() < whole / 2  # the notch of what was taken away stays
