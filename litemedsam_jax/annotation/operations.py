"""What can be done to a document. Each operation gives the one that takes it back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from litemedsam_jax.annotation.document import Document, Region, regions_of
from litemedsam_jax.annotation.layers import Label, Layer, masks_from_json
from litemedsam_jax.annotation.run_lengths import Patch


@dataclass(frozen=True)
class PutLayer:
    """Adds a layer, or replaces the one of the same number.

    Attributes:
        layer: The layer.
        position: In the order of layers; None: where it was, or last.
    """

    layer: Layer
    position: int | None = None

    def apply(self, document: Document) -> tuple["Operation", dict[int, Region]]:
        """Does it; returns what takes it back, and where the label map changes."""
        numbers = [layer.number for layer in document.layers]
        if self.layer.number in numbers:
            index = numbers.index(self.layer.number)
            old = document.layers[index]
            document.layers[index] = self.layer
            return PutLayer(old), regions_of(old, self.layer)
        index = len(document.layers) if self.position is None else self.position
        document.layers.insert(index, self.layer)
        return DropLayer(self.layer.number), regions_of(self.layer)

    def to_json(self) -> dict[str, Any]:
        """What JSON holds of it."""
        return {"op": "put_layer", "layer": self.layer.to_json(), "position": self.position}


@dataclass(frozen=True)
class ExtendLayer:
    """Gives a layer masks of more slices: propagation, slice by slice.

    Attributes:
        number: Of the layer.
        masks: By slice.
        final: Whether they stay; False: they are previews.
    """

    number: int
    masks: Mapping[int, Patch]
    final: bool = True

    def apply(self, document: Document) -> tuple["Operation", dict[int, Region]]:
        """Does it; returns what takes it back, and where the label map changes."""
        old = document.layer(self.number)
        new = document.extended(self.number, self.masks, self.final)
        document.layers[document.position(self.number)] = new
        return PutLayer(old), {
            z: region for z, region in regions_of(old, new).items() if z in self.masks
        }

    def to_json(self) -> dict[str, Any]:
        """What JSON holds of it."""
        masks = {str(z): patch.to_json() for z, patch in self.masks.items()}
        return {
            "op": "extend_layer", "number": self.number, "masks": masks, "final": self.final,
        }  # fmt: skip


@dataclass(frozen=True)
class DropLayer:
    """Takes a layer out."""

    number: int

    def apply(self, document: Document) -> tuple["Operation", dict[int, Region]]:
        """Does it; returns what takes it back, and where the label map changes."""
        index = document.position(self.number)
        layer = document.layers.pop(index)
        return PutLayer(layer, index), regions_of(layer)

    def to_json(self) -> dict[str, Any]:
        """What JSON holds of it."""
        return {"op": "drop_layer", "number": self.number}


@dataclass(frozen=True)
class PutLabel:
    """Adds a label, or gives it another name, colour, lock or visibility."""

    label: Label

    def apply(self, document: Document) -> tuple["Operation", dict[int, Region]]:
        """Does it; returns what takes it back, and where the label map changes."""
        old = document.labels.get(self.label.value)
        document.labels[self.label.value] = self.label
        if old is not None:
            return PutLabel(old), {}
        return DropLabel(self.label.value), document.whole()

    def to_json(self) -> dict[str, Any]:
        """What JSON holds of it."""
        return {"op": "put_label", "label": self.label.to_json()}


@dataclass(frozen=True)
class DropLabel:
    """Takes a label out, and all that it has in the label map."""

    value: int

    def apply(self, document: Document) -> tuple["Operation", dict[int, Region]]:
        """Does it; returns what takes it back, and where the label map changes."""
        old = document.label(self.value)
        del document.labels[self.value]
        return PutLabel(old), document.whole()

    def to_json(self) -> dict[str, Any]:
        """What JSON holds of it."""
        return {"op": "drop_label", "value": self.value}


@dataclass(frozen=True)
class PutRange:
    """Says between which slices a label's object lies, or that nobody knows."""

    value: int
    ends: tuple[int, int] | None

    def apply(self, document: Document) -> tuple["Operation", dict[int, Region]]:
        """Does it; returns what takes it back, and where the label map changes."""
        old = document.ranges.pop(self.value, None)
        if self.ends is not None:
            document.ranges[self.value] = self.ends
        return PutRange(self.value, old), {}

    def to_json(self) -> dict[str, Any]:
        """What JSON holds of it."""
        ends = None if self.ends is None else list(self.ends)
        return {"op": "put_range", "value": self.value, "ends": ends}


Operation = PutLayer | ExtendLayer | DropLayer | PutLabel | DropLabel | PutRange


def from_json(data: Any, shape: tuple[int, int, int]) -> Operation:
    """Reads what an operation's `to_json` made, for a volume of `shape`; raises ValueError."""
    try:
        match data["op"]:
            case "put_layer":
                return PutLayer(Layer.from_json(data["layer"], shape), data["position"])
            case "extend_layer":
                masks = masks_from_json(data["masks"], shape)
                return ExtendLayer(data["number"], masks, data["final"])
            case "drop_layer":
                return DropLayer(data["number"])
            case "put_label":
                return PutLabel(Label.from_json(data["label"]))
            case "drop_label":
                return DropLabel(data["value"])
            case "put_range":
                ends = data["ends"]
                return PutRange(data["value"], None if ends is None else (ends[0], ends[1]))
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"an operation is incomplete ({error})") from None
    raise ValueError(f"there is no operation '{data['op']}'")
