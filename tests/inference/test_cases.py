"""What is accepted as a case, and how everything else is refused: in one line that helps."""

import io
import os
import pickle
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

from litemedsam_jax.inference import cases
from litemedsam_jax.inference.cases import CaseError, check_case, read_case, write_arrays

GREY = np.arange(30 * 40, dtype=np.uint8).reshape(30, 40)
COLOUR = np.stack([GREY] * 3, axis=-1)
VOLUME = np.stack([GREY] * 5)
BOX = np.array([[3, 4, 20, 25]])
BOX_3D = np.array([[3, 4, 1, 20, 25, 3]])


def _write(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def _refusal(path, prompts="boxes") -> str:
    with pytest.raises(CaseError) as caught:
        read_case(path, prompts)
    message = str(caught.value)
    assert message.isprintable() and len(message) <= 400  # so it is one line
    return message


@pytest.mark.parametrize(
    ("image", "boxes", "is_volume"),
    [
        (COLOUR, BOX, False),
        (GREY, BOX, False),
        (VOLUME, BOX_3D, True),
        (np.stack([COLOUR] * 5), BOX_3D, True),
        (VOLUME[:1], np.array([[3, 4, 0, 20, 25, 0]]), True),
        (np.stack([GREY] * 3, axis=0), np.array([[3, 4, 0, 20, 25, 2]]), True),
        (VOLUME[..., :3], np.array([[0, 4, 0, 2, 25, 2]]), True),  # three columns, no colours
    ],
)
def test_pictures_and_volumes_are_told_apart_by_their_boxes(tmp_path, image, boxes, is_volume):
    case = read_case(_write(tmp_path / "3DBox_or_not.npz", imgs=image, boxes=boxes))
    assert case.is_volume == is_volume
    assert case.name == "3DBox_or_not" and case.warnings == () and case.spacing is None
    np.testing.assert_array_equal(case.image, image)
    np.testing.assert_array_equal(case.boxes, boxes)


@pytest.mark.parametrize("box", [BOX[0], BOX_3D[0]])
def test_one_box_need_not_be_wrapped(box):
    image = VOLUME if len(box) == 6 else GREY
    np.testing.assert_array_equal(check_case("c", image, boxes=box).boxes, box[None])


def test_single_slice_objects():
    case = check_case("c", VOLUME, boxes=np.array([[3, 4, 2, 20, 25, 2]]))
    np.testing.assert_array_equal(case.boxes, [[3, 4, 2, 20, 25, 2]])


def test_fractions_of_pixels_are_kept_and_slices_rounded():
    case = check_case("c", VOLUME, boxes=np.array([[3.25, 4.5, 0.9, 20.75, 25.5, 3.2]]))
    np.testing.assert_array_equal(case.boxes, [[3.25, 4.5, 1, 20.75, 25.5, 3]])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([20, 25, 3, 4], [3, 4, 20, 25]),
        ([20, 4, 3, 25], [3, 4, 20, 25]),
        ([-5, -1, 20, 25], [0, 0, 20, 25]),
        ([3, 4, 900, 1e9], [3, 4, 40, 30]),
        ([20.5, 25.5, 3.5, 99], [3.5, 25.5, 20.5, 30]),
    ],
)
def test_swapped_and_outlying_corners_are_mended_with_one_warning(given, expected):
    case = check_case("c", GREY, boxes=np.array([given, BOX[0]]))
    np.testing.assert_array_equal(case.boxes, [expected, BOX[0]])
    assert len(case.warnings) == 1 and "1 of 2 boxes" in case.warnings[0]


def test_swapped_and_outlying_slices_are_mended():
    case = check_case("c", VOLUME, boxes=np.array([[3, 4, 9, 20, 25, -2]]))
    np.testing.assert_array_equal(case.boxes, [[3, 4, 0, 20, 25, 4]])
    assert len(case.warnings) == 1


