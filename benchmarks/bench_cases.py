"""The cases of the benchmark, written into a folder as npz."""

import subprocess
import sys
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
DEMO = REPOSITORY / "demo" / "imgs"
ABDOMEN = REPOSITORY.parent / "shared" / "cases" / "imgs" / "3DBox_CT_totalseg_dicom.npz"


def write(name: str, folder: Path) -> Path:
    """One of CASES; written if it is not there."""
    kind = "3D" if "volume" in name else "2D"
    path = folder / f"{kind}Box_{name}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # In a process of its own: a child's peak memory, as the kernel tells it, begins with ours.
        subprocess.run([sys.executable, __file__, name, str(path)], check=True)
    return path


def _picture() -> dict[str, np.ndarray]:
    with np.load(DEMO / "2DBox_Fundus_retina.npz") as case:
        return {"imgs": case["imgs"], "boxes": case["boxes"]}


def _eight() -> dict[str, np.ndarray]:
    """Eight organs in 20 slices of 512x512: the shared abdomen, else demo slices in tiles."""
    if ABDOMEN.exists():
        with np.load(ABDOMEN) as case:
            return {name: case[name] for name in ("imgs", "boxes", "spacing")}
    with np.load(DEMO / "3DBox_MR_brain1_tumor.npz") as case:
        imgs, box = np.tile(case["imgs"][:20], (1, 2, 2)), case["boxes"][0]
    corners = [(0, 0), (256, 0), (0, 256), (256, 256)]
    boxes = [
        (box[0] + x - grow, box[1] + y - grow, 0, box[3] + x + grow, box[4] + y + grow, 19)
        for grow in (0, 25)
        for x, y in corners
    ]
    return {"imgs": imgs, "boxes": np.array(boxes), "spacing": np.ones(3)}


def _one() -> dict[str, np.ndarray]:
    case = _eight()
    return case | {"boxes": case["boxes"][:1]}


def _large_volume() -> dict[str, np.ndarray]:
    """600 slices; 18 boxes of 3 slices, and two of 200 whose embeddings overlap by 99."""
    source = _eight()
    imgs = np.concatenate([np.roll(source["imgs"], 3 * k, axis=2) for k in range(30)])[:600]
    box = source["boxes"][0]
    ranges = [(0, 199), (100, 299), *((310 + 16 * k, 312 + 16 * k) for k in range(18))]
    boxes = [(*box[:2], low, *box[3:5], high) for low, high in ranges]
    return {"imgs": imgs, "boxes": np.array(boxes), "spacing": np.ones(3)}


def _large_picture() -> dict[str, np.ndarray]:
    """3000x4000 of microscope tiles, 241 boxes of some 250 pixels."""
    with np.load(DEMO / "2DBox_Microscope_dsb2018_crop256.npz") as case:
        tile = case["imgs"]
    large = tile.repeat(4, axis=0).repeat(4, axis=1)
    rng = np.random.default_rng(0)
    low = rng.integers(0, (3700, 2700), (241, 2))
    boxes = np.concatenate([low, low + rng.integers(150, 300, (241, 2))], axis=1)
    return {"imgs": np.tile(large, (3, 4, 1))[:3000, :4000], "boxes": boxes}


CASES = {
    "picture": _picture,
    "volume_1_box": _one,
    "volume_8_boxes": _eight,
    "large_volume": _large_volume,
    "large_picture": _large_picture,
}


def encoder_passes(path: Path) -> int:
    """How often the reference's algorithm runs the encoder on a volume."""
    with np.load(path) as case:
        boxes = case["boxes"]
    return int((boxes[:, 5] - boxes[:, 2] + 1).sum())


if __name__ == "__main__":
    np.savez_compressed(sys.argv[2], **CASES[sys.argv[1]]())
