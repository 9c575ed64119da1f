"""Row tiles: a layer's output computed some rows at a time, so that activations fit the cache."""

from dataclasses import dataclass
from threading import Lock

import numpy as np


@dataclass(frozen=True, kw_only=True)
class RowTiles:
    """How the output of a layer on a square grid is cut into tiles of whole rows.

    Attributes:
        input_size: side of the input grid.
        input_channels: of the input.
        output_size: side of the output grid.
        output_channels: of the output.
        rows: of the output that a tile yields.
        padded_rows: rows that all tiles together cover: `output_size`, or more where windows
            exceed the grid.
        stride: input rows per output row.
        halo: input rows that convolutions see on either side of those they yield.
    """

    input_size: int
    input_channels: int
    output_size: int
    output_channels: int
    rows: int
    padded_rows: int
    stride: int = 1
    halo: int = 0

    @property
    def input_rows(self) -> int:
        """Rows of the input that a tile takes."""
        return self.stride * (self.rows - 1) + 1 + 2 * self.halo

    @property
    def starts(self) -> list[int]:
        """The first row of the output that each tile yields; the last two may overlap."""
        last = self.padded_rows - self.rows
        return [min(start, last) for start in range(0, self.padded_rows, self.rows)]

    @property
    def whole_output(self) -> "RowTiles":
        """The output as one tile of what follows."""
        size, channels = self.output_size, self.output_channels
        return RowTiles(
            input_size=size,
            input_channels=channels,
            output_size=size,
            output_channels=channels,
            rows=size,
            padded_rows=size,
        )

    def kept(self, start: int) -> range:
        """The rows of the output that are taken from the tile at `start`: each from one tile."""
        following = [other for other in self.starts if other > start]
        return range(start, min([start + self.rows, self.output_size, *following]))

    def seen(self, start: int) -> range:
        """The rows of the input that the tile at `start` depends on."""
        first = self.stride * start - self.halo
        return range(max(first, 0), min(first + self.input_rows, self.input_size))

    @property
    def rows_below(self) -> int:
        """Rows beyond the input's lower edge that the last tile takes along."""
        end = self.starts[-1] * self.stride - self.halo + self.input_rows
        return max(end - self.input_size, 0)

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of a tile of the input and of its `inside` (see `PaddedGrid.tile`)."""
        return (1, self.input_rows, self.input_size, self.input_channels), (1, self.input_rows)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of a tile of the output."""
        return 1, self.rows, self.output_size, self.output_channels


class PaddedGrid:
    """A layer's input, with rows of zeros above and below where its tiles exceed it.

    Threads may write different rows at once.
    """

    def __init__(self, tiles: RowTiles):
        self.size, self.above = tiles.input_size, tiles.halo
        rows = self.above + self.size + tiles.rows_below
        self._shape = 1, rows, tiles.input_size, tiles.input_channels
        self._inside = np.zeros((1, rows), np.float32)
        self._inside[:, self.above : self.above + self.size] = 1
        self._values: np.ndarray | None = None
        self._lock = Lock()

    def write(self, start: int, rows: np.ndarray) -> None:
        """Puts rows (1, R, S, C) at row `start` of the grid."""
        with self._lock:
            if rows.shape == self._shape:
                self._values = rows  # the whole, without a copy
                return
            if self._values is None:  # only now, for a network has many grids
                self._values = _aligned(self._shape)
                self._values[:, : self.above] = self._values[:, self.above + self.size :] = 0
        self._values[:, self.above + start :][:, : rows.shape[1]] = rows

    def tile(self, tiles: RowTiles, start: int) -> tuple[np.ndarray, np.ndarray]:
        """What a layer takes to yield its rows from `start` on.

        Returns:
            A view (1, input_rows, S, C), and `inside` (1, input_rows): 1 for rows of the image, 0
            for rows beyond its edges.
        """
        assert self._values is not None
        first = self.above + tiles.stride * start - tiles.halo
        rows = slice(first, first + tiles.input_rows)
        return self._values[:, rows], self._inside[:, rows]


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """An empty float32 array that XLA takes over without a copy: at a multiple of 64 bytes."""
    values = np.empty(int(np.prod(shape)) + 16, np.float32)
    first = -values.ctypes.data % 64 // 4
    return values[first : first + values.size - 16].reshape(shape)
