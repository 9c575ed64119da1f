"""`infer.py` as people start it, network and all."""

import shutil
import subprocess
import sys

import numpy as np

from litemedsam_jax.imaging.case import read_case
from tests.conftest import REPOSITORY
from tests.support.batches import read_npz


def test_a_real_run_by_two_processes_on_pytorchs_own_file(tmp_path, published_pth, model):
    names = ["2DBox_Microscope_dsb2018_crop256", "3DBox_MR_breast1_tumor"]
    imgs, segs = tmp_path / "imgs", tmp_path / "segs"
    imgs.mkdir()
    for name in names:
        shutil.copy(REPOSITORY / "demo" / "imgs" / f"{name}.npz", imgs)
    (imgs / "bad.npz").write_bytes(b"")
    command = ["infer.py", "-i", imgs, "-o", segs, "-num_workers", "2", "--save_overlay"]
    command += ["-lite_medsam_checkpoint_path", published_pth, "-png_save_dir", tmp_path / "png"]
    run = subprocess.run(
        [sys.executable, *map(str, command)], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert run.returncode == 1, run.stderr
    assert "2 segmented, 1 failed" in run.stdout
    assert "failed: bad.npz: it is empty" in run.stderr.splitlines()[-1]
    assert sorted(p.stem for p in (tmp_path / "png").iterdir()) == names
    for name in names:
        case = read_case(imgs / f"{name}.npz")
        own = model.segment_volume if case.is_volume else model.segment_image
        np.testing.assert_array_equal(
            read_npz(segs / f"{name}.npz")["segs"], own(case.image, case.boxes)
        )
