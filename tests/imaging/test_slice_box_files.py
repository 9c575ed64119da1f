"""Boxes on single slices in JSON and CSV: objects, planes, millimetres, and what is refused."""

import json

import numpy as np
import pytest

from litemedsam_jax.imaging.box_files import read_prompts
from litemedsam_jax.imaging.geometry import Geometry
from litemedsam_jax.imaging.slice_prompt import SliceBox, SlicePrompt, fit_prompt

STRAIGHT = Geometry((100, 80, 60), (0.5, 0.5, 3.0), (10.0, 20.0, -30.0), tuple(np.eye(3).ravel()))
# Sagittal: the array's slices (z) run along the patient's x, its columns along y, its rows along z.
SAGITTAL = Geometry((100, 80, 60), (0.5, 0.5, 3.0), (0, 0, 0), (0, 0, 1, 1, 0, 0, 0, 1, 0))


def _json(tmp_path, content, geometry=STRAIGHT, units=None):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return read_prompts(path, "case", geometry, units)


def test_each_entry_without_a_label_is_an_object(tmp_path):
    prompts = _json(tmp_path, [{"z": 40, "box": [1, 2, 30, 40]}, {"y": 7, "box": [1, 2, 30, 40]}])
    assert prompts == [
        SlicePrompt((SliceBox(40, (1, 2, 30, 40)),), label=1),
        SlicePrompt((SliceBox(7, (1, 2, 30, 40), "y"),), label=2),
    ]


def test_entries_of_one_label_are_one_object_with_its_range(tmp_path):
    content = {"boxes": [
        {"z": 40, "box": [1, 2, 30, 40], "label": 5, "range": [30, 50]},
        {"z": 41, "box": [4, 5, 6, 7], "label": 5, "subtract": True},
        {"z": 3, "box": [1, 1, 9, 9], "label": 2},
    ]}  # fmt: skip
    small, large = _json(tmp_path, content)
    assert small == SlicePrompt((SliceBox(3, (1, 1, 9, 9)),), label=2)
    assert (large.first, large.last, large.label) == (30, 50, 5)
    assert [box.subtract for box in large.boxes] == [False, True]


def test_a_line_is_boxed(tmp_path):
    (prompt,) = _json(tmp_path, [{"z": 4, "line": [10, 20, 40, 20]}])
    np.testing.assert_allclose(prompt.boxes[0].box, [10, 9.5, 40, 30.5])


@pytest.mark.parametrize("units", ["mm", "mm-ras"])
def test_millimetres_of_a_straight_grid(tmp_path, units):
    sign = -1 if units == "mm-ras" else 1
    box = [sign * 15.0, sign * 30.0, sign * 20.0, sign * 40.0]
    content = {"units": units, "boxes": [{"z": 0.0, "box": box, "range": [-9.0, 12.0]}]}
    (prompt,) = _json(tmp_path, content)
    assert prompt == SlicePrompt((SliceBox(10, (10, 20, 20, 40)),), 7, 14, 1)


def test_millimetres_name_the_patients_axes_whatever_the_arrays_are(tmp_path):
    content = [{"x": 12.0, "box": [5.0, 10.0, 15.0, 20.0], "range": [6, 30]}]  # y and z in mm
    with pytest.raises(ValueError, match="oblique"):
        turned = Geometry((9, 9, 9), (1, 1, 1), (0, 0, 0), (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))
        _json(tmp_path, content, turned, "mm")
    (prompt,) = _json(tmp_path, content, SAGITTAL, "mm")
    point = SAGITTAL.to_index(np.array([[12.0, 5.0, 10.0], [12.0, 15.0, 20.0]]))
    drawn = prompt.boxes[0]
    along = "xyz".index(drawn.axis)
    np.testing.assert_allclose(point[:, along], drawn.index)
    plane = {"z": [0, 1], "y": [0, 2], "x": [1, 2]}[drawn.axis]
    np.testing.assert_allclose(np.sort(point[:, plane], axis=0).ravel(), drawn.box)
    ends = SAGITTAL.to_index(np.array([[6.0, 5, 10], [30.0, 5, 10]]))[:, along]
    np.testing.assert_allclose(sorted(ends), [prompt.first, prompt.last])


def test_csv_columns(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text(
        "case,z,y,x_min,y_min,z_min,x_max,y_max,z_max,first,last,label,subtract\n"
        "other,3,,1,1,,2,2,,,,1,\n"
        "case,40,,1,2,,30,40,,30,50,7,\n"
        "case,,9,1,,30,30,,50,,,7,\n"
        "case,41,,4,5,,6,7,,,,7,yes\n",
        encoding="utf-8",
    )
    (prompt,) = read_prompts(path, "case", None)
    assert prompt == SlicePrompt(
        (
            SliceBox(40, (1, 2, 30, 40)),
            SliceBox(9, (1, 30, 30, 50), "y"),
            SliceBox(41, (4, 5, 6, 7), subtract=True),
        ),
        30,
        50,
        7,
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"z": 4, "box": [1, 2, 3]}], r"box 1: 'box' is \[1, 2, 3\]; expected 4 numbers"),
        ([{"box": [1, 2, 3, 4]}], "box 1: expected one slice"),
        ([{"z": 4, "x": 3, "box": [1, 2, 3, 4]}], "box 1: expected one slice"),
        ([{"z": "four", "box": [1, 2, 3, 4]}], "expected a number"),
        ([{"z": 4, "box": [1, 2, 3, 4]}, [1, 2, 3, 4, 5, 6]], "box 2: .*cannot be mixed"),
        ([{"z": 4, "bbox": [1, 2, 3, 4]}], "'bbox' is not known"),
        ([{"z": 4, "box": [1, 2, 3, 4], "label": 1.5}], "label 1.5"),
        ([{"z": 4, "box": [1, 2, 3, 4], "label": 1}, {"z": 4, "box": [1, 2, 3, 4]}], "have none"),
        ([{"z": 4, "box": [1, 2, 3, 4], "label": 1, "subtract": True}], "label 1: .*subtracted"),
        ([{"z": 4, "box": [1, 2, 3, 4], "subtract": True}], "needs the label"),
    ],
)
def test_what_is_not_understood_is_refused_with_the_entrys_number(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as raised:
        _json(tmp_path, content)
    assert str(raised.value).startswith(str(tmp_path / "boxes.json"))


def test_a_prompt_is_put_in_order_and_inside_the_volume():
    prompt = SlicePrompt((SliceBox(5, (30, 90, -4, 20)),), 70, -3)
    assert fit_prompt(prompt, (60, 80, 100)) == SlicePrompt((SliceBox(5, (0, 20, 30, 79)),), 0, 59)
