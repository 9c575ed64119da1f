"""Boxes in the JSON of labelme, 3D Slicer and COCO."""

import json

import numpy as np
import pytest

from litemedsam_jax.imaging.box_files import read_prompts
from litemedsam_jax.imaging.geometry import Geometry

EYE = tuple(np.eye(3).ravel().tolist())
GRID = Geometry((50, 60, 20), (0.5, 0.5, 2.0), (10.0, 20.0, 30.0), EYE)


def _labelme(**changes):
    rectangle = {"label": "cell", "shape_type": "rectangle", "points": [[30.0, 25.0], [10.0, 5.0]]}
    other = {**rectangle, "points": [[0.4, 0.6], [3.2, 4.0]]}
    return {"imagePath": "..\\imgs\\x.png", "shapes": [rectangle, other], **changes}


def _roi(**changes):
    """Voxels 10 to 19, 20 to 39 and 4 to 8 of `GRID`, from edge to edge."""
    low, high = GRID.to_points(np.array([[9.5, 19.5, 3.5], [19.5, 39.5, 8.5]]))
    roi = {"type": "ROI", "coordinateSystem": "LPS", "center": ((low + high) / 2).tolist()}
    roi["size"] = (high - low).tolist()
    roi["orientation"] = [-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0]
    return {"@schema": "markups-schema-v1.0.3", "markups": [{**roi, **changes}]}


def _coco(**changes):
    images = [{"id": 7, "file_name": "imgs/y.png"}, {"id": 9, "file_name": "imgs/x.png"}]
    boxes = [{"image_id": 7, "bbox": [0, 0, 5, 5]}, {"image_id": 9, "bbox": [10, 5.0, 20, 20]}]
    return {"images": images, "annotations": boxes, **changes}


def _read(tmp_path, content, geometry=None, shape=None):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))
    return read_prompts(path, "x", geometry, shape=shape)


def test_rectangles_of_labelme(tmp_path):
    # Its coordinates are edges of pixels: from 10 to 30 are the pixels 10 to 29.
    np.testing.assert_array_equal(_read(tmp_path, _labelme()), [[10, 5, 29, 24], [0, 0, 3, 3]])


def test_boxes_of_coco_belong_to_the_image_that_is_named(tmp_path):
    np.testing.assert_array_equal(_read(tmp_path, _coco()), [[10, 5, 29, 24]])


@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_regions_of_slicer_are_the_voxels_within(tmp_path, system):
    content = _roi(coordinateSystem=system)
    if system == "RAS":
        centre = content["markups"][0]["center"]
        content["markups"][0]["center"] = [-centre[0], -centre[1], centre[2]]
    np.testing.assert_array_equal(_read(tmp_path, content, GRID), [[10, 20, 4, 19, 39, 8]])


def test_a_turned_region_is_enclosed(tmp_path):
    # A quarter turn about z: width and height change places. Rows of the matrix are x, y, z.
    content = _roi(orientation=[0.0, -1.0, 0, 1.0, 0, 0, 0, 0, 1.0])
    roi = content["markups"][0]
    roi["size"] = [roi["size"][1], roi["size"][0], roi["size"][2]]
    np.testing.assert_array_equal(_read(tmp_path, content, GRID), [[10, 20, 4, 19, 39, 8]])
    diagonal = np.sqrt(0.5)
    content = _roi(orientation=[diagonal, -diagonal, 0, diagonal, diagonal, 0, 0, 0, 1.0])
    content["markups"][0]["size"] = [10.0, 0.001, 10.0]
    centre = GRID.to_index(np.array([content["markups"][0]["center"]]))[0]
    box = _read(tmp_path, content, GRID)[0]
    assert np.abs(box[3:5] - centre[:2] - 7.07).max() < 1  # 5 mm at 45 degrees are 7.07 voxels


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_labelme(imagePath="other.png"), "is about other.png, not about x"),
        (_labelme(shapes=[{"shape_type": "polygon", "points": []}]), "of the kind polygon"),
        (_labelme(shapes=[]), "holds no box"),
        (_labelme(shapes=[{"shape_type": "rectangle", "points": [[1, 2]]}]), "expected 2 x 2"),
        (_roi(type="Fiducial"), "of the type Fiducial; expected ROI"),
        (_roi(coordinateSystem="IJK"), "coordinateSystem is IJK"),
        (_roi(size=None), "an ROI's size"),
        ({"markups": []}, "holds no ROI"),
        (_coco(images=[]), "holds 0 images of x"),
        (_coco(annotations=[]), "holds no box"),
        (_coco(annotations=[{"image_id": 9, "bbox": [1, 2, 0, 4]}]), "without width or height"),
    ],
)
def test_what_is_no_box_is_refused(tmp_path, content, words):
    with pytest.raises(ValueError, match=words) as caught:
        _read(tmp_path, content, GRID)
    assert str(caught.value).startswith(str(tmp_path))


def test_slicer_s_boxes_need_a_volume(tmp_path):
    with pytest.raises(ValueError, match="the image is 2D"):
        _read(tmp_path, _roi())


def test_boxes_drawn_on_another_size_are_refused(tmp_path):
    for content in (
        _labelme(imageWidth=80, imageHeight=60),
        _coco(images=[{"id": 9, "file_name": "x.png", "width": 80, "height": 60}]),
    ):
        assert len(_read(tmp_path, content, shape=(60, 80)))
        with pytest.raises(ValueError, match="of 80x60 pixels, this one has 40x30"):
            _read(tmp_path, content, shape=(30, 40))
