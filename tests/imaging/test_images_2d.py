"""2D images as the network takes them."""

import cv2
import numpy as np
import pytest
from PIL import Image

from litemedsam_jax.imaging import images_2d
from litemedsam_jax.imaging.errors import CaseError


def test_pictures_become_rgb_bytes(tmp_path):
    grey = np.arange(0, 240, dtype=np.uint8).reshape(12, 20)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    np.testing.assert_array_equal(images_2d.read_image(tmp_path / "grey.png")[..., 2], grey)
    deep = grey.astype(np.uint16) * 100
    cv2.imwrite(str(tmp_path / "deep.tif"), deep)
    found = images_2d.read_image(tmp_path / "deep.tif")
    assert (found.min(), found.max(), found.dtype) == (0, 255, np.uint8)
    colour = np.dstack([grey, grey // 2, grey // 3])
    Image.fromarray(colour).save(tmp_path / "colour.png")
    np.testing.assert_array_equal(images_2d.read_image(tmp_path / "colour.png"), colour)
    opaque = np.dstack([colour, np.full_like(grey, 255)])
    Image.fromarray(opaque).save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(images_2d.read_image(tmp_path / "opaque.png"), colour)
    palette = Image.fromarray(colour).quantize(8)
    palette.save(tmp_path / "palette.png")
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(images_2d.read_image(tmp_path / "palette.png"), expected)


def test_pictures_that_cannot_be_used_are_told(tmp_path):
    small = np.zeros((4, 5, 4), np.uint8)
    Image.fromarray(small).save(tmp_path / "clear.png")
    Image.fromarray(small, "CMYK").save(tmp_path / "print.jpg")
    cv2.imwritemulti(str(tmp_path / "pages.tif"), [small[..., 0], small[..., 0]])
    cv2.imwrite(str(tmp_path / "nan.tif"), np.full((4, 5), np.nan, np.float32))
    (tmp_path / "text.png").write_text("no picture")
    good = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (50, 50), np.uint8))[1]
    (tmp_path / "short.png").write_bytes(good.tobytes()[:20])
    for name, words in {
        "clear.png": "partly transparent",
        "print.jpg": r"\(CMYK\); convert it to RGB",
        "pages.tif": "has 2 pages",
        "nan.tif": "NaN",
        "text.png": "is no image",
        "short.png": "cannot be read as an image",
        "none.png": "no such file",
    }.items():
        with pytest.raises((ValueError, FileNotFoundError), match=words):
            images_2d.read_image(tmp_path / name)


@pytest.fixture
def corner() -> np.ndarray:
    """Black with one bright corner block, 16 rows of 24 columns."""
    image = np.zeros((16, 24, 3), np.uint8)
    image[:8, :8] = 255
    return image


# Where the stored top left corner is shown, by the EXIF standard.
_SHOWN = {
    1: "top left", 2: "top right", 3: "bottom right", 4: "bottom left",
    5: "top left", 6: "top right", 7: "bottom right", 8: "bottom left",
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_and_said(tmp_path, corner, orientation, suffix):
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(corner).save(path, exif=exif)
    notes: list[str] = []
    image = images_2d.read_image(path, notes=notes)
    assert image.shape == ((24, 16, 3) if orientation > 4 else (16, 24, 3))
    rows, columns = _SHOWN[orientation].split()
    y, x = (2 if rows == "top" else -2), (2 if columns == "left" else -2)
    assert image[y, x].min() > 240 and image[-y, -x].max() < 16
    if suffix != "tif":  # whose readers have always turned it
        assert bool(notes) == (orientation > 1)


def test_a_phone_s_image_of_two_pages_is_its_first(tmp_path, corner):
    pages = [Image.fromarray(corner), Image.fromarray(255 - corner)]
    pages[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=pages[1:])
    notes: list[str] = []
    image = images_2d.read_image(tmp_path / "a.jpg", notes=notes)
    assert image[2, 2].min() > 240 and "phone's image of 2 pages" in notes[0]


def test_images_larger_than_pillow_allows_are_read_up_to_a_gibibyte(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(np.zeros((40, 30), np.uint8)).save(tmp_path / "a.png")
    assert images_2d.read_image(tmp_path / "a.png").shape == (40, 30, 3)
    assert Image.MAX_IMAGE_PIXELS == 100
    Image.new("1", (24_000, 16_000)).save(tmp_path / "b.png")  # 47 kB on disk
    with pytest.raises(CaseError, match=r"24000x16000 pixels, 1\.1 GiB as RGB; the limit is 1 GiB"):
        images_2d.read_image(tmp_path / "b.png")


def test_a_mask_drawn_on_the_stored_pixels_is_refused(tmp_path, corner):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(corner).save(tmp_path / "a.jpg", exif=exif)
    shape = images_2d.read_image(tmp_path / "a.jpg").shape
    with pytest.raises(CaseError, match=r"mask is 24x16 .* 16x24 .* EXIF orientation"):
        images_2d.check_same_size(np.zeros((16, 24)), shape, "m.png", tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
@pytest.mark.parametrize("share", [0.5, 0.99])
def test_files_that_were_cut_short_are_refused(tmp_path, suffix, share):
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    data = cv2.imencode(f".{suffix}", image)[1].tobytes()
    (tmp_path / f"a.{suffix}").write_bytes(data[: int(share * len(data))])
    with pytest.raises(CaseError):
        images_2d.read_image(tmp_path / f"a.{suffix}")
