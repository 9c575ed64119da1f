"""Encoded images: an embedding, with `mirrored` a second one; the slices of a volume."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from litemedsam_jax.engine.engine import Engine
from litemedsam_jax.imaging.input_frame import Frame, Region, mask_from_logits, to_input

DECODED_AT_ONCE = 32  # boxes; their logits take 256 KiB each
KEPT_SLICES = 64  # embeddings of 4 MiB each


@dataclass(frozen=True)
class EncodedImage:
    """An encoded image, ready for any number of boxes."""

    engine: Engine
    frame: Frame
    embedding: Any
    mirrored: Any = None  # the embedding of the mirrored image, if it was asked for

    @classmethod
    def encode(
        cls, engine: Engine, image: np.ndarray, frame: Frame, mirrored: bool = False
    ) -> "EncodedImage":
        """Encodes an image (H, W) or (H, W, 3)."""
        pixels = to_input(image, frame)
        second = engine.encode(_mirror(pixels, frame)) if mirrored else None
        return cls(engine, frame, engine.encode(pixels), second)

    def logits(self, boxes: np.ndarray) -> np.ndarray:
        """Logits (N, 256, 256) of boxes (N, 4) in the input frame; means of both if mirrored."""
        return self.decode(boxes)[0]

    def decode(self, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits (N, 256, 256) and predicted IoU (N,) of boxes (N, 4) in the input frame."""
        logits, iou = self.engine.decode(self.embedding, boxes)
        if self.mirrored is None:
            return logits, iou
        width = self.frame.inner_width
        mirrored_boxes = boxes.copy()
        mirrored_boxes[:, [0, 2]] = width - 1 - boxes[:, [2, 0]]
        mirrored, mirrored_iou = self.engine.decode(self.mirrored, mirrored_boxes)
        logits = logits.copy()
        logits[:, :, :width] = (logits[:, :, :width] + mirrored[:, :, :width][:, :, ::-1]) / 2
        return logits, (iou + mirrored_iou) / 2

    def masks(self, boxes: np.ndarray) -> Iterator[Region]:
        """Yields the mask of each box (N, 4) of the input frame, in order, in bounded memory."""
        for start in range(0, len(boxes), DECODED_AT_ONCE):
            for one in self.logits(boxes[start : start + DECODED_AT_ONCE]):
                yield mask_from_logits(one, self.frame)


class EncodedVolume:
    """A volume's slices along one axis, each encoded when it is first asked for.

    Attributes:
        slices: (N, rows, columns) or (N, rows, columns, 3), a view of the volume.
        frame: of every slice.
        passes: slices encoded so far.
    """

    def __init__(
        self, engine: Engine, volume: np.ndarray, axis: str = "z", kept: int = KEPT_SLICES
    ):
        """Takes a volume; nothing is encoded yet.

        Args:
            engine: runs the network.
            volume: (D, H, W) or (D, H, W, 3).
            axis: "z", "y" or "x", the volume's axes 0, 1, 2: across which the slices lie.
            kept: embeddings kept, the last used ones.
        """
        from litemedsam_jax.imaging.slice_prompt import AXES

        self.axis = axis
        self.slices = np.moveaxis(volume, AXES.index(axis), 0)
        self.frame = Frame(*self.slices.shape[1:3])
        self.passes = 0
        self._engine, self._capacity = engine, kept
        self._kept: OrderedDict[int, EncodedImage] = OrderedDict()

    def __len__(self) -> int:
        """How many slices there are."""
        return len(self.slices)

    def __getitem__(self, index: int) -> EncodedImage:
        """The encoded slice."""
        encoded = self._kept.pop(index, None)
        if encoded is None:
            encoded = EncodedImage.encode(
                self._engine, np.ascontiguousarray(self.slices[index]), self.frame
            )
            self.passes += 1
        self._kept[index] = encoded
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return encoded


def _mirror(pixels: np.ndarray, frame: Frame) -> np.ndarray:
    mirrored = pixels.copy()
    mirrored[:, : frame.inner_width] = pixels[:, : frame.inner_width][:, ::-1]
    return mirrored
