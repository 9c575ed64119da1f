"""Who may speak to the server."""

import http.client
import json
from contextlib import closing
from pathlib import Path

import pytest

from tests.serving.test_page import FUNDUS
from tests.support.browser import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("security")
    running = Server(FUNDUS, "--output", folder / "out", "--weights", folder / "none")
    yield running
    assert "Traceback" not in running.stop()


def ask(server, path="/api/v1/workspace", method="GET", body=None, **headers):
    sent = {"Authorization": f"Bearer {server.token}", **headers}
    sent = {name.replace("_", "-"): value for name, value in sent.items() if value is not None}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    with closing(connection):
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def test_the_token_opens_the_api_and_the_page(server):
    status, headers, body = ask(server)
    assert status == 200 and [c["name"] for c in json.loads(body)["cases"]] == [FUNDUS.name]
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert not {name for name in headers if name.lower().startswith("access-control")}
    status, headers, _ = ask(server, f"/?token={server.token}", Authorization=None)
    assert status == 303 and headers["location"] == "/"
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie
    name = cookie.split(";")[0]
    assert ask(server, "/", Authorization=None, Cookie=name)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": None},
        {"Authorization": "Bearer wrong"},
        {"Cookie": "litemedsam_1=wrong", "Authorization": None},
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/", "/api/v1/workspace", "/page/js/main.js", "/nothing"])
def test_strangers_are_refused(server, path, headers):
    status, _, body = ask(server, path, **headers)
    assert status in (400, 403) and FUNDUS.name.encode() not in body


def test_the_port_and_origin_must_be_the_servers_own(server):
    assert ask(server, Host=f"127.0.0.1:{server.port + 1}")[0] == 400
    assert ask(server, Origin=f"http://127.0.0.1:{server.port}")[0] == 200
    assert ask(server, "/?token=wrong", Authorization=None)[0] == 403


def test_large_requests_are_refused_before_they_are_read(server):
    status, _, _ = ask(server, "/api/v1/cases/0/boxes", "POST", None, Content_Length=str(1 << 40))
    assert status == 413


@pytest.mark.parametrize("path", ["/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd"])
def test_nothing_but_the_page_is_served(server, path):
    assert ask(server, path)[0] == 404


def test_only_this_machine_is_served(server):
    table = Path("/proc/net/tcp")
    if not table.exists():
        pytest.skip("the listening sockets are read from Linux's /proc")
    listening = [line.split()[1] for line in table.read_text().splitlines() if " 0A " in line]
    assert [a for a in listening if a.endswith(f":{server.port:04X}")] == [
        f"0100007F:{server.port:04X}"
    ]
