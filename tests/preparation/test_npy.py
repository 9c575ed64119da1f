"""Training npz as npy slices."""

import numpy as np
import pytest

from litemedsam_jax.cli import main
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.preparation.npy import npz_to_npy

IMAGE = np.arange(80, dtype=np.uint8).reshape(8, 10)


def test_labels_with_fractions_are_refused_and_whole_floats_kept(tmp_path):
    half = np.zeros((8, 10), np.float32)
    half[2:5, 2:5] = 0.5
    np.savez(tmp_path / "half.npz", imgs=IMAGE, gts=half)
    with pytest.raises(CaseError, match=r"half\.npz: gts: float32 8x10, with fractions"):
        npz_to_npy(tmp_path / "half.npz", tmp_path / "npy")
    assert not (tmp_path / "npy").exists()
    np.savez(tmp_path / "whole.npz", imgs=IMAGE, gts=half * 600)
    assert npz_to_npy(tmp_path / "whole.npz", tmp_path / "npy") == 1
    gts = np.load(tmp_path / "npy/gts/whole.npy")
    assert gts.dtype == np.uint16 and np.unique(gts).tolist() == [0, 300]


@pytest.mark.parametrize("gts", [np.full((8, 10), -1), np.full((8, 10), np.nan), IMAGE + 70_000.0])
def test_labels_out_of_range_are_refused(tmp_path, gts):
    np.savez(tmp_path / "a.npz", imgs=IMAGE, gts=gts)
    with pytest.raises(CaseError, match="expected"):
        npz_to_npy(tmp_path / "a.npz", tmp_path / "npy")


def test_npy_slices_compact_and_as_the_reference_writes_them(tmp_path):
    imgs = np.random.default_rng(0).integers(0, 255, (3, 8, 9), np.uint8)
    gts = np.zeros((3, 8, 9), np.uint8)
    gts[1, 2:5, 2:5] = 7
    (tmp_path / "npz/sub").mkdir(parents=True)
    np.savez(tmp_path / "npz/sub/CT_x.npz", imgs=imgs, gts=gts)
    np.savez(tmp_path / "npz/bad.npz", imgs=imgs[:2], gts=gts)
    base = ["npz-to-npy", "-npz_dir", f"{tmp_path}/npz", "-num_workers", "1", "-npy_dir"]
    assert main([*base, f"{tmp_path}/compact", "--skip-empty"]) == 1
    assert [p.name for p in (tmp_path / "compact/gts").iterdir()] == ["CT_x-001.npy"]
    assert main([*base, f"{tmp_path}/wide", "--dtype", "float64"]) == 1
    wide = np.load(tmp_path / "wide/imgs/CT_x-002.npy")
    low, high = int(imgs[2].min()), int(imgs[2].max())
    assert (wide.shape, wide.dtype) == ((8, 9, 3), np.float64)
    np.testing.assert_array_equal(wide[..., 1], (imgs[2] - low) / (high - low))
