"""What was done to the masks, one layer after the other; the label map is what they add up to."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from litemedsam_jax.annotation import run_lengths
from litemedsam_jax.annotation.run_lengths import Patch

# Okabe and Ito's palette, which colour-blind readers can tell; without black, on dark images.
PALETTE = (
    "#56B4E9", "#E69F00", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2", "#BBBBBB",
)  # fmt: skip
KINDS = ("box", "propagation", "paint", "fill", "largest", "interpolation", "clear", "loaded")
MAX_LABEL = 254  # a label image of 0 and 255 alone is read as white on black


@dataclass(frozen=True)
class Label:
    """One structure: its number in the label map, and how it is shown."""

    value: int
    name: str
    colour: str
    visible: bool = True
    locked: bool = False

    def to_json(self) -> dict[str, Any]:
        """What JSON holds of it."""
        return {
            "value": self.value,
            "name": self.name,
            "colour": self.colour,
            "visible": self.visible,
            "locked": self.locked,
        }

    @classmethod
    def from_json(cls, data: Any) -> "Label":
        """Reads what `to_json` made; raises ValueError."""
        if not isinstance(data, Mapping):
            raise ValueError("a label must be an object with value, name and colour")
        value = data.get("value")
        if not isinstance(value, int) or not 1 <= value <= MAX_LABEL:
            raise ValueError(f"a label's value must be a whole number from 1 to {MAX_LABEL}")
        name = " ".join(str(data.get("name", "")).split())[:100] or f"label {value}"
        colour = str(data.get("colour", ""))
        if not re.fullmatch("#[0-9a-fA-F]{6}", colour):
            colour = default_colour(value)
        flags = bool(data.get("visible", True)), bool(data.get("locked", False))
        return cls(value, name, colour, *flags)


def default_colour(value: int) -> str:
    """The palette's colour of a label, #RRGGBB."""
    return PALETTE[(value - 1) % len(PALETTE)]


def default_label(value: int) -> Label:
    """A label that nobody has named yet."""
    return Label(value, f"label {value}", default_colour(value))


@dataclass(frozen=True)
class Layer:
    """One step of the work: a mask that adds to a label, or takes away from it.

    Attributes:
        number: Names the layer for as long as the case is worked on.
        kind: One of `KINDS`.
        label: The label's value.
        adds: Whether the mask is added to the label, or taken away from it.
        masks: The mask by slice (native z); 1 where it is set.
        box: (4,) x_min, y_min, x_max, y_max, inclusive, where a box made it.
        slice: The native z of the box.
        threshold: The logit above which a pixel belongs to the mask.
        protects: Values of labels that were locked when it was made, and are not overwritten.
        previews: Slices whose masks a propagation that is under way may still replace or drop.
    """

    number: int
    kind: str
    label: int
    adds: bool
    masks: Mapping[int, Patch]
    box: tuple[float, float, float, float] | None = None
    slice: int | None = None
    threshold: float = 0.0
    protects: frozenset[int] = field(default_factory=frozenset)
    previews: frozenset[int] = field(default_factory=frozenset)

    def describe(self) -> dict[str, Any]:
        """All but the masks, as JSON holds it."""
        slices = sorted(self.masks)
        return {
            "number": self.number,
            "kind": self.kind,
            "label": self.label,
            "adds": self.adds,
            "box": None if self.box is None else list(self.box),
            "slice": self.slice,
            "threshold": self.threshold,
            "protects": sorted(self.protects),
            "first": slices[0] if slices else None,
            "last": slices[-1] if slices else None,
        }

    def to_json(self) -> dict[str, Any]:
        """What JSON holds of it."""
        masks = {str(z): patch.to_json() for z, patch in self.masks.items()}
        return {**self.describe(), "masks": masks, "previews": sorted(self.previews)}

    @classmethod
    def from_json(cls, data: Any, shape: tuple[int, int, int]) -> "Layer":
        """Reads what `to_json` made, for a volume of `shape` (D, H, W); raises ValueError."""
        try:
            box = data["box"]
            if data["kind"] not in KINDS:
                raise ValueError(f"there is no kind of layer '{data['kind']}'")
            return cls(
                number=int(data["number"]),
                kind=data["kind"],
                label=int(data["label"]),
                adds=bool(data["adds"]),
                masks=masks_from_json(data["masks"], shape),
                box=None if box is None else tuple(map(float, box)),  # type: ignore[arg-type]
                slice=None if data["slice"] is None else int(data["slice"]),
                threshold=float(data["threshold"]),
                protects=frozenset(map(int, data["protects"])),
                previews=frozenset(map(int, data["previews"])),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a layer is incomplete ({error})") from None


def masks_from_json(data: Any, shape: tuple[int, int, int]) -> dict[int, Patch]:
    """Masks by slice from {"z": patch}; raises ValueError."""
    if not isinstance(data, Mapping):
        raise ValueError("masks must be an object from slices to patches")
    masks = {}
    for key, patch in data.items():
        z = int(key)
        if not 0 <= z < shape[0]:
            raise ValueError(f"slice {z} is outside the {shape[0]} slices of the volume")
        masks[z] = run_lengths.from_json(patch, shape[1:])
    return masks
