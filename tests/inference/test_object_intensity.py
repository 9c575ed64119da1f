"""Histograms inside and outside of an object's masks: which pixels they raise and lower."""

import numpy as np

from litemedsam_jax.inference.object_intensity import ObjectIntensity

BRIGHT, DARK = 200.0, 40.0


def _slice():
    """A bright object in dark surroundings, and logits that know only its middle."""
    pixels = np.full((20, 20), DARK)
    pixels[5:15, 5:15] = BRIGHT
    logits = np.full((20, 20), -4.0)
    logits[7:13, 7:13] = 4
    return pixels, logits


def test_what_looks_like_the_object_is_raised_and_the_rest_is_lowered():
    pixels, logits = _slice()
    ratio = ObjectIntensity(DARK, BRIGHT).log_ratio(pixels, logits)
    assert (ratio[pixels == BRIGHT] > 0.5).all() and (ratio[pixels == DARK] < -0.5).all()


def test_slices_seen_before_tell_of_one_where_the_mask_is_lost():
    pixels, logits = _slice()
    intensity = ObjectIntensity(DARK, BRIGHT)
    for _ in range(3):
        intensity.log_ratio(pixels, logits)
    ratio = intensity.log_ratio(pixels, np.full(pixels.shape, -4.0))
    assert (ratio[pixels == BRIGHT] > 0.5).all() and (ratio[pixels == DARK] < -0.5).all()


def test_nothing_is_raised_where_all_intensities_are_the_same():
    _, logits = _slice()
    ratio = ObjectIntensity(7, 7).log_ratio(np.full(logits.shape, 7.0), logits)
    np.testing.assert_allclose(ratio, 0, atol=0.1)


def test_no_intensity_counts_for_more_than_two_logits():
    pixels, logits = _slice()
    pixels[0, 0] = 1e6  # beyond the extremes given
    intensity = ObjectIntensity(DARK, BRIGHT)
    for _ in range(1000):
        ratio = intensity.log_ratio(pixels, logits)
    assert np.abs(ratio).max() <= 2 and ratio.dtype == np.float32
