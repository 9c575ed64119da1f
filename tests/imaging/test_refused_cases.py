"""Arrays that do not make a case: refused in one line that says what was expected."""

import numpy as np
import pytest

from tests.support.archives import BOX, BOX_3D, GREY, VOLUME, refusal, write


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
