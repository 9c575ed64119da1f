"""Windows around small objects: what they hold, how many there are, how much they enlarge."""

import numpy as np
import pytest

from litemedsam_jax.imaging import zoom_windows


def _grid(step, side, count):
    y, x = np.divmod(np.arange(count * count), count)
    return np.stack([x * step, y * step, x * step + side - 1, y * step + side - 1], axis=1)


def _longest(window):
    rows, columns = window.rows, window.columns
    return max(rows.stop - rows.start, columns.stop - columns.start)


def _assert_inside(windows, boxes, height, width):
    for window in windows:
        for x_min, y_min, x_max, y_max in boxes[window.boxes]:
            assert window.rows.start <= y_min and y_max < window.rows.stop <= height
            assert window.columns.start <= x_min and x_max < window.columns.stop <= width


def test_small_objects_get_windows_and_neighbours_share_one():
    boxes = np.array([[100, 100, 139, 139], [125, 110, 155, 140], [900, 900, 940, 930],
                      [0, 0, 700, 700]])  # fmt: skip
    windows = zoom_windows.cover(boxes, 1000, 1000, limit=4)
    assert sorted(sorted(window.boxes) for window in windows) == [[0, 1], [2]]
    _assert_inside(windows, boxes, 1000, 1000)


@pytest.mark.parametrize(("height", "width"), [(1000, 1000), (1000, 3000)])
def test_hundreds_of_small_objects_share_tiles_and_none_is_left_out(height, width):
    boxes = np.concatenate([_grid(50, 20, 20) + [left, 0] * 2 for left in range(0, width, 1000)])
    windows = zoom_windows.cover(boxes, height, width, limit=5)
    assert 1 < len(windows) <= 5
    assert sorted(k for one in windows for k in one.boxes) == list(range(len(boxes)))
    _assert_inside(windows, boxes, height, width)
    assert max(map(_longest, windows)) < 0.6 * max(height, width)


def test_tiles_cover_no_more_than_where_the_objects_are():
    boxes = _grid(12, 6, 12) + 600  # in a part of 138 pixels of 1000
    windows = zoom_windows.cover(boxes, 1000, 1000, limit=4)
    assert sum(len(one.boxes) for one in windows) == len(boxes)
    assert max(map(_longest, windows)) < 120


def test_a_large_object_among_many_small_ones_keeps_them_in_small_tiles():
    boxes = np.vstack([_grid(50, 20, 20), [[300, 300, 549, 549]]])
    windows = zoom_windows.cover(boxes, 1000, 1000, limit=5)
    assert {k for one in windows for k in one.boxes} >= set(range(400))
    _assert_inside(windows, boxes, 1000, 1000)
    assert max(map(_longest, windows)) < 600


def test_more_windows_enlarge_more():
    boxes = _grid(50, 20, 20)
    sides = [
        np.mean([_longest(one) for one in zoom_windows.cover(boxes, 1000, 1000, limit)])
        for limit in (4, 9, 16)
    ]
    assert sides[0] > sides[1] > sides[2]


@pytest.mark.parametrize("limit", [0, 1])
def test_no_more_windows_than_allowed(limit):
    strewn = np.array([[10, 10, 40, 40], [900, 20, 940, 50], [30, 900, 60, 950]])
    assert len(zoom_windows.cover(strewn, 1000, 1000, limit)) <= limit


def test_large_objects_have_none():
    assert zoom_windows.cover(np.array([[0, 0, 400, 400]]), 1000, 1000, limit=5) == []


def test_many_small_boxes_end_the_search_for_windows_early(monkeypatch):
    built = []
    window = zoom_windows.Window
    monkeypatch.setattr(zoom_windows, "Window", lambda *a: built.append(1) or window(*a))
    y, x = np.divmod(np.arange(65535), 256)
    boxes = np.stack([x * 16, y * 16, x * 16 + 5, y * 16 + 5], axis=1)
    windows = zoom_windows.cover(boxes, 4096, 4096, limit=12)
    assert sum(len(one.boxes) for one in windows) == len(boxes)
    assert 0 < len(built) <= 12 * 6  # at most `limit` for each size of window, not one a box
