"""Samples of slices, with anchors among them: prompts whose masks are to stay what they were."""

from collections.abc import Sequence
from dataclasses import dataclass

import grain
import numpy as np

from litemedsam_jax.imaging.input_frame import to_input
from litemedsam_jax.training.catalog import Slice
from litemedsam_jax.training.samples import FinetuneSample, frame_of

SHARE = 0.5  # of a batch


@dataclass(frozen=True)
class Anchor:
    """A prompt and what the starting weights make of it.

    Attributes:
        name: of the slice.
        image: (H, W) or (H, W, 3).
        box: (4,) of the input frame.
        target: (S, S) uint8, the mask's probability times 255.
        iou: as predicted.
    """

    name: str
    image: np.ndarray
    box: np.ndarray
    target: np.ndarray
    iou: float


@dataclass(frozen=True)
class AnchoredSample(grain.transforms.RandomMap):
    """Slice -> a sample of it, or in its place an anchor; see `steps.anchored_loss`.

    Attributes:
        own: makes samples of slices, with embeddings.
        anchors: to choose from; empty: there are none.
        share: of the samples that are anchors.
    """

    own: FinetuneSample
    anchors: Sequence[Anchor]
    share: float = SHARE

    def random_map(self, element: Slice, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """A sample: embedding, mask (S, S) uint8 to 255, box, iou, anchor (0 or 1), name."""
        if not self.anchors or rng.random() >= self.share:
            sample = self.own.random_map(element, rng)
            sample["mask"] = sample["mask"] * np.uint8(255)
            return {**sample, "iou": np.zeros((), np.float32), "anchor": np.zeros((), np.float32)}
        chosen = self.anchors[int(rng.integers(len(self.anchors)))]
        assert self.own.embeddings is not None
        image = to_input(chosen.image, frame_of(chosen.image, self.own.size))
        return {
            "embedding": self.own.embeddings.read(image),
            "mask": chosen.target,
            "box": chosen.box,
            "name": np.array(chosen.name),
            "iou": np.array(chosen.iou, np.float32),
            "anchor": np.ones((), np.float32),
        }
