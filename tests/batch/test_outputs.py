"""Cases whose files would overwrite one another's, or an original: refused before anything runs."""

import dataclasses
from pathlib import Path

import pytest

from litemedsam_jax.batch.one_case import BatchOptions
from litemedsam_jax.batch.outputs import conflicts
from litemedsam_jax.imaging.image_case import FileOptions


@pytest.fixture
def options(tmp_path) -> BatchOptions:
    for name in ("imgs", "boxes"):
        (tmp_path / name).mkdir()
    files = FileOptions(tmp_path / "boxes")
    return BatchOptions(tmp_path / "imgs", tmp_path / "segs", tmp_path / "weights", files=files)


def _cases(options, *names: str) -> list[Path]:
    paths = [options.inputs / name for name in names]
    for path in paths:
        if path.suffix:
            path.touch()
        else:
            path.mkdir()
            (path / "1.dcm").write_bytes(bytes(128) + b"DICM")
    return paths


@pytest.mark.parametrize(
    ("names", "failing"),
    [
        (["a.png", "a.jpg", "b.png"], ["a.png", "a.jpg"]),
        (["a.mha", "a.mhd"], ["a.mha", "a.mhd"]),
        (["a.nrrd", "a.nhdr"], ["a.nrrd", "a.nhdr"]),
        (["a", "a.nii.gz"], ["a", "a.nii.gz"]),
        (["a.dcm", "a.nii.gz"], ["a.dcm", "a.nii.gz"]),
        (["a.bmp", "A.tif", "A2.png"], ["a.bmp", "A.tif"]),
        (["e\u0301.png", "\u00e9.jpg"], ["e\u0301.png", "\u00e9.jpg"]),  # one name on macOS
        (["a.nii.gz", "a.png", "a.npz"], []),
    ],
)
def test_masks_of_one_name(options, names, failing):
    paths = _cases(options, *names)
    reasons = conflicts(paths, options)
    assert sorted(path.name for path in reasons) == sorted(failing)
    for reason in reasons.values():
        assert all(name in reason for name in failing) and "rename one of them" in reason


def test_overlays_of_one_name(options, tmp_path):
    paths = _cases(options, "a.nii.gz", "a.png", "b.png")
    drawn = dataclasses.replace(options, overlays=tmp_path / "drawn")
    assert [path.name for path in conflicts(paths, drawn)] == ["a.nii.gz", "a.png"]
    same = dataclasses.replace(options, overlays=options.outputs)
    assert "give another --overlay" in conflicts(paths[2:], same)[paths[2]]


def test_originals_are_never_written_to(options):
    paths = _cases(options, "a.jpg", "b.nii.gz")
    (options.files.boxes / "a.png").touch()
    beside = dataclasses.replace(options, outputs=options.files.boxes)
    assert "is an original, which the masks would replace" in conflicts(paths, beside)[paths[0]]
    into = dataclasses.replace(options, outputs=options.inputs)
    assert "is an original, which the masks would replace" in conflicts(paths, into)[paths[1]]