def test_the_edge_itself_is_inside():
    case = check_case("c", GREY, boxes=np.array([[0, 0, 40, 30]]))
    assert case.warnings == ()
    np.testing.assert_array_equal(case.boxes, [[0, 0, 40, 30]])


def test_unsigned_boxes_do_not_wrap():
    case = check_case("c", GREY, boxes=np.array([[20, 25, 3, 250]], np.uint8))
    np.testing.assert_array_equal(case.boxes, [[3, 25, 20, 30]])


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int16", "uint16", "int32", "int64", "float16", "float32", "float64"]
)
def test_images_of_any_number_within_range(dtype):
    image = (GREY % 2).astype(dtype)
    found = check_case("c", image, boxes=BOX).image
    assert found.dtype == (np.float32 if "float" in dtype else np.uint8)
    np.testing.assert_array_equal(found, GREY % 2)


@pytest.mark.parametrize(
    "spacing", [[np.nan, 1, 1], [0, 1, 1], [1, 1], [[1, 1, 1, 1]], [-1, 1, 1], [1j, 1, 1]]
)
def test_an_odd_spacing_is_left_out_with_a_warning(spacing):
    case = check_case("c", VOLUME, np.array(spacing), boxes=BOX_3D)
    assert case.spacing is None and "spacing" in case.warnings[0]


def test_a_good_spacing_is_kept():
    case = check_case("c", VOLUME, np.array([0.5, 0.5, 3]), boxes=BOX_3D)
    assert case.spacing is not None and case.spacing.tolist() == [0.5, 0.5, 3]


def test_fortran_order_and_uncompressed_files(tmp_path):
    path = tmp_path / "c.npz"
    np.savez(path, imgs=np.asfortranarray(COLOUR), boxes=np.asfortranarray(BOX))
    np.testing.assert_array_equal(read_case(path).image, COLOUR)


def test_labels_as_prompts(tmp_path):
    path = _write(tmp_path / "c.npz", imgs=GREY, gts=(GREY > 9).astype(np.int64))
    case = read_case(path, "gt")
    assert case.boxes is None and case.gts is not None and not case.is_volume
    assert case.gts.dtype == np.uint16


