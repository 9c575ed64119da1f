"""Masks back on the grid of their image."""

import numpy as np

from litemedsam_jax.cli import main


def test_masks_that_are_no_labels_are_not_exported(tmp_path, capsys):
    for name, value in (("half", 0.5), ("nan", np.nan)):
        np.savez(tmp_path / f"{name}.npz", segs=np.full((4, 5), value))
    assert main(["export", str(tmp_path), "-o", f"{tmp_path}/out"]) == 1
    told = capsys.readouterr().err
    assert told.count("expected whole numbers") == 2
    assert not (tmp_path / "out").exists()
