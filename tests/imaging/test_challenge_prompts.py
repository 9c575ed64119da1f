"""The npz of CVPR 2025 and FLARE 2025: object arrays are read without executing anything."""

import pickle

import numpy as np
import pytest

from litemedsam_jax.imaging.case import read_case
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.object_arrays import read_objects
from litemedsam_jax.imaging.slice_prompt import SliceBox, SlicePrompt

IMGS = np.arange(12 * 40 * 50, dtype=np.uint8).reshape(12, 40, 50)


def _box(**more):
    plane = {"z_mid_x_min": 5, "z_mid_y_min": 6, "z_mid_x_max": 25, "z_mid_y_max": 30}
    return {"z_min": 2, "z_max": 8, "z_mid": 5, **plane, **more}


def _write(path, **arrays):
    np.savez_compressed(path, imgs=IMGS, spacing=np.ones(3), **arrays)
    return path


@pytest.mark.parametrize("number", [int, np.int64, np.float32], ids=lambda one: one.__name__)
def test_boxes_as_dictionaries(tmp_path, number):
    boxes = [{key: number(value) for key, value in _box().items()}] * 2
    clicks = [{"fg": [[1, 2, 3]], "bg": []}] * 2
    case = read_case(_write(tmp_path / "a.npz", boxes=boxes, clicks=clicks))
    drawn = SliceBox(5, (5, 6, 25, 30))
    assert case.slice_prompts == (SlicePrompt((drawn,), 2, 8, 1), SlicePrompt((drawn,), 2, 8, 2))
    assert case.is_volume and case.boxes is None
    assert ["clicks" in one and "not used" in one for one in case.warnings] == [True]


@pytest.mark.parametrize("protocol", range(2, 6))
def test_every_pickle_protocol_of_numpy_objects_is_read(protocol):
    array = np.empty(2, object)
    array[:] = [{"a": np.float32(1.5), "b": np.arange(6, dtype=">i4").reshape(2, 3)}, (1, "two")]
    data = pickle.dumps(array, protocol=protocol)
    expected = [{"a": 1.5, "b": [[0, 1, 2], [3, 4, 5]]}, (1, "two")]
    assert read_objects(data, "boxes") == expected


def test_empty_clicks_are_not_mentioned(tmp_path):
    clicks = [{"fg": [], "bg": []}]
    case = read_case(_write(tmp_path / "a.npz", boxes=[_box()], clicks=clicks))
    assert case.warnings == ()


class _Evil:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([_Evil()], "builtins.print"),
        ([{"z_min": 1}], "box 1 lacks 'z_max'"),
        ([_box(z_mid="five")], "box 1"),
        ([_box(z_mid=50)], "slice 50"),
        ([_box(z_mid=9)], "outside of its range"),
        ([[1, 2, 3], [1, 2]], "box 1"),
    ],
)
def test_other_objects_are_refused_in_a_line(tmp_path, capfd, boxes, message):
    array = np.empty(len(boxes), object)
    array[:] = boxes
    with pytest.raises(CaseError, match=message):
        read_case(_write(tmp_path / "a.npz", boxes=array))
    assert "executed" not in capfd.readouterr().out


def test_a_recist_marker_becomes_a_box_on_its_slice(tmp_path):
    marker = np.zeros(IMGS.shape, np.uint8)
    marker[4, 20, 10:31] = 1  # a line
    marker[7, 5:20, 35:45] = 3  # a filled box
    case = read_case(_write(tmp_path / "a.npz", recist=marker))
    line, box = case.slice_prompts
    assert line.label == 1 and line.boxes[0].index == 4 and line.first is None
    np.testing.assert_allclose(line.boxes[0].box, [10, 13, 30, 27])
    assert box == SlicePrompt((SliceBox(7, (35, 5, 44, 19)),), label=3)
    with pytest.raises(CaseError, match="marks nothing"):
        read_case(_write(tmp_path / "b.npz", recist=np.zeros_like(marker)))


def test_a_plain_case_that_lacks_boxes_is_told_as_before(tmp_path):
    with pytest.raises(CaseError, match="has no array 'boxes'"):
        read_case(_write(tmp_path / "a.npz"))
