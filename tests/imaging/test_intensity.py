"""From a scanner's values to 0-255."""

import numpy as np
import pytest

from litemedsam_jax.imaging.intensity import FILL_NAN_ADVICE, IntensityOptions, to_uint8


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
    with pytest.raises(ValueError, match="2 values are NaN or infinite; expected numbers; --fill"):
        to_uint8(values, IntensityOptions(), FILL_NAN_ADVICE)
    assert to_uint8(values, IntensityOptions(fill_nan=-1024)).tolist() == [0, 128, 0]
    with pytest.raises(ValueError, match="width is 0"):
        IntensityOptions(width=0)


@pytest.mark.parametrize("background", ["noise", "constant"])
def test_a_constant_changes_nothing_but_for_ct(background):
    rng = np.random.default_rng(2)
    volume = rng.normal(-1.5, 0.05, (6, 20, 20)).astype(np.float32)  # as z-scored MR lies
    volume[2:5, 5:15, 5:15] = rng.normal(-0.4, 0.1, (3, 10, 10))
    if background == "constant":
        volume[:, :4] = volume[:, 16:] = 0  # masked, then normalised within: 0 is background
    volume = np.round(volume * 256) / 256  # sums are exact
    options = IntensityOptions("MR")
    plain = to_uint8(volume, options)
    for constant in (0.5, 4, -2, 100):
        np.testing.assert_array_equal(to_uint8(volume + np.float32(constant), options), plain)
    spread = plain[2:5, 5:15, 5:15].astype(int).mean() - plain[0, 5:15, 5:15].astype(int).mean()
    assert spread > 100  # the object lies below 0 and is seen
    if background == "constant":
        assert (plain[:, :4] == 0).all()


def test_what_begins_at_zero_is_scaled_as_the_reference_does():
    volume = np.random.default_rng(3).gamma(2, 100, (4, 20, 20)).astype(np.float32)
    volume[:, :5] = 0
    low, high = np.percentile(volume[volume > 0], (0.5, 99.5))
    expected = np.round((np.clip(volume.astype(np.float64), low, high) - low) / (high - low) * 255)
    expected[volume == 0] = 0
    np.testing.assert_array_equal(to_uint8(volume, IntensityOptions("MR")), expected)


def test_ct_in_small_letters_is_windowed():
    values = np.array([-160, 40, 240], np.int16)
    assert to_uint8(values, IntensityOptions("ct")).tolist() == [0, 128, 255]
