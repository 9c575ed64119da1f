"""Label maps as runs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from litemedsam_jax.annotation.run_lengths import encode, encode_cropped, from_json

MAPS = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 2)
)


@given(MAPS)
def test_there_and_back(array):
    np.testing.assert_array_equal(encode(array).array(), array)


@given(MAPS)
def test_cropped_holds_all_that_is_set(array):
    patch = from_json(encode_cropped(array).to_json(), array.shape)
    whole = np.zeros(array.shape, np.uint16)
    whole[patch.rows, patch.columns] = patch.array()
    np.testing.assert_array_equal(whole, array)


@pytest.mark.parametrize(
    "change",
    [
        {"x": -1},
        {"x": 8},
        {"height": 1 << 60},
        {"lengths": [1]},
        {"lengths": [3, 0]},
        {"lengths": [2, 2]},
        {"values": [1, -1]},
        {"values": [1, 70000]},
        {"values": "12"},
        {"width": None},
    ],
    ids=str,
)
def test_what_does_not_fit_the_slice_is_refused(change):
    good = {"x": 2, "y": 0, "width": 3, "height": 1, "values": [1, 0], "lengths": [2, 1]}
    from_json(good, (10, 10))
    with pytest.raises(ValueError, match="mask"):
        from_json({**good, **change}, (10, 10))
