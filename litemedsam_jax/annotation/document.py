"""The masks of one case: labels, layers, and the label map that they add up to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from litemedsam_jax.annotation.layers import Label, Layer, default_label
from litemedsam_jax.annotation.run_lengths import Patch

Region = tuple[slice, slice]  # rows and columns of a slice


class Document:
    """Labels and layers of a case; `voxels` is kept in step with them.

    Attributes:
        shape: (D, H, W); a 2D image has one slice.
        labels: By value, in the order in which they are listed.
        layers: In the order in which they apply.
        voxels: (D, H, W), the label map.
        ranges: First and last slice of a label's object, where the user has said.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        initial: np.ndarray | None = None,
        labels: Iterable[Label] = (),
    ):
        """initial: (D, H, W) labels that were there before; kept, not copied."""
        self.shape = shape
        self._initial = initial
        dtype = np.uint8 if initial is None else initial.dtype
        self.voxels = np.zeros(shape, dtype) if initial is None else initial.copy()
        self.labels: dict[int, Label] = {label.value: label for label in labels}
        if initial is not None:
            for value in np.unique(initial[initial > 0]).tolist():
                self.labels.setdefault(value, default_label(value))
        self.layers: list[Layer] = []
        self.ranges: dict[int, tuple[int, int]] = {}

    def layer(self, number: int) -> Layer:
        """The layer of that number; raises ValueError."""
        return self.layers[self.position(number)]

    def position(self, number: int) -> int:
        """Where the layer stands in the order; raises ValueError."""
        for index, layer in enumerate(self.layers):
            if layer.number == number:
                return index
        raise ValueError("that box or step is not there any more")

    def label(self, value: int) -> Label:
        """The label of that value; raises ValueError."""
        if value not in self.labels:
            raise ValueError(f"there is no label {value}")
        return self.labels[value]

    def locked(self) -> frozenset[int]:
        """The values of the labels that are locked."""
        return frozenset(value for value, label in self.labels.items() if label.locked)

    def next_number(self) -> int:
        """A number that no layer has."""
        return max((layer.number for layer in self.layers), default=0) + 1

    def compose(self, z: int, region: Region, layers: Sequence[Layer] | None = None) -> np.ndarray:
        """What the layers add up to in a part of a slice.

        Args:
            z: The slice.
            region: Its rows and columns.
            layers: Other ones than the document's own, to try something.
        """
        rows, columns = region
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if self._initial is None:
            part = np.zeros((height, width), self.voxels.dtype)
        else:
            part = self._initial[z, rows, columns].copy()
            part[~np.isin(part, [0, *self.labels])] = 0
        for layer in self.layers if layers is None else layers:
            patch = layer.masks.get(z)
            if patch is not None and layer.label in self.labels:
                _apply(part, layer, patch, region)
        return part

    def with_layer(self, layer: Layer) -> list[Layer]:
        """The layers with this one added, or in the place of the one that has its number."""
        layers = list(self.layers)
        for index, known in enumerate(layers):
            if known.number == layer.number:
                layers[index] = layer
                return layers
        return [*layers, layer]

    def extended(self, number: int, masks: Mapping[int, Patch], final: bool) -> Layer:
        """A layer with masks of more slices; not final: as previews."""
        layer = self.layer(number)
        previews = layer.previews - masks.keys() if final else layer.previews | masks.keys()
        return replace(layer, masks={**layer.masks, **masks}, previews=previews)

    def recompose(self, changed: dict[int, Region]) -> None:
        """Brings `voxels` in step where layers have changed."""
        for z, (rows, columns) in changed.items():
            self.voxels[z, rows, columns] = self.compose(z, (rows, columns))

    def whole(self) -> dict[int, Region]:
        """Every slice, to recompose."""
        region = slice(0, self.shape[1]), slice(0, self.shape[2])
        return dict.fromkeys(range(self.shape[0]), region)

    def describe(self) -> dict[str, Any]:
        """Labels and layers without their masks, as JSON holds them."""
        return {
            "labels": [label.to_json() for label in self.labels.values()],
            "layers": [layer.describe() for layer in self.layers],
            "ranges": {str(value): list(ends) for value, ends in self.ranges.items()},
        }


def regions_of(*layers: Layer) -> dict[int, Region]:
    """Where layers may have changed something, by slice."""
    regions: dict[int, Region] = {}
    for layer in layers:
        for z, patch in layer.masks.items():
            if patch.width:
                own = patch.rows, patch.columns
                regions[z] = union(regions[z], own) if z in regions else own
    return regions


def union(first: Region, second: Region) -> Region:
    """The smallest region that holds both."""
    rows, columns = (
        slice(min(a.start, b.start), max(a.stop, b.stop))
        for a, b in zip(first, second, strict=True)
    )
    return rows, columns


def _apply(part: np.ndarray, layer: Layer, patch: Patch, region: Region) -> None:
    rows, columns = region
    top, bottom = max(rows.start, patch.y), min(rows.stop, patch.y + patch.height)
    left, right = max(columns.start, patch.x), min(columns.stop, patch.x + patch.width)
    if top >= bottom or left >= right:
        return
    mask = patch.array()[top - patch.y : bottom - patch.y, left - patch.x : right - patch.x] > 0
    target = part[
        top - rows.start : bottom - rows.start, left - columns.start : right - columns.start
    ]
    if layer.adds:
        if layer.protects:
            mask = mask & ~np.isin(target, list(layer.protects - {layer.label}))
        target[mask] = layer.label
    else:
        target[mask & (target == layer.label)] = 0
