"""Pickles that make much work out of few bytes are refused before the work is done."""

import pickle
import struct

import pytest

from litemedsam_jax.pickle_reader import MAX_PICKLE_BYTES, Refused, State, read_pickle

PAIRS = 20_000


def _read(data: bytes, looked_at: list[int] | None = None) -> object:
    def builder(items=(), *_):
        if looked_at is not None:
            looked_at.append(len(items))
        return dict(items)

    class Unfinished(State):
        def build(self, state):
            return self

    builders = {"collections.OrderedDict": builder, "numpy.dtype": lambda *_: Unfinished()}
    return read_pickle(data, builders, lambda identity: identity)


def test_plain_containers_are_read():
    value = {"a": [1, 2.5, None, (True, "x")], 3: {"b": "text"}}
    for protocol in (2, 3, 4, 5):
        assert _read(pickle.dumps(value, protocol)) == value


def test_one_list_given_to_many_calls_is_refused_early():
    """400 kB that would have been looked at as 2,000,000,000 elements."""
    pairs = pickle.dumps([("k", 1)] * PAIRS, 2)[:-1]
    again = b"ccollections\nOrderedDict\nq\x01" + b"h\x01h\x00\x85R" * 60_000
    looked_at: list[int] = []
    data = pairs + again + b"."
    with pytest.raises(Refused, match="again and again"):
        _read(data, looked_at)
    assert sum(looked_at) < 10 * len(data)


def test_a_long_text_given_as_storage_again_and_again():
    text = b"X" + struct.pack("<I", 200_000) + b"x" * 200_000 + b"q\x00"
    with pytest.raises(Refused, match="again and again"):
        _read(b"\x80\x02" + text + b"h\x00Q" * 1000 + b".")


def test_an_object_remembered_again_and_again():
    remembered = b"".join(b"r" + struct.pack("<I", number) for number in range(1000))
    with pytest.raises(Refused, match="remembered again and again"):
        _read(b"\x80\x02cnumpy\ndtype\n)R" + remembered + b".")


def test_keys_made_to_collide_are_refused():
    """Python hashes integers modulo 2**61 - 1: all of these have the hash 0."""
    with pytest.raises(Refused, match="dictionary key"):
        _read(pickle.dumps({(2**61 - 1) * number: 1 for number in range(1, 100)}, 2))
    with pytest.raises(Refused, match="dictionary key of type float"):
        _read(pickle.dumps({0.5: 1}, 2))


def test_a_pickle_larger_than_any_description():
    with pytest.raises(Refused, match="where at most 4 were expected"):
        _read(b"N" * (MAX_PICKLE_BYTES + 1))
