"""MHA and MHD: truncated files and damaged headers, without a word from ITK."""

import numpy as np
import pytest
import SimpleITK as sitk

from litemedsam_jax.imaging import volumes


@pytest.mark.parametrize("packed", [False, True])
def test_a_truncated_mha_is_called_so_and_nothing_is_printed(tmp_path, capfd, packed):
    array = np.random.default_rng(0).integers(0, 99, (4, 20, 30)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "x.mha"), packed)
    whole = (tmp_path / "x.mha").read_bytes()
    (tmp_path / "x.mha").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ValueError, match=r"x\.mha: is truncated \(\d+ of \d+ bytes of values\)"):
        volumes.read_volume(tmp_path / "x.mha")
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "y.mhd"))
    (tmp_path / "y.raw").unlink()
    with pytest.raises(ValueError, match=r"its values, y\.raw, do not lie beside it"):
        volumes.read_volume(tmp_path / "y.mhd")
    (tmp_path / "z.mha").write_text("nothing")
    with pytest.raises(ValueError, match=r"z\.mha: cannot be read as a volume"):
        volumes.read_volume(tmp_path / "z.mha")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("NDims = 3", "NDims = 83", "NDims is 83"),  # memory is overwritten by MetaIO
        ("DimSize = 30 20 4", "DimSize = 30 20", "DimSize is 30 20, expected 3 numbers"),
        ("DimSize = 30 20 4", "DimSize = 30 20 -4", "DimSize is"),
        ("DimSize = 30 20 4", "DimSize = 30 20 400000000", "is truncated"),
        ("Offset = 0 0 0", "Offset = 0 0 nan", "Offset is 0 0 nan"),
        ("ElementSpacing = 1 1 1", "ElementSpacing = 1 1 1 1", "expected 3 numbers"),
        ("ElementType = MET_SHORT", "ElementType = MET_WORD", "ElementType is MET_WORD"),
        ("ElementType = MET_SHORT", "ElementType =", "it lacks ElementType"),
        ("ObjectType = Image", "x" * 500 + " = 1", "a line of it is no"),
    ],
)
def test_a_damaged_header_is_refused_before_itk_sees_it(tmp_path, capfd, old, new, words):
    image = sitk.GetImageFromArray(np.zeros((4, 20, 30), np.int16))
    sitk.WriteImage(image, str(tmp_path / "x.mha"))
    whole = (tmp_path / "x.mha").read_bytes()
    assert old.encode() in whole
    (tmp_path / "x.mha").write_bytes(whole.replace(old.encode(), new.encode()))
    with pytest.raises(ValueError, match=words):
        volumes.read_volume(tmp_path / "x.mha")
    assert capfd.readouterr().err == ""
