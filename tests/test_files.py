"""What is said when the system refuses a file."""

from pathlib import Path

import pytest

from litemedsam_jax.files import replacing
from litemedsam_jax.preparation import naming


def test_a_full_disk_is_told_with_the_file_that_did_not_fit(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught, replacing(tmp_path / "a.npz"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "a.npz")
    assert not any(tmp_path.iterdir())


def test_a_neighbour_that_cannot_be_read_does_not_hide_the_cases(tmp_path, monkeypatch):
    for name in ("a.npz", "locked.npz", "locked"):
        (tmp_path / name).touch()
    (tmp_path / "locked_folder").mkdir()

    def refuse(path: Path, allowed):
        if "locked" in path.name:
            raise PermissionError(13, "Permission denied", str(path))
        return allowed(path)

    open_file, iterate = Path.open, Path.iterdir
    monkeypatch.setattr(Path, "open", lambda path, *_: refuse(path, lambda p: open_file(p, "rb")))
    monkeypatch.setattr(Path, "iterdir", lambda path: refuse(path, iterate))
    # By its name it is a case, which whoever reads it will tell.
    assert naming.cases_in(tmp_path) == [tmp_path / "a.npz", tmp_path / "locked.npz"]
