"""A few hundred of the bodies that tests/faults/fuzz_remote.py sends by the thousand."""

from tests.faults.fuzz_remote import Fuzz


def test_bodies_without_sense_are_refused_and_the_work_goes_on():
    fuzz = Fuzz(seed=1)
    try:
        for _ in range(300):
            fuzz.one()
        fuzz.work()
    finally:
        fuzz.http.close()
        fuzz.server.stop()
    assert fuzz.statuses[400] > 100
