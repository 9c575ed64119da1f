"""Folders of masks: pairing, faults of single files, several processes."""

import numpy as np
import pytest

from litemedsam_jax.evaluation import tables
from litemedsam_jax.evaluation.folders import ScoreOptions, find_pairs, score_pairs
from litemedsam_jax.imaging import volumes
from litemedsam_jax.imaging.geometry import Geometry


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


def _volume(path, labels, origin=(0.0, 0.0, 0.0), direction=(1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    geometry = Geometry(labels.shape[::-1], (1.0, 1.0, 5.0), origin, direction)
    volumes.write_volume(path, labels, geometry)


@pytest.fixture
def block():
    """A label that lies in both halves of a volume of 8x64x64 voxels."""
    labels = np.zeros((8, 64, 64), np.uint8)
    labels[2:6, 20:40, 30:50] = 1
    return labels


@pytest.mark.parametrize("cut_masks", [True, False])
def test_masks_and_truth_of_different_extents_are_refused(tmp_path, block, cut_masks):
    # On the smaller grid alone the masks would be perfect, and what lies outside lost: DSC 0.71.
    whole, part = ("g", "s") if cut_masks else ("s", "g")
    _volume(tmp_path / whole / "a.nii.gz", block)
    _volume(tmp_path / part / "a.nii.gz", np.ascontiguousarray(block[:, :, :41]))
    scores = score_pairs(find_pairs(tmp_path / "s", tmp_path / "g")[0], ScoreOptions())
    assert not scores.cases
    assert "do not cover the same part of space" in scores.failed["a"]
    assert "41 x 64 x 8" in scores.failed["a"] and "64 x 64 x 8" in scores.failed["a"]


def test_flipped_masks_are_scored_where_they_lie(tmp_path, block):
    _volume(tmp_path / "g/a.nii.gz", block)
    flipped = np.ascontiguousarray(np.roll(block, 5, 2)[:, :, ::-1])
    direction = (-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
    _volume(tmp_path / "s/a.nii.gz", flipped, (63.0, 0.0, 0.0), direction)
    scores = score_pairs(find_pairs(tmp_path / "s", tmp_path / "g")[0], ScoreOptions())
    assert scores.cases["a"].dsc == 0.75  # moved by 5 of 20 columns


def test_an_npz_with_a_grid_is_compared_in_space_and_one_without_says_so(tmp_path, block):
    (tmp_path / "g").mkdir()
    flipped = np.ascontiguousarray(block[:, :, ::-1])
    direction = (-1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0)
    _volume(tmp_path / "s/a.nii.gz", flipped, (63.0, 0.0, 0.0), direction)
    grid = {"spacing": np.array([1.0, 1, 5]), "origin": np.zeros(3), "direction": np.eye(3).ravel()}
    np.savez(tmp_path / "g/a.npz", gts=block, **grid)
    pairs, _ = find_pairs(tmp_path / "s", tmp_path / "g")
    assert score_pairs(pairs, ScoreOptions()).cases["a.npz"].dsc == 1
    np.savez(tmp_path / "g/a.npz", gts=block, spacing=grid["spacing"])
    score = score_pairs(pairs, ScoreOptions()).cases["a.npz"]
    assert score.dsc < 1 and "compared index by index: a.npz" in score.notes[0]


def test_of_several_candidates_none_is_taken(folders):
    segs, gts = folders
    np.savez(gts / "2D_US_a_mask.npz", gts=np.ones((20, 20), np.uint8))
    np.savez(segs / "2D_US_b_seg.npz", segs=np.ones((20, 20), np.uint8))
    (segs / "3D_CT_c.npz").rename(segs / "3D_CT_c_seg.npz")
    np.savez(segs / "3D_CT_c_mask.npz", segs=np.ones((4, 20, 20), np.uint8))
    pairs, failed = find_pairs(segs, gts)
    assert [(p.seg.name, p.gt.name) for p in pairs] == [("2D_US_b.npz", "2D_US_b.npz")]
    truth = failed["2D_US_a.npz"]
    assert truth == failed["2D_US_a_mask.npz"]
    assert "2 files may be its ground truth (2D_US_a.npz, 2D_US_a_mask.npz)" in truth
    assert "may be its masks (3D_CT_c_mask.npz, 3D_CT_c_seg.npz)" in failed["3D_CT_c.npz"]


def test_a_dicom_seg_is_scored_against_whole_volumes(tmp_path, series, organs):
    from litemedsam_jax.imaging.dicom_seg import write_dicom_seg

    folder = series(tmp_path / "ct")
    grid = volumes.read_volume(folder).geometry
    segs = np.where(organs == 2, 0, organs).astype(np.uint8)  # ends before the truth does
    half = segs.copy()
    half[6:] = 0
    for name, labels in (("truth", organs), ("segs", segs), ("half", half)):
        write_dicom_seg(folder, labels, tmp_path / f"{name}.dcm")
        volumes.write_volume(tmp_path / f"{name}.nii.gz", labels, grid)
    scores = {}
    for kinds in (("dcm", "dcm"), ("dcm", "nii.gz"), ("nii.gz", "dcm"), ("nii.gz", "nii.gz")):
        pairs, _ = find_pairs(tmp_path / f"half.{kinds[0]}", tmp_path / f"truth.{kinds[1]}")
        scored = score_pairs(pairs, ScoreOptions(corrected=True))
        assert not scored.failed
        scores[kinds] = [label.dsc for label in scored.cases["truth"].labels]
    assert scores["nii.gz", "nii.gz"] == pytest.approx([2 / 3, 0, 2 / 3], abs=1e-3)
    for found in scores.values():
        assert found == scores["nii.gz", "nii.gz"]


def test_a_dicom_seg_of_another_part_of_space_is_refused(tmp_path, series, organs):
    from litemedsam_jax.imaging.dicom_seg import write_dicom_seg

    folder = series(tmp_path / "ct")
    grid = volumes.read_volume(folder).geometry
    write_dicom_seg(folder, organs, tmp_path / "masks.dcm")
    upper = Geometry(
        (*grid.size[:2], 5), grid.spacing, (*grid.origin[:2], grid.origin[2] + 7 * 2.5),
        grid.direction,
    )  # fmt: skip
    volumes.write_volume(tmp_path / "truth.nii.gz", organs[7:], upper)
    pairs, _ = find_pairs(tmp_path / "masks.dcm", tmp_path / "truth.nii.gz")
    scored = score_pairs(pairs, ScoreOptions())
    assert "do not cover the same part of space" in scored.failed["truth"]
