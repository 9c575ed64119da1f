"""Images laid out: nothing lost, nothing overlapping, legends that end."""

import numpy as np

from litemedsam_jax.drawing import page

RED, BLUE = np.full((10, 20, 3), (255, 0, 0), np.uint8), np.full((30, 5, 3), (0, 0, 255), np.uint8)


def test_images_stand_whole_beside_and_below_each_other():
    row, column = page.beside([RED, BLUE]), page.below([RED, BLUE])
    for laid_out in (row, column):
        assert (laid_out == (255, 0, 0)).all(-1).sum() == 200
        assert (laid_out == (0, 0, 255)).all(-1).sum() == 150
    assert row.shape[0] == 30 and column.shape[1] == 20


def test_a_title_stands_above():
    titled = page.titled("slice 3", RED)
    np.testing.assert_array_equal(titled[-10:], RED)
    assert titled.shape == (34, 20, 3)


def test_a_legend_of_many_labels_ends_with_their_number():
    few = page.legend([((255, 0, 0), "liver")], 200)
    many = page.legend([((255, 0, 0), f"label {k}") for k in range(400)], 200)
    assert few.shape == (24, 200, 3) and (few == (255, 0, 0)).all(-1).any()
    assert many.shape == (5 * 24, 200, 3)


def test_names_that_the_font_lacks_are_still_written():
    assert page.legend([((1, 2, 3), "Läsion 肝")], 300).shape == (24, 300, 3)
