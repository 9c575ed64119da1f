"""One direction of a propagation: slice after slice from a drawn one, until the object ends."""

from dataclasses import dataclass, field

import numpy as np

from litemedsam_jax.imaging import ellipsoid_prior
from litemedsam_jax.imaging.input_frame import (
    Frame,
    Scores,
    bounding_box,
    edges_to_input,
    logits_at,
    widened,
)
from litemedsam_jax.inference.encoded_image import EncodedImage, EncodedVolume
from litemedsam_jax.inference.ensemble_volume import (
    CLIP,
    PRIOR_WEIGHT,
    PROPAGATION_MARGINS,
    SECTION_MARGIN,
)
from litemedsam_jax.inference.object_evidence import GIVE_UP, ObjectEvidence

BEYOND = 0.1  # of the drawn box's sides, by which the object may reach out of it on other slices


@dataclass(frozen=True)
class Step:
    """A decoded slice: the mean of its prompts' clipped logits (256, 256), and of their IoU."""

    index: int
    fused: np.ndarray
    iou: float

    @classmethod
    def of(cls, index: int, logits: np.ndarray, iou: float) -> "Step":
        """Takes the mean of logits (P, 256, 256)."""
        return cls(index, np.clip(logits, -CLIP, CLIP).mean(axis=0), iou)


@dataclass
class Side:
    """One direction from one drawn slice.

    Attributes:
        boxes: the prompt on each slice it may reach, in order, in image pixels.
        known: whether its last slice is known; else it stops by evidence.
        narrows: whether the object gets smaller towards the last slice.
    """

    start: int
    direction: int
    boxes: np.ndarray
    known: bool
    narrows: bool
    limit: np.ndarray  # (4,) in the input frame: no propagated prompt leaves it
    evidence: ObjectEvidence
    before: np.ndarray  # the last mask that was not empty, (256, 256) bool
    prompts: list[np.ndarray]
    number: int = 0  # of slices decoded
    steps: list[Step] = field(default_factory=list)  # kept until the end is known
    sum: float = 0.0
    best: tuple[float, int] = (0.0, 0)  # the largest sum, and after how many slices
    done: bool = False

    def advance(self, encoded: EncodedVolume) -> Step | None:
        """Decodes the next slice; None at the end."""
        number = self.number
        if number == len(self.boxes):
            self.done = True
            return None
        index = self.start + self.direction * (number + 1)
        box, image = self.boxes[number], encoded[index]
        distance = self._distance(number) if self.known else None
        logits, iou = decode(image, box, distance, self.prompts)
        step = Step.of(index, logits, iou)
        self.number += 1
        self.prompts = _next_prompts(logits, box, self.limit, encoded.frame)
        if not self.known:
            self.steps.append(step)
            self._weigh(image, step)
        self.done = self.done or self.number == len(self.boxes)
        return step

    def _weigh(self, image: EncodedImage, step: Step) -> None:
        mask = step.fused > 0
        self.sum += self.evidence.log_odds(image, mask, self.before)
        if mask.any():
            self.before = mask
        if self.sum > self.best[0]:
            self.best = (self.sum, self.number)
        self.done = self.best[0] - self.sum > GIVE_UP

    def found(self) -> list[Step]:
        """The slices that were not yielded yet, once the end is known."""
        if self.known:
            return []
        steps = self.steps[: self.best[1]]
        # An object that goes on to the volume's end does not get smaller towards it.
        self.narrows = len(steps) < len(self.boxes)
        self.boxes = self.boxes[: len(steps)]
        self.known = True
        return steps

    def _distance(self, number: int) -> float:
        """0 at the drawn slice, almost 1 at the last one."""
        return (number + 1) / (len(self.boxes) + 0.5) if self.narrows else 0.0

    def scores(self, step: Step, frame: Frame) -> Scores:
        """The fused logits with the ellipsoid's prior."""
        number = abs(step.index - self.start) - 1
        distance = self._distance(number) if self.known else 0.0
        return scores_of(step.fused, self.boxes[number], distance, frame)


