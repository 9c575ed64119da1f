"""`litemedsam compare --pictures` with image files, as `segment` writes and reads them."""

import numpy as np
import SimpleITK as sitk

from litemedsam_jax.cli import main


def test_two_results_of_a_volume_file_are_drawn_beside_the_truth(tmp_path, capsys):
    truth = np.zeros((6, 40, 50), np.uint8)
    truth[1:5, 10:30, 10:30] = 1
    image = (truth * 100 + np.arange(50)).astype(np.int16)
    results = {"imgs": image, "gts": truth, "a": truth * 1, "b": np.roll(truth, 3, axis=2)}
    for name, array in results.items():
        (tmp_path / name).mkdir()
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / name / "ct.nii.gz"))
    folders = [str(tmp_path / name) for name in ("a", "b")]
    more = ["-g", tmp_path / "gts", "--images", tmp_path / "imgs", "--pictures", tmp_path / "drawn"]
    assert main([*folders, *map(str, more)], command="compare") == 0
    assert (tmp_path / "drawn" / "worst1_ct.png").stat().st_size > 1000
    assert "ct" in capsys.readouterr().out
