"""Files and folders that others may write to are not read."""

import os
import sys

import pytest

from litemedsam_jax.engine.trusted_files import UntrustedError, make_trusted_folder, open_trusted

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")


@pytest.fixture
def file(tmp_path):
    folder = tmp_path / "a" / "b"
    make_trusted_folder(folder, tmp_path / "a")
    path = folder / "file"
    path.write_bytes(b"content")
    path.chmod(0o644)
    return path


def test_a_file_of_the_users_is_read(file):
    with open_trusted(file) as opened:
        assert opened.read() == b"content"
    with pytest.raises(FileNotFoundError), open_trusted(file.with_name("other")):
        pass


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_may_write_to(file, mode):
    file.chmod(mode)
    with pytest.raises(UntrustedError, match="may be written by others") as error:
        open_trusted(file).__enter__()
    assert error.value.filename == str(file)


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_folder_that_others_may_write_to(file, mode):
    file.parent.chmod(mode)
    with pytest.raises(UntrustedError) as error:
        open_trusted(file).__enter__()
    assert error.value.filename == str(file.parent)
    with pytest.raises(UntrustedError):
        make_trusted_folder(file.parent, file.parent)


def test_a_link_leads_to_what_is_checked(file, tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"x")
    target.chmod(0o666)
    link = file.with_name("link")
    link.symlink_to(target)
    with pytest.raises(UntrustedError):
        open_trusted(link).__enter__()


def test_what_is_no_file_is_not_waited_for(file):
    pipe = file.with_name("pipe")
    os.mkfifo(pipe, 0o600)
    with pytest.raises(UntrustedError, match="is not a file"):
        open_trusted(pipe).__enter__()


def test_folders_are_made_whatever_the_umask(tmp_path):
    before = os.umask(0o002)
    try:
        make_trusted_folder(tmp_path / "a" / "b" / "c", tmp_path / "a" / "b")
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "a", tmp_path / "a/b/c")]
    assert modes == [0o775, 0o755]
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o755
