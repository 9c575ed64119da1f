"""Faults as the real client sees them, and who may speak to the server."""

import gc

import httpx
import pytest

# The client leaves its socket to the garbage collector where it is refused a session.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def collected():
    yield
    gc.collect()


KEY = "a key of 16 letters"


def test_a_full_server_says_so_and_has_room_again_when_a_session_is_closed(serve, connect):
    from nnInteractive.inference.remote import ServerAtCapacityError

    server = serve(most_sessions=1)
    first = connect(server)
    with pytest.raises(ServerAtCapacityError, match="all 1 sessions are in use"):
        connect(server)
    first.close()
    assert connect(server).ping()


def test_a_lease_that_is_over_is_told_by_every_call(serve, begin, volume):
    from nnInteractive.inference.remote import SessionExpiredError

    server = serve()
    session, buffer = begin(server, volume)
    lease = {"X-Lease-Token": session._lease_token}
    assert httpx.post(server.address + "/release", headers=lease).json() == {"released": True}
    for call in (
        session.heartbeat, session.lease_status, session.undo, session.reset_interactions,
        lambda: session.set_image(volume[None]),
        lambda: session.set_target_buffer(buffer),
        lambda: session.add_bbox_interaction([[1, 3]] * 3, True),
        lambda: session.add_lasso_interaction(buffer, True),
        lambda: session.add_initial_seg_interaction(buffer),
    ):  # fmt: skip
        with pytest.raises(SessionExpiredError, match="connect anew"):
            call()


def test_images_that_do_not_fit_the_memory_are_refused_and_it_is_given_back(serve, connect, volume):
    from nnInteractive.inference.remote import ServerAtCapacityError

    server = serve(memory_bytes=5 * volume.nbytes)
    for _ in range(3):
        session = connect(server)
        session.set_image(volume[None])
        session.close()
    holds = [connect(server), connect(server)]
    with pytest.raises(ServerAtCapacityError, match="do not fit"):
        for session in holds:
            session.set_image(volume[None])
    with pytest.raises(httpx.HTTPStatusError) as caught:
        holds[1].set_image(volume[None].repeat(9, axis=1))
    assert caught.value.response.status_code == 413


def test_prompts_before_an_image_are_refused_in_a_sentence(serve, connect):
    session = connect(serve())
    for call in (session.undo, lambda: session.add_bbox_interaction([[1, 3]] * 3, True)):
        with pytest.raises(httpx.HTTPStatusError) as caught:
            call()
        assert caught.value.response.status_code == 400
        assert "/set_image first" in caught.value.response.json()["detail"]


def test_a_key_is_wanted_where_one_was_given(serve, connect):
    server = serve(key=KEY)
    assert connect(server, api_key=KEY).ping()
    for key in ("another key", "no"):
        with pytest.raises(httpx.HTTPStatusError) as caught:
            connect(server, api_key=key)
        assert caught.value.response.status_code == 401


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 200),
        ({"Host": "localhost:9999"}, 200),  # through a tunnel
        ({"Host": "evil.example"}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
    ids=str,
)
def test_web_pages_are_refused(serve, headers, status):
    assert httpx.post(serve().address + "/claim", headers=headers).status_code == status