# What is refused


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"imgs": GREY}, "no array 'boxes' (it has: imgs)"),
        ({"boxes": BOX}, "no array 'imgs' (it has: boxes)"),
        ({"image": GREY, "box": BOX}, "no array 'imgs' (it has: box, image)"),
        ({"imgs": GREY[0], "boxes": BOX}, "shape (40,); pictures (boxes of 4 numbers) have"),
        ({"imgs": VOLUME, "boxes": BOX}, "(H, W, 3) or (H, W)"),
        ({"imgs": GREY, "boxes": BOX_3D}, "(D, H, W) or (D, H, W, 3)"),
        ({"imgs": np.stack([GREY] * 4, -1), "boxes": BOX}, "(30, 40, 4)"),
        ({"imgs": np.zeros((0, 5), np.uint8), "boxes": BOX}, "holds nothing"),
        ({"imgs": GREY.astype(int) + 300, "boxes": BOX}, "from 300 to 555; expected 0 to 255"),
        ({"imgs": GREY.astype(float) - 7, "boxes": BOX}, "from -7.0 to 248.0; expected 0 to 255"),
        ({"imgs": np.where(GREY == 9, np.nan, GREY), "boxes": BOX}, "nan to nan; expected 0"),
        ({"imgs": np.where(GREY == 9, np.inf, GREY), "boxes": BOX}, "inf; expected 0 to 255"),
        ({"imgs": GREY * 1j, "boxes": BOX}, "type complex128; expected numbers from 0 to 255"),
        ({"imgs": GREY.astype(str), "boxes": BOX}, "expected numbers"),
        ({"imgs": GREY, "boxes": np.zeros((0, 4))}, "boxes is empty; expected at least one box"),
        ({"imgs": GREY, "boxes": np.array([])}, "boxes is empty"),
        ({"imgs": GREY, "boxes": np.array(3)}, "expected (N, 4) as x_min, y_min, x_max, y_max"),
        ({"imgs": GREY, "boxes": BOX[:, :3]}, "(1, 3); expected (N, 4)"),
        ({"imgs": GREY, "boxes": np.zeros((2, 3, 4))}, "(2, 3, 4); expected (N, 4)"),
        ({"imgs": GREY, "boxes": BOX * np.nan}, "NaN or infinity; expected pixel"),
        ({"imgs": GREY, "boxes": BOX + 100}, "box 1, [103, 104, 120, 125], lies wholly outside"),
        ({"imgs": GREY, "boxes": -BOX}, "lies wholly outside the image of shape (30, 40)"),
        ({"imgs": VOLUME, "boxes": BOX_3D + np.array([0, 0, 9, 0, 0, 9])}, "wholly outside"),
        ({"imgs": GREY, "boxes": np.tile(BOX, (65536, 1))}, "65536 boxes; labels end at 65535"),
        ({"imgs": GREY, "boxes": BOX == 3}, "type bool; expected numbers"),
    ],
)
def test_what_does_not_fit_is_told_with_what_was_expected(tmp_path, arrays, words):
    assert words in _refusal(_write(tmp_path / "c.npz", **arrays))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"imgs": GREY, "boxes": BOX}, "no array 'gts' (it has: boxes, imgs)"),
        ({"imgs": GREY, "gts": GREY * 0.5}, "expected whole numbers"),
        ({"imgs": GREY, "gts": GREY[0]}, "shape (40,)"),
        ({"imgs": GREY, "gts": GREY.astype(int) - 1}, "from -1 to 254; expected 0 to 65535"),
        ({"imgs": VOLUME, "gts": VOLUME[1:]}, "they must agree"),
        ({"imgs": VOLUME, "gts": GREY}, "(H, W, 3) or (H, W)"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, arrays, words):
    assert words in _refusal(_write(tmp_path / "c.npz", **arrays), "gt")


