"""Items worked on ahead come in order, no more of them at a time than asked for."""

import threading
import time

import pytest

from litemedsam_jax.lookahead import ahead


@pytest.mark.parametrize("count", [0, 1, 3])
def test_results_come_in_order_and_bounded(count):
    lock, running, most = threading.Lock(), 0, 0

    def square(x: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002 * (x % 3))
        with lock:
            running -= 1
        return x * x

    assert list(ahead(square, range(20), count)) == [x * x for x in range(20)]
    assert most <= max(count, 1)


@pytest.mark.parametrize("count", [0, 2])
def test_an_error_comes_at_its_items_turn(count):
    results = ahead(lambda x: 6 // x, [3, 2, 0, 1], count)
    assert (next(results), next(results)) == (2, 3)
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("count", [0, 2])
def test_closing_it_stops_the_work(count):
    begun = []
    results = ahead(begun.append, range(1000), count)
    next(results)
    results.close()
    seen = len(begun)
    time.sleep(0.05)
    assert len(begun) == seen <= count + 1