def side_of(
    encoded: EncodedVolume,
    drawn: dict[int, np.ndarray],
    start: Step,
    logits: np.ndarray,
    direction: int,
    first: int | None,
    last: int | None,
) -> Side:
    """The way from a drawn slice to the next one (half of it), to the range's end, or unknown.

    Args:
        encoded: the volume.
        drawn: by slice, the box (4,) in image pixels.
        start: the drawn slice, decoded.
        logits: (P, 256, 256) of its prompts, the propagated ones last.
        direction: 1 or -1.
        first: the object's first slice, or None.
        last: its last one, or None.
    """
    others = [k for k in drawn if (k - start.index) * direction > 0]
    end = last if direction > 0 else first
    box, frame = drawn[start.index], encoded.frame
    if others:
        near = min(others, key=lambda k: abs(k - start.index))
        gap = abs(near - start.index)
        count = (gap - 1 + (direction > 0)) // 2  # the middle slice belongs to the lower box
        parts = np.arange(1, count + 1)[:, None] / gap
        boxes, known, narrows = box + parts * (drawn[near] - box), True, False
    else:
        outermost = len(encoded) - 1 if direction > 0 else 0
        stop = outermost if end is None else end
        count = max(0, (stop - start.index) * direction)
        boxes, known, narrows = np.tile(box, (count, 1)), end is not None, stop != outermost
    given = edges_to_input(box[None], frame)[0]
    mask = start.fused > 0
    evidence = ObjectEvidence(encoded[start.index], mask, given)
    limit = _limit(edges_to_input(np.stack([box, *boxes]), frame))
    prompts = _next_prompts(logits, box, limit, frame)
    return Side(
        start.index, direction, boxes, known, narrows, limit, evidence, mask, prompts
    )  # fmt: skip


def _limit(boxes: np.ndarray) -> np.ndarray:
    """What holds all boxes (N, 4) of the input frame, a little widened."""
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    beyond = BEYOND * np.maximum(high - low + 1, 1)
    return np.concatenate([low - beyond, high + beyond])


def decode(
    image: EncodedImage, box: np.ndarray, distance: float | None, propagated: list | None
) -> tuple[np.ndarray, float]:
    """Logits (P, 256, 256) and mean IoU of a slice's prompts; `propagated` is None where drawn."""
    given = edges_to_input(box[None], image.frame)[0]
    prompts = [given]
    if distance is not None:
        section = ellipsoid_prior.section(box, distance)
        prompts.append(widened(edges_to_input(section[None], image.frame)[0], SECTION_MARGIN))
    prompts += [widened(given, PROPAGATION_MARGINS[0])] * 2 if propagated is None else propagated
    logits, iou = image.decode(np.stack(prompts).astype(np.float32))
    return logits, float(iou.mean())


def _next_prompts(
    logits: np.ndarray, box: np.ndarray, limit: np.ndarray, frame: Frame
) -> list[np.ndarray]:
    """Around each propagated mask, within the limit; the drawn box where a mask is lost."""
    rows, columns = (
        slice(max(0, int(limit[k])), max(0, int(np.ceil(limit[k + 2]))) + 1) for k in (1, 0)
    )
    corner = np.array([columns.start, rows.start] * 2, np.float32)
    last = logits[-len(PROPAGATION_MARGINS) :, rows, columns] > 0
    prompts = []
    for mask, margin in zip(last, PROPAGATION_MARGINS, strict=True):
        around = bounding_box(mask, 0, sum(mask.shape))
        if around is None:
            given = edges_to_input(box[None], frame)[0]
            prompts.append(widened(given, PROPAGATION_MARGINS[0]))
            continue
        low, high = np.split(widened(around + corner, margin), 2)
        most = widened(limit, margin)
        prompts.append(np.r_[np.maximum(low, most[:2]), np.minimum(high, most[2:])])
    return prompts


def scores_of(fused: np.ndarray, box: np.ndarray, distance: float, frame: Frame) -> Scores:
    """Fused logits around a box (4,) of the image, with the ellipsoid's prior at a distance."""
    beyond = BEYOND * (box[2:] - box[:2] + 1)
    low = np.maximum(np.floor(box[:2] - beyond), 0).astype(int)
    high = np.ceil(box[2:] + beyond).astype(int) + 1
    rows = slice(int(low[1]), min(int(high[1]), frame.height))
    columns = slice(int(low[0]), min(int(high[0]), frame.width))
    down = ellipsoid_prior.from_centre(rows, box[1], box[3] + 1)
    across = ellipsoid_prior.from_centre(columns, box[0], box[2] + 1)
    prior = ellipsoid_prior.prior(down, across, distance)
    values = logits_at(fused, frame, rows, columns) + np.float32(PRIOR_WEIGHT) * prior
    return Scores(rows, columns, values)
