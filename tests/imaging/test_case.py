"""What is accepted as a case, what is corrected, and what is refused in a line."""

import numpy as np
import pytest

from litemedsam_jax.imaging.case import make_case, read_case
from tests.support.archives import BOX, BOX_3D, COLOUR, GREY, VOLUME, refusal, write


@pytest.mark.parametrize(
    ("image", "boxes", "is_volume"),
    [
        (COLOUR, BOX, False),
        (GREY, BOX, False),
        (VOLUME, BOX_3D, True),
        (np.stack([COLOUR] * 5), BOX_3D, True),
        (VOLUME[:1], np.array([[3, 4, 0, 20, 25, 0]]), True),
        (np.stack([GREY] * 3, axis=0), np.array([[3, 4, 0, 20, 25, 2]]), True),
        (VOLUME[..., :3], np.array([[0, 4, 0, 2, 25, 2]]), True),  # three columns, no colours
    ],
)
def test_pictures_and_volumes_are_told_apart_by_their_boxes(tmp_path, image, boxes, is_volume):
    case = read_case(write(tmp_path / "3DBox_or_not.npz", imgs=image, boxes=boxes))
    assert case.is_volume == is_volume
    assert case.name == "3DBox_or_not" and case.warnings == () and case.spacing is None
    np.testing.assert_array_equal(case.image, image)
    np.testing.assert_array_equal(case.boxes, boxes)


@pytest.mark.parametrize("box", [BOX[0], BOX_3D[0]])
def test_one_box_need_not_be_wrapped(box):
    image = VOLUME if len(box) == 6 else GREY
    np.testing.assert_array_equal(make_case("c", image, boxes=box).boxes, box[None])


def test_single_slice_objects():
    case = make_case("c", VOLUME, boxes=np.array([[3, 4, 2, 20, 25, 2]]))
    np.testing.assert_array_equal(case.boxes, [[3, 4, 2, 20, 25, 2]])


def test_fractions_of_pixels_are_kept_and_slices_rounded():
    case = make_case("c", VOLUME, boxes=np.array([[3.25, 4.5, 0.9, 20.75, 25.5, 3.2]]))
    np.testing.assert_array_equal(case.boxes, [[3.25, 4.5, 1, 20.75, 25.5, 3]])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([20, 25, 3, 4], [3, 4, 20, 25]),
        ([20, 4, 3, 25], [3, 4, 20, 25]),
        ([-5, -1, 20, 25], [0, 0, 20, 25]),
        ([3, 4, 900, 1e9], [3, 4, 40, 30]),
        ([20.5, 25.5, 3.5, 99], [3.5, 25.5, 20.5, 30]),
    ],
)
def test_swapped_and_outlying_corners_are_mended_with_one_warning(given, expected):
    case = make_case("c", GREY, boxes=np.array([given, BOX[0]]))
    np.testing.assert_array_equal(case.boxes, [expected, BOX[0]])
    assert len(case.warnings) == 1 and "1 of 2 boxes" in case.warnings[0]


def test_swapped_and_outlying_slices_are_mended():
    case = make_case("c", VOLUME, boxes=np.array([[3, 4, 9, 20, 25, -2]]))
    np.testing.assert_array_equal(case.boxes, [[3, 4, 0, 20, 25, 4]])
    assert len(case.warnings) == 1


def test_the_edge_itself_is_inside():
    case = make_case("c", GREY, boxes=np.array([[0, 0, 40, 30]]))
    assert case.warnings == ()
    np.testing.assert_array_equal(case.boxes, [[0, 0, 40, 30]])


def test_unsigned_boxes_do_not_wrap():
    case = make_case("c", GREY, boxes=np.array([[20, 25, 3, 250]], np.uint8))
    np.testing.assert_array_equal(case.boxes, [[3, 25, 20, 30]])


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int16", "uint16", "int32", "int64", "float16", "float32", "float64"]
)
def test_images_of_any_number_within_range(dtype):
    image = (GREY % 2).astype(dtype)
    found = make_case("c", image, boxes=BOX).image
    assert found.dtype == (np.float32 if "float" in dtype else np.uint8)
    np.testing.assert_array_equal(found, GREY % 2)


@pytest.mark.parametrize(
    "spacing", [[np.nan, 1, 1], [0, 1, 1], [1, 1], [[1, 1, 1, 1]], [-1, 1, 1], [1j, 1, 1]]
)
def test_an_odd_spacing_is_left_out_with_a_warning(spacing):
    case = make_case("c", VOLUME, np.array(spacing), boxes=BOX_3D)
    assert case.spacing is None and "spacing" in case.warnings[0]


def test_a_good_spacing_is_kept():
    case = make_case("c", VOLUME, np.array([0.5, 0.5, 3]), boxes=BOX_3D)
    assert case.spacing is not None and case.spacing.tolist() == [0.5, 0.5, 3]


def test_fortran_order_and_uncompressed_files(tmp_path):
    path = tmp_path / "c.npz"
    np.savez(path, imgs=np.asfortranarray(COLOUR), boxes=np.asfortranarray(BOX))
    np.testing.assert_array_equal(read_case(path).image, COLOUR)


def test_labels_as_prompts(tmp_path):
    path = write(tmp_path / "c.npz", imgs=GREY, gts=(GREY > 9).astype(np.int64))
    case = read_case(path, "gt")
    assert case.boxes is None and case.gts is not None and not case.is_volume
    assert case.gts.dtype == np.uint16


