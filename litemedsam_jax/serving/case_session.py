"""One case that is open: its image, its editor, and what the page needs of both."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from litemedsam_jax.annotation.diameters import diameters_json, drawn_part, measure
from litemedsam_jax.annotation.document import Document, Region, regions_of
from litemedsam_jax.annotation.editor import Editor
from litemedsam_jax.annotation.layers import Layer
from litemedsam_jax.annotation.run_lengths import Patch, encode, encode_cropped
from litemedsam_jax.annotation.sizes import sizes
from litemedsam_jax.drawing.planes import planes_of
from litemedsam_jax.imaging.opened_image import OpenedImage
from litemedsam_jax.serving import display
from litemedsam_jax.serving.slice_masks import SliceImage


@dataclass
class Propagation:
    """A propagation that is under way.

    Attributes:
        layer: Number of the box that is propagated; nothing else may change it meanwhile.
        label: The label's value.
        step: Of the history, that it is.
        stop: Set to end it after the slice that is under way.
    """

    layer: int
    label: int
    step: int | None
    stop: threading.Event = field(default_factory=threading.Event)


class CaseSession:
    """An open case. Use `lock` around whatever reads or changes the document."""

    def __init__(self, number: int, image: OpenedImage, editor: Editor, notes: Iterable[str] = ()):
        """notes: what was noticed when it was opened, for the user."""
        self.number, self.image, self.editor, self.notes = number, image, editor, list(notes)
        self.lock = threading.RLock()
        self.propagation: Propagation | None = None
        self.values = display.transported(image.values)
        self._network: np.ndarray | None = None
        self._network_lock = threading.Lock()

    @property
    def document(self) -> Document:
        """The masks and what they are made of."""
        return self.editor.document

    @property
    def bytes(self) -> int:
        """What the case takes in memory, about."""
        return self.values.nbytes + 2 * self.document.voxels.nbytes + self.image.values.nbytes

    def describe(self) -> dict[str, Any]:
        """All that the page needs to show the case."""
        image = self.image
        return {
            "id": self.number,
            "name": image.path.name,
            "shape": list(image.shape),
            "flat": image.flat,
            "colour": image.values.ndim == 4,
            "spacing": None if image.spacing is None else list(image.spacing),
            "unit": "HU" if image.is_ct else "",
            "values": display.describe(image),
            "planes": [_plane(p) for p in planes_of(image.direction, image.spacing)],
            "notes": self.notes,
            **self.state(),
        }

    def state(self) -> dict[str, Any]:
        """What editing changes: revision, labels, layers."""
        with self.lock:
            return {
                "revision": self.editor.revision,
                "can_undo": self.editor.can_undo,
                "can_redo": self.editor.can_redo,
                **self.document.describe(),
            }

    def slice_values(self, axis: int, index: int) -> np.ndarray:
        """The values of a slice, (rows, columns) or (rows, columns, 3)."""
        self._check_slice(axis, index)
        return np.ascontiguousarray(self.values.take(index, axis))

    def slice_labels(self, axis: int, index: int) -> tuple[int, Patch]:
        """The revision, and the label map of a slice, cropped."""
        self._check_slice(axis, index)
        with self.lock:
            patch = encode_cropped(self.document.voxels.take(index, axis))
            return self.editor.revision, patch

    def slice_image(self, z: int) -> SliceImage:
        """A native slice as the network takes it."""
        self._check_slice(0, z)
        return SliceImage((self.number, z), self.network_image(), self.image.flat)

    def network_image(self) -> np.ndarray:
        """The case as the network takes it, made when it is first asked for."""
        with self._network_lock:
            if self._network is None:
                self._network = self.image.network_image()
            return self._network

    def measurements(self) -> list[dict[str, Any]]:
        """Voxels, and volume or area, of each label, with a text for people."""
        with self.lock:
            label_sizes = sizes(self.image, self.document)
        return [size.to_json(self.image.flat) for size in label_sizes]

    def diameters(self) -> tuple[int, list[dict[str, Any]]]:
        """The revision, and RECIST's diameters of each label that is drawn."""
        with self.lock:
            revision = self.editor.revision
            part, first = drawn_part(self.document)
        measured = measure(self.image, part, first)  # may take a second, in nobody's way
        return revision, [diameters_json(self.image, one) for one in measured]

    def tried(self, z: int, layer: Layer) -> Patch:
        """The slice's labels as they would be with a layer, where it or its old form lies."""
        with self.lock:
            known = [old for old in self.document.layers if old.number == layer.number]
            region = _region_at(z, [*known, layer])
            if region is None:
                return encode(np.zeros((0, 0), np.uint8))
            part = self.document.compose(z, region, self.document.with_layer(layer))
            return encode(part, region[1].start, region[0].start)

    def refuse_propagating(self, layer: int | None) -> None:
        """Raises ValueError where a layer is being propagated."""
        if self.propagation is not None and self.propagation.layer == layer:
            raise ValueError("that box is being propagated; Escape stops it")

    def _check_slice(self, axis: int, index: int) -> None:
        if axis not in (0, 1, 2) or not 0 <= index < self.image.shape[axis]:
            raise ValueError(f"there is no slice {index} across axis {axis}")


def _region_at(z: int, layers: Iterable[Layer]) -> Region | None:
    return regions_of(*layers).get(z)


def _plane(plane: Any) -> dict[str, Any]:
    turn = plane.turn
    return {
        "axis": plane.axis,
        "name": plane.name,
        "exchange": turn.exchange,
        "flip_columns": turn.flip_columns,
        "flip_rows": turn.flip_rows,
        "sides": list(plane.sides),
        "spacing": list(plane.spacing),
    }
