"""The boxes with which inference asks for an object on a slice, from its true labels."""

from collections.abc import Sequence

import numpy as np

from litemedsam_jax.adaptation.cases import LabelledCase
from litemedsam_jax.imaging import ellipsoid_prior
from litemedsam_jax.imaging.boxes import boxes_of_labels

FLAT = [0, 1, 3, 4]  # of a box (6,), what a slice sees of it


def use_boxes(cases: Sequence[LabelledCase]) -> dict[tuple[str, int, int | None], np.ndarray]:
    """What volumes are prompted with, slice by slice; images have no such boxes.

    The whole object's box as a slice sees it, its ellipsoid's section there, and the object's own
    box on each neighbouring slice that has it: propagation comes from there.

    Args:
        cases: with boxes and labels.

    Returns:
        (case, label, slice) -> (K, 4) in image pixels, inclusive.
    """
    known: dict[tuple[str, int, int | None], np.ndarray] = {}
    for case in cases:
        if not case.is_volume:
            continue
        slices = [
            dict(zip(map(int, labels), boxes, strict=True))
            for boxes, labels in map(boxes_of_labels, case.gts)
        ]
        for label, box in zip(map(int, case.labels), case.boxes.astype(np.float64), strict=True):
            first, last = int(box[2]), int(box[5])
            distances = ellipsoid_prior.distances(first, last, len(case.gts))
            for z, distance in zip(range(first, last + 1), distances, strict=True):
                around = [slices[k].get(label) for k in (z - 1, z + 1) if 0 <= k < len(slices)]
                boxes = [box[FLAT], ellipsoid_prior.section(box[FLAT], distance)]
                boxes += [one for one in around if one is not None]
                known[case.name, label, z] = np.asarray(boxes, np.float64)
    return known
