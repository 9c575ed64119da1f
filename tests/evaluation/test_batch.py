"""Folders of masks: pairing, faults of single files, several processes."""

import numpy as np
import pytest

from litemedsam_jax.evaluation import tables
from litemedsam_jax.evaluation.batch import ScoreOptions, find_pairs, score_pairs


@pytest.fixture
def folders(tmp_path):
    """Three good pairs of npz in `segs` and `gts`."""
    for folder in ("segs", "gts"):
        (tmp_path / folder).mkdir()
    for i, name in enumerate(("2D_US_a", "2D_US_b", "3D_CT_c")):
        gts = np.zeros((4, 20, 20) if name[0] == "3" else (20, 20), np.uint8)
        gts[..., 5:15, 5:15] = 1
        np.savez_compressed(tmp_path / f"gts/{name}.npz", gts=gts, spacing=np.ones(3))
        np.savez_compressed(tmp_path / f"segs/{name}.npz", segs=np.roll(gts, i, -1))
    return tmp_path / "segs", tmp_path / "gts"


def test_processes_give_the_same_table(folders):
    pairs, missing = find_pairs(*folders)
    assert not missing
    alone = score_pairs(pairs, ScoreOptions(), workers=1)
    together = score_pairs(pairs, ScoreOptions(), workers=2)
    columns = ["dsc", "nsd"]
    assert tables.case_rows(alone.cases, columns) == tables.case_rows(together.cases, columns)
    assert list(alone.cases) == ["2D_US_a.npz", "2D_US_b.npz", "3D_CT_c.npz"]


def test_one_bad_file_leaves_the_others_scored(folders):
    segs, gts = folders
    (segs / "2D_US_a.npz").write_bytes(b"PK no zip")
    np.savez(segs / "2D_US_b.npz", segs=np.array([{"a": 1}], object))
    np.savez(gts / "3D_CT_d.npz", gts=np.ones((2, 3, 4), np.uint8))
    pairs, missing = find_pairs(segs, gts)
    scores = score_pairs(pairs, ScoreOptions())
    assert list(scores.cases) == ["3D_CT_c.npz"]
    assert "no intact npz" in scores.failed["2D_US_a.npz"]
    assert "never unpickled" in scores.failed["2D_US_b.npz"]
    assert "holds no masks for it" in missing["3D_CT_d.npz"]


def test_masks_of_another_size_are_told(folders):
    segs, gts = folders
    np.savez(segs / "2D_US_a.npz", segs=np.zeros((10, 10), np.uint8))
    scores = score_pairs(find_pairs(segs, gts)[0], ScoreOptions())
    assert "10x10 but the ground truth is 20x20" in scores.failed["2D_US_a.npz"]


def test_kinds_and_endings_may_differ(folders, tmp_path):
    import cv2

    labels = np.zeros((20, 20), np.uint8)
    labels[2:9, 2:9] = 3
    (tmp_path / "png").mkdir()
    cv2.imwrite(str(tmp_path / "png/x_mask.png"), labels)
    np.savez(folders[0] / "x.npz", segs=labels)
    pairs, _ = find_pairs(folders[0], tmp_path / "png")
    scores = score_pairs(pairs, ScoreOptions(corrected=True))
    assert [label.label for label in scores.cases["x_mask"].labels] == [3]


def test_no_truth_at_all_is_told(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no ground truth"):
        find_pairs(folders[0], tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="there is no such"):
        find_pairs(folders[0], tmp_path / "nowhere")


def test_summary_by_modality_ends_with_all(folders):
    scores = score_pairs(find_pairs(*folders)[0], ScoreOptions()).cases
    rows = tables.summary_rows(scores, ["dsc"])
    assert [list(row[:2]) for row in rows] == [["CT", 1], ["US", 2], ["all", 3]]
    text = tables.as_text(tables.summary_header(["dsc"]), rows)
    assert len({len(line) for line in text.splitlines()}) == 1
