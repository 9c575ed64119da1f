"""Row tiles: every row is yielded, and from the right rows of the input."""

import numpy as np
import pytest

from litemedsam_jax.config import lite_medsam
from litemedsam_jax.engine import encoder_plan
from litemedsam_jax.engine.row_tiles import PaddedGrid, RowTiles


@pytest.mark.parametrize("subtract_max", [True, False])
def test_every_row_is_yielded_once_or_twice(subtract_max):
    layers = encoder_plan.plan(lite_medsam().image_encoder, lambda _: subtract_max)
    for tiles in (layer.tiles for layer in layers):
        count = np.zeros(tiles.padded_rows, int)
        for start in tiles.starts:
            count[start : start + tiles.rows] += 1
        assert count[: tiles.output_size].min() == 1
        assert count.sum() <= 1.1 * tiles.padded_rows
        kept = [row for start in tiles.starts for row in tiles.kept(start)]
        assert kept == list(range(tiles.output_size))


def moving_sums(tiles: RowTiles, grid: PaddedGrid) -> np.ndarray:
    """Each output row: the sum of the input rows within its halo, computed tile by tile."""
    result = np.zeros((tiles.output_size, tiles.input_size))
    for start in tiles.starts:
        tile, inside = grid.tile(tiles, start)
        assert tile.shape == tiles.input_shapes[0] and inside.shape == tiles.input_shapes[1]
        assert (tile[0][inside[0] == 0] == 0).all()
        assert len(tiles.seen(start)) == inside.sum()
        width = 2 * tiles.halo + 1
        for row in range(tiles.rows):
            if start + row < tiles.output_size:
                first = row * tiles.stride
                result[start + row] = tile[0, first : first + width, :, 0].sum(0)
    return result


@pytest.mark.parametrize(
    ("rows", "padded_rows", "stride", "halo"),
    [(4, 12, 1, 1), (5, 12, 1, 2), (7, 14, 1, 0), (3, 6, 2, 1), (12, 12, 1, 3)],
)
def test_tiles_see_their_halo_and_zeros_beyond_the_image(rows, padded_rows, stride, halo):
    tiles = RowTiles(
        input_size=12,
        input_channels=1,
        output_size=12 // stride,
        output_channels=1,
        rows=rows,
        padded_rows=padded_rows,
        stride=stride,
        halo=halo,
    )
    values = np.random.default_rng(0).random((1, 12, 12, 1), np.float32)
    grid = PaddedGrid(tiles)
    for start in range(0, 12, 5):  # as tiles of the layer before come
        grid.write(start, values[:, start : start + 5])
    padded = np.pad(values[0, :, :, 0], ((halo, halo), (0, 0)))
    windows = [padded[i : i + 2 * halo + 1].sum(0) for i in range(0, 12, stride)]
    np.testing.assert_allclose(moving_sums(tiles, grid), windows, rtol=1e-6)
