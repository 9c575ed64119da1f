"""From a slice to what the network is trained on. NumPy and OpenCV, one random generator.

Source: the reference's `NpyDataset` of `train_one_gpu.py` and of `distill_single_gpu.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import grain
import numpy as np

from litemedsam_jax.imaging.input_frame import (
    Frame,
    bounding_box,
    edges_to_input,
    resize_labels,
    to_input,
)
from litemedsam_jax.preparation.training_set import Entry
from litemedsam_jax.training.catalog import Slice
from litemedsam_jax.training.config import DataConfig

_ZOOM = (0.75, 1.33)
_GAMMA = (0.7, 1.4)
_CONTRAST = (0.7, 1.3)
_LOOSE, _ASIDE = 1 / 4, 1 / 7  # of a box's side


class EmbeddingStore(Protocol):
    """Where finished embeddings of the teacher are (teacher_cache.TeacherCache)."""

    def embedding(self, name: str, variant: int) -> np.ndarray:
        """(G, G, C) of a slice, flipped as the variant says."""
        ...


class ImageEmbeddings(Protocol):
    """Where a frozen encoder's embeddings are (embedding_files.EmbeddingFiles)."""

    def read(self, image: np.ndarray) -> np.ndarray:
        """(G, G, C) of an image (S, S, 3) float32."""
        ...


