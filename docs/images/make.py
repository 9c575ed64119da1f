"""Makes the README's images from two demo cases: `python docs/images/make.py`."""

from pathlib import Path

import cv2
import numpy as np

from litemedsam_jax import LiteMedSAM
from litemedsam_jax.drawing import animation, overlay
from litemedsam_jax.imaging.case import read_case

FOLDER = Path(__file__).parent
CASES = FOLDER.parents[1] / "demo" / "imgs"


def main() -> None:
    """Writes cells.jpg and brain.gif beside this file."""
    model = LiteMedSAM.from_pretrained(device="cpu")
    cells = read_case(CASES / "2DBox_Microscope_dsb2018_crop256.npz")
    segs = model.segment_image(cells.image, cells.boxes, "best")
    overlay.write_overlay(FOLDER / "cells.jpg", cells.image, cells.boxes, segs)
    brain = read_case(CASES / "3DBox_MR_brain1_tumor.npz")
    segs = model.segment_volume(brain.image, brain.boxes, "best")
    reached = np.flatnonzero(segs.any((1, 2)))
    shown = range(reached[0] - 1, reached[-1] + 2)
    frames = list(animation.scroll(brain.image, brain.boxes, segs, brain.spacing))
    size = [side * 3 // 4 for side in frames[0].shape[1::-1]]
    small = (cv2.resize(frames[z], size, interpolation=cv2.INTER_AREA) for z in shown)
    animation.write_scroll(FOLDER / "brain.gif", small, per_second=3)


if __name__ == "__main__":
    main()
