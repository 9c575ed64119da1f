"""Intensities, pictures, masks and boxes."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from litemedsam_jax.imaging import images_2d, masks
from litemedsam_jax.imaging.box_files import read_boxes
from litemedsam_jax.imaging.boxes import Jitter, boxes_of_labels, objects_of
from litemedsam_jax.imaging.geometry import Geometry
from litemedsam_jax.imaging.intensity import IntensityOptions, to_uint8


def test_a_ct_window_maps_the_same_everywhere():
    options = IntensityOptions("CT", 40, 400)
    values = np.array([-1000, -160, 40, 140, 240, 3000], np.int16)
    assert to_uint8(values, options).tolist() == [0, 0, 128, 191, 255, 255]
    # The reference stretches whatever is there, so that 40 HU depends on its neighbours.
    narrow = IntensityOptions("CT", 40, 400, scaling="reference")
    assert to_uint8(np.array([40, 140], np.int16), narrow).tolist() == [0, 255]


def test_other_modalities_by_the_reference_s_formula():
    rng = np.random.default_rng(1)
    volume = rng.gamma(2, 100, (6, 20, 20)).astype(np.float32)
    volume[:, :5] = 0
    low, high = np.percentile(volume[volume > 0], (0.5, 99.5))
    expected = np.clip(volume.astype(np.float64), low, high)
    expected = (expected - expected.min()) / (expected.max() - expected.min()) * 255
    expected[volume == 0] = 0
    found = to_uint8(volume, IntensityOptions("MR", scaling="reference"))
    assert np.abs(found.astype(int) - np.uint8(expected)).max() <= 1
    assert (found != np.uint8(expected)).mean() < 1e-3


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("value", [-2000, -5, 0, 7, 4000])
def test_constant_volumes_are_quiet(modality, value):
    for scaling in ("window", "reference"):
        options = IntensityOptions(modality, scaling=scaling)
        constant = to_uint8(np.full((2, 3, 4), value, np.int16), options)
        assert len(np.unique(constant)) == 1


def test_nan_is_refused_or_filled():
    values = np.array([np.nan, 40, np.inf], np.float32)
    with pytest.raises(ValueError, match="2 values are NaN or infinite; --fill-nan VALUE"):
        to_uint8(values, IntensityOptions())
    assert to_uint8(values, IntensityOptions(fill_nan=-1024)).tolist() == [0, 128, 0]
    with pytest.raises(ValueError, match="width is 0"):
        IntensityOptions(width=0)


def test_pictures_become_rgb_bytes(tmp_path):
    grey = np.arange(0, 240, dtype=np.uint8).reshape(12, 20)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    np.testing.assert_array_equal(images_2d.read_picture(tmp_path / "grey.png")[..., 2], grey)
    deep = grey.astype(np.uint16) * 100
    cv2.imwrite(str(tmp_path / "deep.tif"), deep)
    found = images_2d.read_picture(tmp_path / "deep.tif")
    assert (found.min(), found.max(), found.dtype) == (0, 255, np.uint8)
    colour = np.dstack([grey, grey // 2, grey // 3])
    Image.fromarray(colour).save(tmp_path / "colour.png")
    np.testing.assert_array_equal(images_2d.read_picture(tmp_path / "colour.png"), colour)
    opaque = np.dstack([colour, np.full_like(grey, 255)])
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(images_2d.read_picture(tmp_path / "opaque.png"), colour)
    palette = Image.fromarray(colour).quantize(8)
    palette.save(tmp_path / "palette.png")
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(images_2d.read_picture(tmp_path / "palette.png"), expected)


def test_pictures_that_cannot_be_used_are_told(tmp_path):
    small = np.zeros((4, 5, 4), np.uint8)
    Image.fromarray(small).save(tmp_path / "clear.png")
    Image.fromarray(small, "CMYK").save(tmp_path / "print.jpg")
    cv2.imwritemulti(str(tmp_path / "pages.tif"), [small[..., 0], small[..., 0]])
    cv2.imwrite(str(tmp_path / "nan.tif"), np.full((4, 5), np.nan, np.float32))
    (tmp_path / "text.png").write_text("no picture")
    good = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (50, 50), np.uint8))[1]
    (tmp_path / "short.png").write_bytes(good.tobytes()[:20])
    for name, words in {
        "clear.png": "partly transparent",
        "print.jpg": r"\(CMYK\); convert it to RGB",
        "pages.tif": "has 2 pages",
        "nan.tif": "NaN",
        "text.png": "is no picture",
        "short.png": "cannot be read as a picture",
        "none.png": "no such file",
    }.items():
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            images_2d.read_picture(tmp_path / name)


def test_masks_of_every_kind(tmp_path):
    labels = np.zeros((30, 30), np.uint8)
    labels[2:9, 2:9], labels[12:20, 12:25] = 1, 2
    cv2.imwrite(str(tmp_path / "numbers.png"), labels)
    cv2.imwrite(str(tmp_path / "white.png"), (labels > 0).astype(np.uint8) * 255)
    Image.fromarray(labels > 0).save(tmp_path / "bits.png")
    indexed = Image.fromarray(labels).convert("P")
    indexed.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
    indexed.save(tmp_path / "palette.png")
    colours = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)[labels]
    Image.fromarray(colours).save(tmp_path / "colours.png")
    cv2.imwrite(str(tmp_path / "smeared.jpg"), (labels > 0).astype(np.uint8) * 255)
    for name in ("numbers", "palette", "colours"):
        np.testing.assert_array_equal(images_2d.read_mask(tmp_path / f"{name}.png"), labels)
    for name in ("white.png", "bits.png", "smeared.jpg"):
        np.testing.assert_array_equal(images_2d.read_mask(tmp_path / name), labels > 0)
    cv2.imwrite(str(tmp_path / "only2.png"), labels // 2 * 2)
    assert np.unique(images_2d.read_mask(tmp_path / "only2.png")).tolist() == [0, 2]


def test_outlines_are_filled_and_objects_merged(tmp_path):
    ring, disc = np.zeros((2, 60, 60), np.uint8)
    cv2.circle(ring, (30, 30), 20, 255, 1)
    cv2.circle(disc, (30, 30), 20, 255, -1)
    cv2.imwrite(str(tmp_path / "ring.png"), ring)
    filled = images_2d.read_mask(tmp_path / "ring.png", fill_outlines=True)
    assert (filled != (disc > 0)).sum() <= 8
    cv2.imwrite(str(tmp_path / "disc.png"), disc)
    merged = images_2d.merge_masks([tmp_path / "disc.png", tmp_path / "ring.png"])
    assert np.unique(merged).tolist() == [0, 1, 2]
    cv2.imwrite(str(tmp_path / "other.png"), disc[:50])
    with pytest.raises(ValueError, match="is 60x50, the other masks are 60x60"):
        images_2d.merge_masks([tmp_path / "disc.png", tmp_path / "other.png"])


def test_label_pictures_keep_more_than_255_labels():
    labels = np.arange(400).reshape(20, 20)
    decoded = cv2.imdecode(images_2d.encode_labels(labels), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded, labels)


def test_dust_is_removed_as_scipy_would():
    labels = (np.random.default_rng(3).random((9, 24, 24)) > 0.8).astype(np.uint8)
    labels[:, 12:] *= 2
    expected = np.zeros_like(labels)
    for label in (1, 2):
        parts, _ = ndimage.label(labels == label, np.ones((3, 3, 3)))
        big = np.isin(parts, np.flatnonzero(np.bincount(parts.ravel()) >= 20)) & (parts > 0)
        for z, plane in enumerate(big):
            flat, _ = ndimage.label(plane, np.ones((3, 3)))
            kept = np.isin(flat, np.flatnonzero(np.bincount(flat.ravel()) >= 4)) & (flat > 0)
            expected[z][kept] = label
    np.testing.assert_array_equal(masks.remove_dust(labels, 20, 4), expected)


def test_instances_are_numbered_after_the_largest_label():
    labels = np.zeros((3, 12, 12), np.uint8)
    labels[:, 1:3, 1:3], labels[:, 6:8, 6:8], labels[:, 10, 10] = 4, 4, 2
    split = masks.split_instances(labels, 4)
    assert sorted(np.unique(split).tolist()) == [0, 2, 3, 4]


def test_boxes_are_tight_inclusive_and_in_order():
    labels = np.zeros((9, 20, 30), np.uint16)
    labels[2:5, 3:11, 7:20] = 300
    labels[1, 0, 29] = 2
    boxes, owners = boxes_of_labels(labels)
    assert boxes.tolist() == [[29, 0, 1, 29, 0, 1], [7, 3, 2, 19, 10, 4]]
    assert owners.tolist() == [2, 300]
    first, _ = boxes_of_labels(labels, Jitter(5, seed=1))
    again, _ = boxes_of_labels(labels, Jitter(5, seed=1))
    np.testing.assert_array_equal(first, again)
    assert (first[:, :2] <= boxes[:, :2]).all() and (first[:, 3:5] >= boxes[:, 3:5]).all()
    assert first.min() >= 0 and first[:, 3].max() <= 29
    labels[7, 15:18, 2:5] = 300
    objects, owners = objects_of(labels, "component")
    assert (int(objects.max()), owners.tolist()) == (3, [2, 300, 300])


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
        ("b.json", "[]", "rows of 4 numbers"),
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
