"""The boxes on other slices that belong to the same object as a box which is propagated."""

from litemedsam_jax.annotation.document import Document
from litemedsam_jax.annotation.layers import Layer

SHARED = 0.5  # of the smaller of two boxes, which the other one has to cover


def guides(document: Document, layer: Layer) -> list[Layer]:
    """Boxes of the same label on other slices, at most one a slice, in the order of slices.

    A label may have several objects, so a box counts only if it and the propagated box, laid on
    each other, share half of the smaller one. Of several on a slice, the one that shares most.

    Args:
        document: What is edited.
        layer: The box that is propagated, with its slice.
    """
    ends = document.ranges.get(layer.label)
    most: dict[int, tuple[float, Layer]] = {}
    for other in document.layers:
        if other.label != layer.label or not other.adds or other.box is None:
            continue
        if other.slice is None or other.slice == layer.slice:
            continue
        if ends is not None and not ends[0] <= other.slice <= ends[1]:
            continue
        shared = _shared(layer, other)
        if shared >= SHARED and shared > most.get(other.slice, (0.0, None))[0]:
            most[other.slice] = (shared, other)
    return [most[index][1] for index in sorted(most)]


def _shared(one: Layer, other: Layer) -> float:
    """The part of the smaller box that both cover."""
    assert one.box is not None and other.box is not None
    areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (one.box, other.box)]
    low = [max(one.box[k], other.box[k]) for k in (0, 1)]
    high = [min(one.box[k], other.box[k]) for k in (2, 3)]
    sides = [max(0.0, high[k] - low[k] + 1) for k in (0, 1)]
    return sides[0] * sides[1] / min(areas)
