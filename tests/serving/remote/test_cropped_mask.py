"""Cropped masks against whole arrays."""

import numpy as np
import pytest

from litemedsam_jax.serving.remote.cropped_mask import EMPTY, CroppedMask, changed, union, without

SHAPE = (6, 9, 11)


def whole(mask: CroppedMask) -> np.ndarray:
    return mask.within(tuple((0, n) for n in SHAPE))


@pytest.fixture(params=range(4))
def arrays(request):
    rng = np.random.default_rng(request.param)
    made = []
    for _ in range(3):
        array = np.zeros(SHAPE, bool)
        low = rng.integers(0, 5, 3)
        part = tuple(slice(a, a + int(n)) for a, n in zip(low, rng.integers(1, 5, 3), strict=True))
        array[part] = rng.random(array[part].shape) < 0.6
        made.append(array)
    return made


def test_they_are_what_whole_arrays_are(arrays):
    one, two, three = (CroppedMask.of(array) for array in arrays)
    np.testing.assert_array_equal(whole(one), arrays[0])
    np.testing.assert_array_equal(whole(union([one, two, EMPTY, three])), np.any(arrays, axis=0))
    np.testing.assert_array_equal(whole(without(one, [two, three])),
                                  arrays[0] & ~arrays[1] & ~arrays[2])  # fmt: skip
    box = ((1, 4), (2, 8), (0, 5))
    cleared = arrays[0].copy()
    cleared[tuple(slice(*span) for span in box)] = False
    np.testing.assert_array_equal(whole(without(one, [box])), cleared)


def test_only_what_differs_is_said_to_have_changed(arrays):
    one, two = (CroppedMask.of(array) for array in arrays[:2])
    differ = arrays[0] ^ arrays[1]
    box = changed(one, two)
    inside = np.zeros(SHAPE, bool)
    inside[tuple(slice(*span) for span in box)] = True
    assert not (differ & ~inside).any()
    for axis, (first, end) in enumerate(box):
        assert differ.take(first, axis).any() and differ.take(end - 1, axis).any()
    assert changed(one, CroppedMask.of(arrays[0].copy())) is None
    assert changed(EMPTY, EMPTY) is None
