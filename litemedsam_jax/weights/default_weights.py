"""Where the weights are looked for when none are named: the one place that says so."""

import os
import sys
from pathlib import Path

from litemedsam_jax.weights.errors import CheckpointError

FILE_NAME = "lite_medsam.safetensors"
IN_WORK_DIR = Path("work_dir", "LiteMedSAM", FILE_NAME)  # of a checkout: `make weights`
COMMAND = "litemedsam weights"
# For the help of commands that take weights.
DESCRIPTION = (
    f"the published ones, where `{COMMAND}` puts them in the user's data folder, else "
    f"{IN_WORK_DIR.as_posix()}"
)


def data_folder() -> Path:
    """Returns the folder for a user's data of this program, by the platform's custom.

    That is `litemedsam_jax` in $XDG_DATA_HOME or ~/.local/share, in ~/Library/Application Support
    (macOS) or in %LOCALAPPDATA% (Windows).

    Raises:
        CheckpointError: The user has no home folder.
    """
    try:
        if sys.platform == "win32":
            parent = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        elif sys.platform == "darwin":
            parent = Path.home() / "Library" / "Application Support"
        else:
            parent = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    except RuntimeError as error:
        raise CheckpointError(
            "this user has no home folder, so weights have no place of their own; name the file"
        ) from error
    return Path(parent) / "litemedsam_jax"


def places() -> list[Path]:
    """Returns the files that are tried, in order: the user's, then the checkout's."""
    try:
        return [data_folder() / FILE_NAME, IN_WORK_DIR]
    except CheckpointError:
        return [IN_WORK_DIR]


def find() -> Path:
    """Returns the weights to use where none are named.

    Raises:
        CheckpointError: There are none; the message says which command gets them.
    """
    tried = places()
    for path in tried:
        if path.is_file():
            return path
    raise CheckpointError(
        f"no weights: {' and '.join(map(str, tried))} are not there. Fetch the published ones with "
        f"`{COMMAND}` (no network: `{COMMAND} --file lite_medsam.pth`), or name a file of weights."
    )
