"""The bytes of a stored executable."""

import pytest

from litemedsam_jax.engine.stored_executable import StoredExecutable

STORED = StoredExecutable(3, b"pickled ", b"code", b" frame")


def test_bytes_round_trip():
    assert StoredExecutable.from_bytes(STORED.to_bytes()) == STORED
    assert STORED.wrapped == b"pickled code frame"


def test_code_is_found_within_what_jax_wraps_around_it():
    assert StoredExecutable.split(3, b"code", b"pickled code frame") == STORED


def test_what_jax_wraps_otherwise_is_not_loaded_by_jax():
    stored = StoredExecutable.split(3, b"code", b"something else")
    assert stored.code == b"code"
    with pytest.raises(ValueError, match="without what JAX needs"):
        _ = stored.wrapped


@pytest.mark.parametrize("data", [b"", b"LMX1", b"an executable of long ago" * 9])
def test_other_bytes_are_refused(data):
    with pytest.raises(ValueError, match="not a stored executable"):
        StoredExecutable.from_bytes(data)


def test_cut_bytes_are_refused():
    with pytest.raises(ValueError, match="cut short"):
        StoredExecutable.from_bytes(STORED.to_bytes()[:-12])
