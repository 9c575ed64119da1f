"""napari with its real plug-in on this server; .ci/napari installs both."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

DRIVER = Path(__file__).with_name("napari_driver.py")
CASE = REPOSITORY / "demo/imgs/3DBox_MR_brain1_tumor.npz"
PYTHON = Path(os.environ.get("NAPARI_PYTHON", REPOSITORY / ".venv-napari/bin/python"))


def test_a_user_of_napari_gets_masks_and_goes_on_after_the_server_was_killed(
    weights_file, tmp_path
):
    xvfb = shutil.which("xvfb-run")
    if not PYTHON.exists() or not xvfb:
        pytest.skip("no napari (.ci/napari) or no Xvfb: the plug-in is NOT tested")
    result = subprocess.run(
        [xvfb, "-a", "-s", "-screen 0 1400x950x24 +extension GLX", PYTHON, DRIVER,
         sys.executable, weights_file, CASE, tmp_path],
        env={**os.environ, "QT_QPA_PLATFORM": "xcb", "XDG_CONFIG_HOME": str(tmp_path)},
        cwd=REPOSITORY, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    assert "voxels" in result.stdout and (tmp_path / "napari.png").stat().st_size > 50_000