def test_grey_may_have_an_axis_for_its_one_channel(tmp_path):
    case = read_case(write(tmp_path / "a.npz", imgs=GREY[..., None], boxes=BOX))
    np.testing.assert_array_equal(case.image, GREY)
    case = make_case("a", VOLUME[..., None], boxes=BOX_3D)
    np.testing.assert_array_equal(case.image, VOLUME)
    case = make_case("a", GREY[..., None], gts=(GREY[..., None] > 9))
    assert not case.is_volume and case.image.shape == (30, 40)


def test_boxes_of_one_row_of_pixels_are_warned_of():
    case = make_case("a", GREY, boxes=np.array([[3, 4, 20, 4], [3, 4, 20, 25]]))
    assert case.warnings == ("1 of 2 boxes are a single row or column of pixels",)
    assert make_case("a", VOLUME, boxes=np.array([[3, 4, 2, 20, 25, 2]])).warnings == ()


# Refused


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"imgs": GREY}, "no array 'boxes' (it has: imgs)"),
        ({"boxes": BOX}, "no array 'imgs' (it has: boxes)"),
        ({"image": GREY, "box": BOX}, "no array 'imgs' (it has: box, image)"),
        ({"imgs": GREY[0], "boxes": BOX}, "shape (40,); images (boxes of 4 numbers) have"),
        ({"imgs": VOLUME, "boxes": BOX}, "(H, W, 3) or (H, W)"),
        ({"imgs": GREY, "boxes": BOX_3D}, "(D, H, W) or (D, H, W, 3)"),
        ({"imgs": np.stack([GREY] * 4, -1), "boxes": BOX}, "(30, 40, 4)"),
        ({"imgs": np.zeros((0, 5), np.uint8), "boxes": BOX}, "holds nothing"),
        ({"imgs": GREY.astype(int) + 300, "boxes": BOX}, "from 300 to 555; expected 0 to 255"),
        ({"imgs": GREY.astype(float) - 7, "boxes": BOX}, "from -7.0 to 248.0; expected 0 to 255"),
        ({"imgs": np.where(GREY == 9, np.nan, GREY), "boxes": BOX}, "nan to nan; expected 0"),
        ({"imgs": np.where(GREY == 9, np.inf, GREY), "boxes": BOX}, "inf; expected 0 to 255"),
        ({"imgs": GREY * 1j, "boxes": BOX}, "type complex128; expected numbers from 0 to 255"),
        ({"imgs": GREY.astype(str), "boxes": BOX}, "expected numbers"),
        ({"imgs": GREY, "boxes": np.zeros((0, 4))}, "boxes is empty; expected at least one box"),
        ({"imgs": GREY, "boxes": np.array([])}, "boxes is empty"),
        ({"imgs": GREY, "boxes": np.array(3)}, "expected (N, 4) as x_min, y_min, x_max, y_max"),
        ({"imgs": GREY, "boxes": BOX[:, :3]}, "(1, 3); expected (N, 4)"),
        ({"imgs": GREY, "boxes": np.zeros((2, 3, 4))}, "(2, 3, 4); expected (N, 4)"),
        ({"imgs": GREY, "boxes": BOX * np.nan}, "NaN or infinity; expected pixel"),
        ({"imgs": GREY, "boxes": BOX + 100}, "box 1, [103, 104, 120, 125], lies wholly outside"),
        ({"imgs": GREY, "boxes": -BOX}, "lies wholly outside the image of shape (30, 40)"),
        ({"imgs": VOLUME, "boxes": BOX_3D + np.array([0, 0, 9, 0, 0, 9])}, "wholly outside"),
        ({"imgs": GREY, "boxes": np.tile(BOX, (65536, 1))}, "65536 boxes; labels end at 65535"),
        ({"imgs": GREY * 0 + 7, "boxes": BOX}, "the image is 7 everywhere"),
        ({"imgs": VOLUME * 0, "boxes": BOX_3D}, "the image is 0 everywhere"),
        ({"imgs": GREY, "boxes": BOX / 40}, "between 0 and 1, fractions of the image's size"),
        ({"imgs": VOLUME, "boxes": BOX_3D / 40}, "multiply x by its width"),
        (
            {"imgs": np.stack([GREY] * 3), "boxes": BOX},
            "come last, numpy.moveaxis(imgs, 0",
        ),
        ({"imgs": GREY[None], "boxes": BOX}, "leave out the first axis, imgs[0]"),
        ({"imgs": np.stack([GREY] * 4, -1), "boxes": BOX}, "drop the alpha channel"),
        ({"imgs": GREY.T, "boxes": np.array([[3, 4, 38, 25]])}, "axes are swapped"),
        ({"imgs": VOLUME.T, "boxes": BOX_3D}, "but fit one of shape (5, 30, 40): axes are swapped"),
        ({"imgs": np.moveaxis(VOLUME, 0, -1), "boxes": BOX_3D}, "fit one of shape (5, "),
        ({"imgs": GREY, "boxes": BOX == 3}, "type bool; expected numbers"),
    ],
)
def test_what_does_not_fit_is_told_with_what_was_expected(tmp_path, arrays, words):
    assert words in refusal(write(tmp_path / "c.npz", **arrays))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"imgs": GREY, "boxes": BOX}, "no array 'gts' (it has: boxes, imgs)"),
        ({"imgs": GREY, "gts": GREY * 0.5}, "expected whole numbers"),
        ({"imgs": GREY, "gts": GREY[0]}, "shape (40,)"),
        ({"imgs": GREY, "gts": GREY.astype(int) - 1}, "from -1 to 254; expected 0 to 65535"),
        ({"imgs": VOLUME, "gts": VOLUME[1:]}, "they must agree"),
        ({"imgs": VOLUME, "gts": GREY}, "(H, W, 3) or (H, W)"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, arrays, words):
    assert words in refusal(write(tmp_path / "c.npz", **arrays), "gt")