@dataclass(frozen=True)
class FinetuneSample(grain.transforms.RandomMap):
    """Slice -> image (S, S, 3) float32, mask (S, S) uint8, box (4,) float32, name.

    With `embeddings` the sample has the image's `embedding` (G, G, C) instead of the image.

    One label of the slice is chosen at random; the box is tight (inclusive pixel indices), each
    side then moved outwards by 0 ... bbox_shift pixels and clamped to [0, S-1]; see `prompt_of_use`
    for the other prompts.

    Attributes:
        data: what is random.
        size: of the network's input, in pixels.
        embeddings: of a frozen encoder; they must be there for every flip.
        use_boxes: (case, label, position) -> (K, 4) boxes in image pixels, inclusive, with which
            inference prompts for the label on that slice of a volume, for `prompts="use"`.
    """

    data: DataConfig
    size: int
    embeddings: ImageEmbeddings | None = None
    use_boxes: Mapping[tuple[str, int, int | None], np.ndarray] = field(default_factory=dict)

    def random_map(self, element: Slice, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """A sample of a slice: one of its labels, augmented."""
        fixed = bool(self.data.overfit)
        labels = element.entry.labels
        label = labels[rng.integers(len(labels))]
        frame = frame_of(element.gts, self.size)
        image = to_input(element.image, frame)
        mask = padded_mask(element.gts, label, frame)
        lr = ud = 0
        if not fixed:
            image, mask = augment(image, mask, self.data.augment, rng)
            if self.data.flips:
                lr, ud = rng.integers(2, size=2)
                image, mask = flip(image, lr, ud), flip(mask, lr, ud)
        image = np.ascontiguousarray(image)
        seen = {"image": image}
        if self.embeddings is not None:
            seen = {"embedding": self.embeddings.read(image)}
        return {
            **seen,
            "mask": np.ascontiguousarray(mask),
            "box": self._prompt(mask, element.entry, label, frame, lr, ud, rng),
            "name": np.array(f"{element.entry.name} (label {label})"),
        }

    def _prompt(
        self,
        mask: np.ndarray,
        entry: Entry,
        label: int,
        frame: Frame,
        lr: int,
        ud: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        if self.data.overfit:
            return jittered_box(mask, 0, rng)
        if self.data.prompts == "training":
            return jittered_box(mask, self.data.bbox_shift, rng)
        boxes = self.use_boxes.get((entry.case, label, entry.position), np.zeros((0, 4)))
        flipped = [flip_box(box, lr, ud, self.size) for box in edges_to_input(boxes, frame)]
        return prompt_of_use(mask, flipped, self.data.bbox_shift, rng)


@dataclass(frozen=True)
class DistillSample(grain.transforms.RandomMap):
    """Slice -> image (S, S, 3) for the student and what the teacher sees or has seen.

    Both are flipped alike. With a cache the sample has the teacher's `embedding`, without one the
    image to make it from, `teacher_image`, of `teacher_size`.
    """

    data: DataConfig
    size: int
    teacher_size: int
    cache: EmbeddingStore | None = None

    def random_map(self, element: Slice, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """A sample of a slice, flipped at random."""
        random = self.data.flips and not self.data.overfit
        lr, ud = rng.integers(2, size=2) if random else (0, 0)
        image = square_input(element.image, self.size, self.data.resize, cv2.INTER_AREA)
        sample = {
            "image": np.ascontiguousarray(flip(image, lr, ud)),
            "name": np.array(element.entry.name),
        }
        if self.cache is not None:
            sample["embedding"] = self.cache.embedding(element.entry.name, int(lr + 2 * ud))
        else:
            large = teacher_input(element, self.teacher_size, self.data.resize)
            sample["teacher_image"] = np.ascontiguousarray(flip(large, lr, ud))
        return sample


def teacher_input(element: Slice, size: int, resize: str) -> np.ndarray:
    """The teacher's image, (size, size, 3): cubic interpolation, as the reference has it."""
    return square_input(element.image, size, resize, cv2.INTER_CUBIC)


def square_input(image: np.ndarray, size: int, resize: str, interpolation: int) -> np.ndarray:
    """An image as a network takes it, (size, size, 3) float32 in [0, 1].

    Args:
        image: (H, W) or (H, W, 3).
        size: of the network's input, in pixels.
        resize: "pad" keeps the aspect ratio as inference does; "squash" does not.
        interpolation: OpenCV's constant.
    """
    frame = frame_of(image, size)
    if resize == "pad" and interpolation == cv2.INTER_AREA:
        return to_input(image, frame)
    inner = (frame.inner_width, frame.inner_height) if resize == "pad" else (size, size)
    resized = cv2.resize(image, inner, interpolation=interpolation).astype(np.float64)
    low, high = resized.min(), resized.max()
    resized = (resized - low) / max(high - low, 1e-8)
    padded = np.zeros((size, size, 3), np.float32)
    padded[: inner[1], : inner[0]] = resized if resized.ndim == 3 else resized[..., None]
    return padded


def frame_of(array: np.ndarray, size: int) -> Frame:
    """How (H, W) or (H, W, 3) lies in the network's square."""
    return Frame(array.shape[0], array.shape[1], size)


def padded_mask(gts: np.ndarray, label: int, frame: Frame) -> np.ndarray:
    """One label of (H, W) in the input frame, (S, S) uint8, 0 or 1."""
    mask = np.zeros((frame.size, frame.size), np.uint8)
    small = resize_labels(gts, frame.inner_height, frame.inner_width)
    mask[: frame.inner_height, : frame.inner_width] = small == label
    return mask


def flip(array: np.ndarray, lr: int, ud: int) -> np.ndarray:
    """Flips columns, then rows, of (S, S) or (S, S, C)."""
    array = array[:, ::-1] if lr else array
    return array[::-1] if ud else array


def flip_box(box: np.ndarray, lr: int, ud: int, size: int) -> np.ndarray:
    """A box (4,) in a square of `size` pixels, flipped as `flip` flips the square."""
    x_min, y_min, x_max, y_max = box
    if lr:
        x_min, x_max = size - 1 - x_max, size - 1 - x_min
    if ud:
        y_min, y_max = size - 1 - y_max, size - 1 - y_min
    return np.array([x_min, y_min, x_max, y_max], np.float32)


def prompt_of_use(
    mask: np.ndarray, known: Sequence[np.ndarray], shift: int, rng: np.random.Generator
) -> np.ndarray:
    """A box as people and strategies prompt with, of one kind at random.

    Each side moved outwards by 0 ... `shift` pixels, as in training; loose, each side by up to a
    quarter of the box's; moved aside by up to a seventh; in every other sample a known one, where
    there are any.

    Args:
        mask: (S, S), not empty.
        known: (4,) in the square each: what strategies prompt with on this slice.
        shift: pixels.
        rng: chooses.

    Returns:
        (4,) float32 x_min, y_min, x_max, y_max within the square.
    """
    kind = rng.integers(6 if known else 3)
    if kind >= 3:
        return _moved_outwards(known[int(rng.integers(len(known)))], shift, mask.shape[0], rng)
    box = jittered_box(mask, shift, rng)
    if kind == 0:
        return box
    sides = np.tile(box[2:] - box[:2] + 1, 2)
    if kind == 1:
        moved = rng.uniform(0, _LOOSE, 4) * sides * np.array([-1, -1, 1, 1])
    else:
        moved = np.tile(rng.uniform(-_ASIDE, _ASIDE, 2), 2) * sides
    return np.clip(box + moved, 0, mask.shape[0] - 1).astype(np.float32)


def jittered_box(mask: np.ndarray, shift: int, rng: np.random.Generator) -> np.ndarray:
    """The box of a mask (S, S), x_min, y_min, x_max, y_max, each side moved outwards; float32."""
    return _moved_outwards(tight_box(mask), shift, mask.shape[0], rng)


def _moved_outwards(box: np.ndarray, shift: int, size: int, rng: np.random.Generator) -> np.ndarray:
    x_low, x_high, y_low, y_high = rng.integers(0, shift + 1, size=4)
    grown = box + np.array([-x_low, -y_low, x_high, y_high], np.float32)
    return np.clip(grown, 0, size - 1).astype(np.float32)


def tight_box(mask: np.ndarray) -> np.ndarray:
    """The box of a mask (S, S) by its outermost pixels, x_min, y_min, x_max, y_max; float32."""
    box = bounding_box(mask > 0, 0, mask.shape[0])
    if box is None:
        raise ValueError("an empty mask has no box")
    return box


def augment(
    image: np.ndarray, mask: np.ndarray, kinds: tuple[str, ...], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Random zoom ("scale") and random gamma and contrast ("intensity"); padding stays zero."""
    if "scale" in kinds:
        image, mask = _zoom(image, mask, rng)
    if "intensity" in kinds:
        image = image ** np.float32(rng.uniform(*_GAMMA))
        image = np.clip(image * np.float32(rng.uniform(*_CONTRAST)), 0, 1)
    return image, mask


def _zoom(
    image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Scales about a pixel of the object, which therefore stays in view."""
    size = mask.shape[0]
    factor = rng.uniform(*_ZOOM)
    rows, columns = np.nonzero(mask)
    chosen = rng.integers(len(rows))
    x, y = int(columns[chosen]), int(rows[chosen])
    matrix = np.array([[factor, 0, x * (1 - factor)], [0, factor, y * (1 - factor)]])
    zoomed = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR)
    moved = cv2.warpAffine(mask, matrix, (size, size), flags=cv2.INTER_NEAREST)
    if not moved.any():  # a single pixel can fall between the samples
        return image, mask
    return zoomed, moved
