"""Pictures of volumes stand upright, however the volume lies in its file."""

from itertools import permutations, product

import numpy as np
import pytest

from litemedsam_jax.drawing import overlay
from litemedsam_jax.drawing.orientation import turn_of

_SIDES = {"R": (0, -1), "L": (0, 1), "A": (1, -1), "P": (1, 1), "I": (2, -1), "S": (2, 1)}
_EXPECTED = {0: ("sagittal", "A", "S"), 1: ("coronal", "R", "S"), 2: ("axial", "R", "A")}


def _orientations():
    """The 48 ways in which a grid's axes x, y, z lie along the patient's, as 3x3 matrices."""
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        direction = np.zeros((3, 3))
        direction[order, range(3)] = signs
        yield order, direction


@pytest.mark.parametrize("tilt", [0, 20])
def test_each_plane_stands_as_a_radiologist_expects(tilt):
    cosine, sine = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
    about_z = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    shape = (4, 6, 8)
    z, y, x = np.indices(shape)
    for order, straight in _orientations():
        direction = about_z @ straight
        turn = turn_of(direction.ravel())
        assert (turn.plane, turn.left, turn.top) == _EXPECTED[order[2]]
        # Where each voxel lies in the patient, (D, H, W, 3), turned like an image.
        places = turn.array(np.stack([x, y, z], -1) @ direction.T)
        for letter, step in ((turn.left, places[0, 0, 0] - places[0, 0, 1]),
                             (turn.top, places[0, 0, 0] - places[0, 1, 0])):  # fmt: skip
            axis, sign = _SIDES[letter]
            assert step[axis] * sign > 0.9


def test_boxes_and_spacing_turn_with_the_volume():
    segs = np.zeros((4, 6, 8), np.uint8)
    segs[1:3, 2:6, 1:4] = 1
    for _, direction in _orientations():
        turn = turn_of(direction.ravel())
        x0, y0, z0, x1, y1, z1 = turn.boxes([[1, 2, 1, 3, 5, 2]], segs.shape)[0].astype(int)
        turned = turn.array(segs)
        assert turned[z0 : z1 + 1, y0 : y1 + 1, x0 : x1 + 1].all()
        assert turned.sum() == (z1 - z0 + 1) * (y1 - y0 + 1) * (x1 - x0 + 1)
        expected = (2, 1, 3) if turn.exchange else (1, 2, 3)
        assert tuple(turn.spacing((1, 2, 3))) == expected


@pytest.mark.parametrize("direction", [None, [1, 0, 0, 1], np.full(9, np.nan), ["a"] * 9])
def test_nothing_is_turned_without_a_direction(direction):
    turn = turn_of(direction)
    volume = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(turn.array(volume), volume)
    assert turn.plane == turn.left == ""


def test_the_same_patient_gives_the_same_picture():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (3, 40, 50), np.uint8)
    segs = np.zeros_like(image)
    segs[:, 10:20, 30:45] = 1
    boxes = np.array([[30, 10, 0, 44, 19, 2]])
    straight = overlay.case_overlay(image, boxes, segs, (1, 2, 3), direction=np.eye(3).ravel())
    # Stored with rows and columns exchanged, and back to front along both.
    stored = [a.swapaxes(1, 2)[:, ::-1, ::-1] for a in (image, segs)]
    direction = np.array([[0, -1, 0], [-1, 0, 0], [0, 0, 1]]).ravel()
    turned = np.array([[20, 5, 0, 29, 19, 2]])
    drawn = overlay.case_overlay(stored[0], turned, stored[1], (2, 1, 3), direction=direction)
    np.testing.assert_array_equal(drawn, straight)
