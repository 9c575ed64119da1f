"""Leases, with a clock that the test sets."""

import pytest

from litemedsam_jax.serving.remote.leases import Full, Gone, Leases


class Clocked:
    def __init__(self, most=2):
        self.now, self.over = 0.0, []
        self.leases = Leases(
            begin=lambda number: f"session {number}",
            end=lambda number, session, why: self.over.append((session, why)),
            most=most, idle_seconds=600, liveness_seconds=60, clock=lambda: self.now,
        )  # fmt: skip


def test_no_more_sessions_than_there_is_room_for():
    clocked = Clocked()
    first, _ = clocked.leases.claim(), clocked.leases.claim()
    with pytest.raises(Full):
        clocked.leases.claim()
    clocked.leases.release(first)
    clocked.leases.release(first)  # a second time does no harm
    assert clocked.over == [("session 1", "released")]
    clocked.leases.claim()


def test_heartbeats_keep_a_session_from_the_dead_but_not_from_the_idle():
    clocked = Clocked()
    token = clocked.leases.claim()
    for clocked.now in range(50, 601, 50):
        clocked.leases.get(token)
    assert clocked.leases.remaining(clocked.leases.get(token)) == 0
    clocked.now = 601
    with pytest.raises(Gone):
        clocked.leases.get(token)
    assert clocked.over == [("session 1", "idle")]


def test_a_client_that_is_silent_loses_its_session_but_not_while_it_waits_for_an_answer():
    clocked = Clocked()
    token = clocked.leases.claim()
    lease = clocked.leases.get(token)
    with clocked.leases.using(lease):
        clocked.now = 1000
        clocked.leases.sweep()
    clocked.leases.get(token, seen=False)  # asking for its state is no sign of life
    clocked.now = 1061
    with pytest.raises(Gone):
        clocked.leases.get(token, seen=False)
    assert clocked.over == [("session 1", "silent")]


@pytest.mark.parametrize("token", [None, "", "unknown"])
def test_unknown_leases_are_gone(token):
    with pytest.raises(Gone):
        Clocked().leases.get(token)
