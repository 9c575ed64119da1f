"""Where weights are looked for: the user's data folder, then the checkout's work_dir."""

import sys
from pathlib import Path

import pytest

from litemedsam_jax.weights import default_weights
from litemedsam_jax.weights.errors import CheckpointError

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="XDG's folders")


@pytest.fixture
def places(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """The two files, in empty folders of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    users = tmp_path / "data" / "litemedsam_jax" / "lite_medsam.safetensors"
    return users, Path("work_dir/LiteMedSAM/lite_medsam.safetensors")


def _write(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch()


@linux
def test_the_users_come_first_then_those_of_the_checkout(places):
    users, checkouts = places
    _write(checkouts)
    assert default_weights.find() == checkouts
    _write(users)
    assert default_weights.find() == users


@linux
def test_none_at_all_says_which_command_gets_them(places):
    with pytest.raises(CheckpointError, match="`litemedsam weights`") as error:
        default_weights.find()
    assert all(str(path) in str(error.value) for path in places)
    assert len(str(error.value).splitlines()) == 1


@linux
def test_without_a_home_only_the_checkout_is_looked_at(places, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    _write(places[1])
    assert default_weights.find() == places[1]
    with pytest.raises(CheckpointError, match="no home folder"):
        default_weights.data_folder()


@pytest.mark.parametrize(
    "platform, place",
    [("win32", "local/litemedsam_jax"), ("darwin", "Library/Application Support/litemedsam_jax")],
)
def test_other_platforms_have_other_customs(platform, place, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert default_weights.data_folder() == tmp_path / place
