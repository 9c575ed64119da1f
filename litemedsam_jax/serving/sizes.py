"""Sizes of labels in a sentence's worth of text."""

from typing import Any

from litemedsam_jax.imaging.opened_image import OpenedImage


def describe(image: OpenedImage, label: int, voxels: int) -> dict[str, Any]:
    """A label's size.

    Returns:
        `label`, `voxels`, `ml` (volumes whose spacing is known, else None) and `text`.
    """
    ml = None
    if image.spacing is not None and not image.flat:
        x, y, z = image.spacing
        ml = voxels * x * y * z / 1000
    if not voxels:
        text = "empty"
    elif ml is not None:
        text = f"{ml:.3g} ml" if ml < 100 else f"{ml:.0f} ml"
    else:
        text = f"{voxels:,} {'pixels' if image.flat else 'voxels'}".replace(",", "\u202f")
    return {"label": label, "voxels": voxels, "ml": ml, "text": text}
