"""Files of boxes that are none: told with the file's name, whatever they hold."""

import json

import numpy as np
import pytest

from litemedsam_jax.imaging.box_files import read_boxes
from litemedsam_jax.imaging.geometry import Geometry

HEADER = b"case,x_min,y_min,x_max,y_max\n"


@pytest.mark.parametrize(
    ("suffix", "content", "words"),
    [
        (".csv", HEADER + b"caf\xe9,1,2,3,4\n", "not CSV in UTF-8"),
        (".csv", HEADER + b'a,1,2,3,4\n"' + b"x" * 200_000 + b'",1\n', "not CSV in UTF-8"),
        (".csv", b"x_min,y_min,x_max,y_max,case\n1,2,3,4\n", "no row for a"),
        (".csv", HEADER.replace(b",", b";") + b"a;1;2;3;4\n", "lacks the column x_min"),
        (".csv", HEADER + b"a,nan,1,2,3\n", "must be rows of 4 numbers"),
        (".csv", b"", "lacks the column"),
        (".json", b"", "not valid JSON"),
        (".json", b"\xff\xfe[]", "not valid JSON"),
        (".json", b"[" * 100_000, "not valid JSON"),
        (".json", b"[[1,2,3," + b"9" * 5000 + b"]]", "not valid JSON"),
        (".json", b"[[1,2,3," + b"9" * 400 + b"]]", "must be rows of 4 numbers"),
        (".json", b"[[1,2,3,1e999]]", "must be rows of 4 numbers"),
        (".json", b'{"a": {"units": ["mm"], "boxes": [[1,2,3,4]]}}', "units"),
    ],
)
def test_hostile_files_of_boxes(tmp_path, suffix, content, words):
    path = tmp_path / f"boxes{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_boxes(path, "a", None)
    assert str(caught.value).startswith(f"{path}: ")


_TURNED = Geometry((50, 60, 20), (0.5, 0.5, 2.0), (10.0, 20.0, 30.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1))


def test_boxes_in_millimetres_land_on_voxels(tmp_path):
    voxels = [[4.0, 6.0, 1.0, 14.0, 26.0, 5.0]]
    points = _TURNED.to_points(np.reshape(voxels, (2, 3)))
    lps = points.ravel().tolist()
    ras = (points * (-1, -1, 1)).ravel().tolist()
    for units, box in (("mm", lps), ("mm-ras", ras), ("voxel", voxels[0])):
        (tmp_path / "b.json").write_text(json.dumps({"units": units, "boxes": [box]}))
        assert read_boxes(tmp_path / "b.json", "x", _TURNED).tolist() == voxels
    names = "case,x_min,y_min,z_min,x_max,y_max,z_max,units"
    rows = f"{names}\na,{','.join(map(str, lps))},mm\nb,1,2,3,4,5,6,\n"
    (tmp_path / "b.csv").write_text(rows)
    assert read_boxes(tmp_path / "b.csv", "a", _TURNED).tolist() == voxels
    assert read_boxes(tmp_path / "b.csv", "b", _TURNED).tolist() == [[1, 2, 3, 4, 5, 6]]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("b.json", "[[1, 2, 3]]", "rows of 4 numbers"),
        ("b.json", "[]", "holds no box for x"),
        ("b.json", '[[1, 2, 3, "x"]]', "rows of 4 numbers"),
        ("b.json", "[1,", "not valid JSON"),
        ("b.json", '{"other": [[1, 2, 3, 4]]}', "no entry for x"),
        ("b.json", '{"units": "inch", "boxes": [[1, 2, 3, 4]]}', "units 'inch'"),
        ("b.json", '{"units": "mm", "boxes": [[1, 2, 3, 4]]}', "boxes of 6 numbers"),
        ("b.csv", "x_min,y_min\n1,2\n", "lacks the column x_max"),
        ("b.csv", "case,x_min,y_min,x_max,y_max\na,1,2,3,4\n", "no row for x"),
        ("b.csv", "x_min,y_min,x_max,y_max\n1,2,3,\n", "no number"),
        ("b.txt", "1 2 3 4", "read from .json, .csv"),
    ],
)
def test_unusable_box_files_are_told(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=words):
        read_boxes(tmp_path / name, "x", _TURNED)


def _written(tmp_path, content: bytes, name="boxes.json"):
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


def test_a_mark_of_byte_order_and_names_of_files(tmp_path):
    path = _written(tmp_path, b"\xef\xbb\xbf" + json.dumps({"x.png": [[1, 2, 3, 4]]}).encode())
    np.testing.assert_array_equal(read_boxes(path, "x", None), [[1, 2, 3, 4]])
    path = _written(tmp_path, HEADER + b"imgs/x.png,1,2,3,4\ny.png,0,0,9,9\n", "boxes.csv")
    np.testing.assert_array_equal(read_boxes(path, "x", None), [[1, 2, 3, 4]])
    path = _written(tmp_path, json.dumps({"x.png": [[1, 2, 3, 4]], "x": [[5, 6, 7, 8]]}).encode())
    np.testing.assert_array_equal(read_boxes(path, "x", None), [[5, 6, 7, 8]])  # its very name


def test_of_two_entries_for_a_case_none_is_taken(tmp_path):
    boxes = {"x.png": [[1, 2, 3, 4]], "x.jpg": [[5, 6, 7, 8]]}
    with pytest.raises(ValueError, match="2 entries") as caught:
        read_boxes(_written(tmp_path, json.dumps(boxes).encode()), "x", None)
    assert "x.png, x.jpg" in str(caught.value)


@pytest.mark.parametrize(
    "box", [[1, 2, 1, 4], [1, 2, 3, 2], [5, 5, 5, 5], [1, 2, 0, 1, 4, 3], [1, 2, 0, 3, 2, 3]]
)
def test_a_typed_box_without_area_is_refused(tmp_path, box):
    with pytest.raises(ValueError, match=r"box 1 of x.*has no area"):
        read_boxes(_written(tmp_path, json.dumps([box]).encode()), "x", None)


def test_a_box_on_one_slice_has_an_area(tmp_path):
    path = _written(tmp_path, b"[[1, 2, 7, 3, 4, 7]]")
    np.testing.assert_array_equal(read_boxes(path, "x", None), [[1, 2, 7, 3, 4, 7]])


def test_one_box_need_not_be_wrapped_and_none_is_refused(tmp_path):
    path = _written(tmp_path, b'{"boxes": [1, 2, 3, 4]}')
    np.testing.assert_array_equal(read_boxes(path, "x", None), [[1, 2, 3, 4]])
    with pytest.raises(ValueError, match="holds no box for x"):
        read_boxes(_written(tmp_path, b"[]"), "x", None)