def test_files_that_are_no_npz(tmp_path):
    good = _write(tmp_path / "good.npz", imgs=COLOUR, boxes=BOX).read_bytes()
    wrong = {
        "empty": (b"", "0 bytes"),
        "text": (b"imgs,boxes\n1,2\n", "no intact npz file"),
        "cut": (good[: len(good) // 2], "no intact npz file"),
        "cut_by_one": (good[:-1], "no intact npz file"),
        "npy": (_npy(GREY), "no intact npz file"),
    }
    for name, (content, words) in wrong.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        message = _refusal(path)
        assert words in message and "savez_compressed" in message


def test_names_that_are_no_files(tmp_path):
    folder = tmp_path / "folder.npz"
    folder.mkdir()
    assert "no file" in _refusal(folder)
    assert "no such file" in _refusal(tmp_path / "missing.npz")
    (tmp_path / "dangling.npz").symlink_to(tmp_path / "nothing")
    assert "no such file" in _refusal(tmp_path / "dangling.npz")
    (tmp_path / "loop.npz").symlink_to(tmp_path / "loop.npz")
    assert "cannot be read" in _refusal(tmp_path / "loop.npz")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    assert "no file" in _refusal(tmp_path / "pipe.npz")


class _Trap:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def _npy(array, **options) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def _zip(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("key", ["imgs", "boxes", "spacing"])
def test_nothing_is_ever_unpickled(tmp_path, key):
    sprung = tmp_path / "sprung"
    trap = np.empty(1, object)
    trap[0] = _Trap(sprung)
    members = {"imgs.npy": _npy(COLOUR), "boxes.npy": _npy(BOX)}
    as_array = members | {f"{key}.npy": _npy(trap, allow_pickle=True)}
    assert "Python objects, which are never unpickled" in _refusal(
        _zip(tmp_path / "array.npz", as_array)
    )
    bare = members | {f"{key}.npy": pickle.dumps(_Trap(sprung))}
    assert "no npy data" in _refusal(_zip(tmp_path / "bare.npz", bare))
    (tmp_path / "whole.npz").write_bytes(pickle.dumps(_Trap(sprung)))
    assert "no intact npz" in _refusal(tmp_path / "whole.npz")
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
        members = {"imgs.npy": _npy(GREY), "boxes.npy": _npy(BOX), f"{key}.npy": header + b"12345"}
        assert words in _refusal(_zip(tmp_path / f"{key}.npz", members))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    members = {"boxes.npy": _npy(BOX), "imgs.npy": _header("(4000000000,)") + b"\0" * (64 << 20)}
    path = _zip(tmp_path / "bomb.npz", members)
    assert path.stat().st_size < 1 << 20
    assert "the limit is 1 GiB" in _refusal(path)


def test_more_data_than_declared_is_not_unpacked(tmp_path):
    members = {"imgs.npy": _npy(GREY) + b"\0" * (64 << 20), "boxes.npy": _npy(BOX)}
    path = _zip(tmp_path / "c.npz", members)
    np.testing.assert_array_equal(read_case(path).image, GREY)


def test_a_bomb_in_an_arrays_header_is_not_unpacked(tmp_path):
    bomb = b"\x93NUMPY\x02\x00" + (64 << 20).to_bytes(4, "little") + b" " * (64 << 20)
    path = _zip(tmp_path / "c.npz", {"imgs.npy": bomb, "boxes.npy": _npy(BOX)})
    tracemalloc.start()
    message = _refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "header is said to take 67108864 bytes" in message
    assert peak < 8 << 20


def test_the_second_version_of_npy_is_read(tmp_path):
    image = io.BytesIO()
    np.lib.format.write_array(image, COLOUR, version=(2, 0))
    path = _zip(tmp_path / "c.npz", {"imgs.npy": image.getvalue(), "boxes.npy": _npy(BOX)})
    np.testing.assert_array_equal(read_case(path).image, COLOUR)


def test_a_flipped_bit_is_noticed(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    path = tmp_path / "c.npz"
    np.savez(path, imgs=image, boxes=BOX)
    content = bytearray(path.read_bytes())
    content[content.find(image.tobytes()) + 2000] ^= 4
    path.write_bytes(content)
    assert "CRC" in _refusal(path)


def test_a_message_never_grows_long_nor_breaks_the_line(tmp_path):
    members = {f"{'x' * 200}\n\x1b[31m{index}.npy": b"" for index in range(50)}
    message = _refusal(_zip(tmp_path / "c.npz", members))
    assert "no array 'imgs'" in message


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_in_other_compressions(tmp_path, method):
    path = tmp_path / "c.npz"
    image = np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)
    image[100:] = 0
    _zip(path, {"imgs.npy": _npy(image), "boxes.npy": _npy(BOX)}, method)
    np.testing.assert_array_equal(read_case(path).image, image)
    damaged = bytearray(path.read_bytes())
    damaged[15_000:15_500] = b"\xa5" * 500  # long past the array's header
    path.write_bytes(damaged)
    assert "no intact npz file" in _refusal(path)


def test_written_arrays_come_back_and_no_half_file_stays(tmp_path, monkeypatch):
    path = tmp_path / "new" / "c.npz"
    write_arrays(path, segs=GREY)
    with np.load(path) as file:
        assert list(file) == ["segs"]
        np.testing.assert_array_equal(file["segs"], GREY)

    def fail(stream, **_):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cases.np, "savez_compressed", fail)
    with pytest.raises(OSError):
        write_arrays(path, segs=COLOUR)
    assert [p.name for p in path.parent.iterdir()] == ["c.npz"]
    with np.load(path) as file:
        np.testing.assert_array_equal(file["segs"], GREY)
