"""Running the encoder's layers tile by tile (see engine.encoder_plan), several at a time."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from itertools import pairwise

import numpy as np

from litemedsam_jax.engine.encoder_plan import EncoderLayer
from litemedsam_jax.engine.lanes import call_now
from litemedsam_jax.engine.row_tiles import PaddedGrid, RowTiles

# (program's name, scope, tile (1, R, S, C), where it sees edges also inside (1, R)) -> the tile of
# the output.
RunTile = Callable[..., np.ndarray]
# As an executor's.
Submit = Callable[..., Future[None]]


def encode(
    run: RunTile, layers: list[EncoderLayer], image: np.ndarray, submit: Submit = call_now
) -> np.ndarray:
    """Runs all layers.

    A tile waits for those tiles of the layer before that reach into its rows, not for all of them.

    Args:
        run: runs a program on a tile.
        layers: from `plan`.
        image: (S, S, 3) float32.
        submit: calls a function in a thread, several at a time if it likes, but begins them in
            order.

    Returns:
        The embedding (1, G, G, C).
    """
    grid = PaddedGrid(layers[0].tiles)
    grid.write(0, image[None])
    embedding = layers[-1].tiles.whole_output
    written: list[tuple[range, Future[None]]] = []  # rows of `grid`, and when they are there
    for layer, following in pairwise([*layers, replace(layers[-1], tiles=embedding)]):
        output, tiles = PaddedGrid(following.tiles), layer.tiles
        written = [
            (
                tiles.kept(start),
                submit(_compute, run, layer, grid, start, output, _reaching(written, tiles, start)),
            )
            for start in tiles.starts
        ]
        grid = output
    for _, done in written:
        done.result()
    return grid.tile(embedding, 0)[0]


def _compute(
    run: RunTile,
    layer: EncoderLayer,
    grid: PaddedGrid,
    start: int,
    output: PaddedGrid,
    needed: list[Future[None]],
) -> None:
    """One tile, after the tiles that it needs."""
    for done in needed:
        done.result()
    inputs = grid.tile(layer.tiles, start)[: len(layer.program.input_shapes)]
    rows = run(layer.program.name, layer.scope, *inputs)
    kept = layer.tiles.kept(start)
    output.write(kept.start, rows[:, : len(kept)])


def _reaching(
    written: list[tuple[range, Future[None]]], tiles: RowTiles, start: int
) -> list[Future[None]]:
    """What writes the rows that a tile sees."""
    seen = tiles.seen(start)
    return [done for rows, done in written if rows.start < seen.stop and seen.start < rows.stop]
