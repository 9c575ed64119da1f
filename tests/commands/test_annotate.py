"""Where `litemedsam annotate` may listen, and who may ask it there."""

import http.client
import re
import socket
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

FUNDUS = REPOSITORY / "demo" / "imgs" / "2DBox_Fundus_retina.npz"
TOKEN = "of-sixteen-characters-or-more"


def command(folder, *options):
    fixed = ("--no-browser", "-o", folder / "out", "--weights", folder / "none")
    return [sys.executable, "-m", "litemedsam_jax", "annotate", *map(str, (*options, *fixed))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--host", "192.0.2.1"), "say --token"),
        (("--host", "0.0.0.0", "--token", TOKEN), "name one address"),
        (("--host", "everywhere", "--token", TOKEN), "expected an IP address"),
        (("--token", "short"), "16 printable"),
    ],
)
def test_what_would_be_too_open_is_refused(tmp_path, options, message):
    run = subprocess.run(
        command(tmp_path, FUNDUS, *options), cwd=REPOSITORY, capture_output=True, text=True
    )
    assert run.returncode == 2 and message in run.stderr and run.stderr.count("\n") == 1


def test_another_address_is_served_to_who_has_the_token(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
            address = probe.getsockname()[0]
        except OSError:
            pytest.skip("this machine has no address but 127.0.0.1")
    line = command(tmp_path, FUNDUS, "--host", address, "--token", TOKEN)
    process = subprocess.Popen(line, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        found = re.search(r"//([\d.]+):(\d+)/\?token=(\S+)", process.stdout.readline())
        assert (found[1], found[3]) == (address, TOKEN)

        def status(**headers):
            connection = http.client.HTTPConnection(address, int(found[2]), timeout=30)
            connection.request("GET", "/api/v1/workspace", headers=headers)
            code = connection.getresponse().status
            connection.close()
            return code

        assert status(Authorization=f"Bearer {TOKEN}") == 200
        assert status() == 403
        assert status(Authorization=f"Bearer {TOKEN}", Host="evil.example") == 400
    finally:
        process.kill()
        process.communicate()
