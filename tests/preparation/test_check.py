"""What is wrong with a case."""

import numpy as np

from litemedsam_jax.cli import main


def test_check_names_each_fault(tmp_path, capsys):
    image, box = np.zeros((20, 30, 3), np.uint8), np.array([[1, 2, 10, 12]])
    image[0, 0] = 255
    cases = {
        "2DBox_good": {"imgs": image, "boxes": box},
        "2DBox_nan": {"imgs": np.full((20, 30, 3), np.nan), "boxes": box},
        "2DBox_bool": {"imgs": image > 0, "boxes": box},
        "2DBox_far": {"imgs": image, "boxes": box + 25},
        "2DBox_none": {"imgs": image},
        "3DBox_flat": {"imgs": image, "boxes": box},
        "3DBox_bare": {"imgs": image[..., 0][None], "boxes": np.array([[1, 2, 0, 10, 12, 0]])},
    }
    for name, arrays in cases.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
    (tmp_path / "2DBox_zero.npz").write_bytes(b"")
    assert main(["check", str(tmp_path), "-num_workers", "1"]) == 1
    told = {
        line.split(": ")[0].split("/")[-1]: line for line in capsys.readouterr().out.split("\n")
    }
    for name, words in {
        "2DBox_nan": "without NaN",
        "2DBox_bool": "times 255",
        "2DBox_far": "reaches out of the image",
        "2DBox_none": "neither boxes nor gts",
        "3DBox_flat": "its name begins with 3D",
        "3DBox_bare": "has no spacing",
        "2DBox_zero": "it is empty (0 bytes)",
    }.items():
        assert words in told[f"{name}.npz"]
    assert "2DBox_good.npz" not in told
    assert main(["check", f"{tmp_path}/none"]) == 2
