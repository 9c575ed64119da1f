"""The one reader and writer of npz: what comes back, and what is refused before it costs memory."""

import io
import os
import pickle
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from litemedsam_jax.imaging.case import read_case
from litemedsam_jax.imaging.npz import write_npz
from tests.support.archives import BOX, COLOUR, GREY, npy, refusal, write, zipped


def test_files_that_are_no_npz(tmp_path):
    good = write(tmp_path / "good.npz", imgs=COLOUR, boxes=BOX).read_bytes()
    wrong = {
        "empty": (b"", "0 bytes"),
        "text": (b"imgs,boxes\n1,2\n", "no intact npz file"),
        "cut": (good[: len(good) // 2], "no intact npz file"),
        "cut_by_one": (good[:-1], "no intact npz file"),
        "npy": (npy(GREY), "no intact npz file"),
    }
    for name, (content, words) in wrong.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        message = refusal(path)
        assert words in message and "savez_compressed" in message


def test_names_that_are_no_files(tmp_path):
    folder = tmp_path / "folder.npz"
    folder.mkdir()
    assert "no file" in refusal(folder)
    assert "no such file" in refusal(tmp_path / "missing.npz")
    (tmp_path / "dangling.npz").symlink_to(tmp_path / "nothing")
    assert "no such file" in refusal(tmp_path / "dangling.npz")
    (tmp_path / "loop.npz").symlink_to(tmp_path / "loop.npz")
    assert "cannot be read" in refusal(tmp_path / "loop.npz")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    assert "no file" in refusal(tmp_path / "pipe.npz")


class _Trap:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("key", ["imgs", "boxes", "spacing"])
def test_nothing_is_ever_unpickled(tmp_path, key):
    sprung = tmp_path / "sprung"
    trap = np.empty(1, object)
    trap[0] = _Trap(sprung)
    members = {"imgs.npy": npy(COLOUR), "boxes.npy": npy(BOX)}
    as_array = members | {f"{key}.npy": npy(trap, allow_pickle=True)}
    assert "Python objects, which are never unpickled" in refusal(
        zipped(tmp_path / "array.npz", as_array)
    )
    bare = members | {f"{key}.npy": pickle.dumps(_Trap(sprung))}
    assert "no npy data" in refusal(zipped(tmp_path / "bare.npz", bare))
    (tmp_path / "whole.npz").write_bytes(pickle.dumps(_Trap(sprung)))
    assert "no intact npz" in refusal(tmp_path / "whole.npz")
    assert not sprung.exists()
    pickle.loads(pickle.dumps(_Trap(sprung))).close()  # the trap does work
    assert sprung.exists()


def _header(shape: str, descr: str = "'|u1'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    text = text + " " * (63 - (len(text) + 10) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin1")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (_header("(100000, 100000)"), "9.3 GiB; the limit is 1 GiB"),
        (_header("(30000, 30000)"), "is cut short"),
        (_header("(2305843009213693952, 8)", "'<f8'"), "declares the shape"),
        (_header("(0, 99999999999999999999)"), "declares the shape"),
        (_header("(-1, 5)"), "declares the shape"),
        (_header("(" + "1, " * 70 + ")"), "declares the shape"),
        (_header("(99999999999,)", "'|V0'"), "expected numbers"),
        (_header("(9999999999,)", "'|S0'"), "expected numbers"),
        (_header("(3,)", "[('a', '<i4'), ('b', '|u1')]"), "expected numbers"),
        (_header("(3,)", "('<f4', (64, 64, 64))"), "expected numbers"),
        (_header("(3,)", "'<q9'"), "no npy data"),
        (_header("3.5"), "no npy data"),
        (_header("__import__('os').abort()"), "no npy data"),
        (_header("(" * 3000), "no npy data"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"{" * 65535, "no npy data"),
        (b"\x93NUMPY\x09\x00", "no npy data"),
        (b"\x93NUM", "no npy data"),
        (b"", "no npy data"),
    ],
)
def test_array_headers_are_not_believed(tmp_path, header, words):
    for key in ("imgs", "boxes"):
        members = {"imgs.npy": npy(GREY), "boxes.npy": npy(BOX), f"{key}.npy": header + b"12345"}
        assert words in refusal(zipped(tmp_path / f"{key}.npz", members))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    members = {"boxes.npy": npy(BOX), "imgs.npy": _header("(4000000000,)") + b"\0" * (64 << 20)}
    path = zipped(tmp_path / "bomb.npz", members)
    assert path.stat().st_size < 1 << 20
    assert "the limit is 1 GiB" in refusal(path)


def test_more_data_than_declared_is_not_unpacked(tmp_path):
    members = {"imgs.npy": npy(GREY) + b"\0" * (64 << 20), "boxes.npy": npy(BOX)}
    path = zipped(tmp_path / "c.npz", members)
    np.testing.assert_array_equal(read_case(path).image, GREY)


def test_a_bomb_in_an_arrays_header_is_not_unpacked(tmp_path):
    bomb = b"\x93NUMPY\x02\x00" + (64 << 20).to_bytes(4, "little") + b" " * (64 << 20)
    path = zipped(tmp_path / "c.npz", {"imgs.npy": bomb, "boxes.npy": npy(BOX)})
    tracemalloc.start()
    message = refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "header is said to take 67108864 bytes" in message
    assert peak < 8 << 20


def test_a_flipped_bit_is_noticed(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    path = tmp_path / "c.npz"
    np.savez(path, imgs=image, boxes=BOX)
    content = bytearray(path.read_bytes())
    content[content.find(image.tobytes()) + 2000] ^= 4
    path.write_bytes(content)
    assert "CRC" in refusal(path)


def test_a_message_never_grows_long_nor_breaks_the_line(tmp_path):
    members = {f"{'x' * 200}\n\x1b[31m{index}.npy": b"" for index in range(50)}
    message = refusal(zipped(tmp_path / "c.npz", members))
    assert "no array 'imgs'" in message


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_in_other_compressions(tmp_path, method):
    path = tmp_path / "c.npz"
    image = np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)
    image[100:] = 0
    zipped(path, {"imgs.npy": npy(image), "boxes.npy": npy(BOX)}, method)
    np.testing.assert_array_equal(read_case(path).image, image)
    damaged = bytearray(path.read_bytes())
    damaged[15_000:15_500] = b"\xa5" * 500  # long past the array's header
    path.write_bytes(damaged)
    assert "no intact npz file" in refusal(path)


def test_the_second_version_of_npy_is_read(tmp_path):
    image = io.BytesIO()
    np.lib.format.write_array(image, COLOUR, version=(2, 0))
    path = zipped(tmp_path / "c.npz", {"imgs.npy": image.getvalue(), "boxes.npy": npy(BOX)})
    np.testing.assert_array_equal(read_case(path).image, COLOUR)


def test_written_arrays_come_back_and_no_half_file_stays(tmp_path, monkeypatch):
    path = tmp_path / "new" / "c.npz"
    write_npz(path, segs=GREY)
    with np.load(path) as file:
        assert list(file) == ["segs"]
        np.testing.assert_array_equal(file["segs"], GREY)

    def fail(stream, **_):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError):
        write_npz(path, segs=COLOUR)
    assert [p.name for p in path.parent.iterdir()] == ["c.npz"]
    with np.load(path) as file:
        np.testing.assert_array_equal(file["segs"], GREY)
