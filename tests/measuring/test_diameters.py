"""Diameters of shapes whose answer is known."""

import numpy as np
import pytest

from litemedsam_jax.measuring.diameters import longest, outline, perpendicular


def _ellipse(columns: float, rows: float, degrees: float, spacing=(1.0, 1.0)) -> np.ndarray:
    """An ellipse of given diameters (mm), rotated, on a grid of 200 x 200 pixels."""
    y, x = np.mgrid[:200, :200].astype(float)
    x, y = (x - 100) * spacing[0], (y - 100) * spacing[1]
    angle = np.radians(degrees)
    u, v = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    return (u / (columns / 2)) ** 2 + (v / (rows / 2)) ** 2 <= 1


@pytest.mark.parametrize("degrees", [0, 20, 45, 90, 130])
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 1.5)])
def test_both_axes_of_an_ellipse_in_mm(degrees, spacing):
    mask = _ellipse(80, 50, degrees, spacing)
    step = np.array(spacing)
    line = longest(outline(mask), step)
    across = perpendicular(outline(mask), step, line)
    assert line.mm == pytest.approx(80, abs=max(spacing))
    assert across.mm == pytest.approx(50, abs=1.5 * max(spacing))
    directions = [(one.ends[1] - one.ends[0]) * step / one.mm for one in (line, across)]
    assert abs(directions[0] @ directions[1]) < 0.05  # at a right angle
    assert np.hypot(*((line.ends[1] - line.ends[0]) * step)) == pytest.approx(line.mm)


def test_a_row_of_pixels_is_as_long_as_it_is_and_one_pixel_wide():
    mask = np.zeros((9, 20), bool)
    mask[4, 3:13] = True
    step = np.array([0.7, 2.0])
    line = longest(outline(mask), step)
    assert line.mm == pytest.approx(10 * 0.7, rel=0.02)
    np.testing.assert_allclose(np.sort(line.ends[:, 0]), [2.5, 12.5])
    assert perpendicular(outline(mask), step, line).mm == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 0.8, 3.0)])
def test_the_diameter_of_a_ball_in_space(spacing):
    z, y, x = np.mgrid[:60, :80, :80].astype(float)
    x, y, z = ((a - c) * s for a, c, s in zip((x, y, z), (40, 40, 30), spacing, strict=True))
    ball = x**2 + y**2 + z**2 <= 20**2
    line = longest(outline(ball), np.array(spacing))
    assert line.mm == pytest.approx(40, abs=max(spacing))


def test_a_single_voxel_and_a_large_mask():
    assert longest(outline(np.ones((1, 1, 1), bool)), np.ones(3)).mm == pytest.approx(1)
    box = np.ones((30, 40, 120), bool)
    assert longest(outline(box), np.ones(3)).mm == pytest.approx(130, rel=0.01)
