"""Tiles of the encoder run when the rows that they see are there, in any number of threads."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from litemedsam_jax.engine.encoder_plan import EncoderLayer
from litemedsam_jax.engine.programs import Program
from litemedsam_jax.engine.row_tiles import RowTiles
from litemedsam_jax.engine.tiled_encoder import encode

SIZE = 12


def layer(number: int, rows: int) -> EncoderLayer:
    """Adds the rows above and below to each."""
    tiles = RowTiles(
        input_size=SIZE,
        input_channels=3,
        output_size=SIZE,
        output_channels=3,
        rows=rows,
        padded_rows=SIZE,
        halo=1,
    )
    program = Program(
        name=f"layer_{number}",
        function=lambda: lambda: None,
        parameters=(),
        scope="",
        input_shapes=tiles.input_shapes,
        output_shapes=(tiles.output_shape,),
    )
    return EncoderLayer(program, "", tiles)


LAYERS = [layer(number, rows) for number, rows in enumerate((4, 5, 12, 3, 6))]
IMAGE = np.random.default_rng(0).random((SIZE, SIZE, 3), np.float32)


def add_neighbours(name: str, scope: str, tile: np.ndarray, inside: np.ndarray) -> np.ndarray:
    time.sleep(0.002 if inside.all() else 0)  # threads overtake each other
    return tile[:, :-2] + tile[:, 1:-1] + tile[:, 2:]


def expected() -> np.ndarray:
    values = IMAGE[None]
    for _ in LAYERS:
        padded = np.pad(values, ((0, 0), (1, 1), (0, 0), (0, 0)))
        values = add_neighbours("", "", padded, np.ones(1))
    return values


@pytest.mark.parametrize("threads", [0, 1, 2, 7])
def test_any_number_of_threads_makes_the_whole(threads):
    if not threads:
        np.testing.assert_array_equal(encode(add_neighbours, LAYERS, IMAGE), expected())
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(5):
            made = encode(add_neighbours, LAYERS, IMAGE, pool.submit)
            np.testing.assert_array_equal(made, expected())


@pytest.mark.parametrize("failing", ["layer_0", "layer_3", "layer_4"])
def test_a_tile_that_fails_fails_the_image(failing):
    def run(name, *inputs):
        if name == failing:
            raise ValueError(f"in {name}")
        return add_neighbours(name, *inputs)

    with ThreadPoolExecutor(2) as pool, pytest.raises(ValueError, match=failing):
        encode(run, LAYERS, IMAGE, pool.submit)
