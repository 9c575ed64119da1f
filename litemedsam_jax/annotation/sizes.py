"""How large each label is."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from litemedsam_jax.annotation.document import Document
from litemedsam_jax.imaging.opened_image import OpenedImage


@dataclass(frozen=True)
class Size:
    """A label's size.

    Attributes:
        label: Its value.
        voxels: How many voxels, or pixels of a 2D image.
        ml: Its volume; None where the spacing is unknown, and for 2D images.
    """

    label: int
    voxels: int
    ml: float | None

    def to_json(self, flat: bool) -> dict[str, Any]:
        """As JSON holds it, with a `text` for people."""
        if not self.voxels:
            text = "empty"
        elif self.ml is not None:
            text = f"{self.ml:.3g} ml" if self.ml < 100 else f"{self.ml:.0f} ml"
        else:
            text = f"{self.voxels:,} {'pixels' if flat else 'voxels'}".replace(",", "\u202f")
        return {"label": self.label, "voxels": self.voxels, "ml": self.ml, "text": text}


def sizes(image: OpenedImage, document: Document) -> list[Size]:
    """The size of every label of a document."""
    counts = np.zeros(1 << 16, np.int64)
    for plane in document.voxels:  # as a whole NumPy would make 8 bytes of every voxel
        if not plane.any():
            counts[0] += plane.size
            continue
        pixels = np.bincount(plane.ravel())
        counts[: pixels.size] += pixels
    voxel = None
    if image.spacing is not None and not image.flat:
        voxel = float(np.prod(image.spacing)) / 1000
    return [
        Size(label, int(counts[label]), None if voxel is None else int(counts[label]) * voxel)
        for label in document.labels
    ]
