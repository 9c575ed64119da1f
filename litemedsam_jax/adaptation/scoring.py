"""Scores of cases with a strategy of inference, for a decoder that is being trained."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from litemedsam_jax.adaptation.cases import LabelledCase, Score
from litemedsam_jax.imaging.boxes import boxes_of_labels
from litemedsam_jax.imaging.labels import rename_labels
from litemedsam_jax.imaging.slice_prompt import SliceBox, SlicePrompt
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.training.embedding_files import EmbeddingFiles
from litemedsam_jax.weights.adaptation_note import FROM_SLICE

if TYPE_CHECKING:
    from litemedsam_jax.engine.engine import Engine


class CachedEngine:
    """An engine whose embeddings come from disk."""

    def __init__(self, engine: "Engine", embeddings: EmbeddingFiles):
        """Puts one together.

        Args:
            engine: encodes what is not on disk yet, and decodes.
            embeddings: of its encoder.
        """
        self._engine, self._embeddings = engine, embeddings

    def prepare(self, box_count: int) -> None:
        """Nothing is left to load."""

    def encode(self, image: np.ndarray) -> np.ndarray:
        """(S, S, 3) float32 -> embedding (G, G, C) float16."""
        return self._embeddings.read_or_encode(image, self._engine.encode)

    def decode(self, embedding: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (N, 4) of the input frame -> logits (N, S, S) and predicted IoU (N,)."""
        return self._engine.decode(embedding[None].astype(np.float32), boxes)


def scores_of_cases(
    engine: Any,
    cases: Sequence[LabelledCase],
    strategy: str,
    on_case: Callable[[LabelledCase, np.ndarray], None] | None = None,
) -> dict[str, Score]:
    """Segments cases from the tight boxes of their labels.

    Args:
        engine: an engine of inference, or a `CachedEngine`.
        cases: with their true labels.
        strategy: as of `infer.py --strategy`; or `FROM_SLICE`.
        on_case: called with each case and its masks, labelled as the truth.

    Returns:
        Case -> score.
    """
    model = LiteMedSAM(engine)
    scores = {}
    for case in cases:
        segs = rename_labels(_segment(model, case, strategy), case.labels)
        scores[case.name] = case.score(segs)
        if on_case is not None:
            on_case(case, segs)
    return scores


def slice_prompts(case: LabelledCase) -> list[SlicePrompt]:
    """One tight box for each object of a volume, on the slice with the most of it; labels 1 ..."""
    prompts = []
    for number, label in enumerate(case.labels, start=1):
        z = int((case.gts == label).sum((1, 2)).argmax())
        ((x_min, y_min, x_max, y_max),), _ = boxes_of_labels(
            (case.gts[z] == label).astype(np.uint8)
        )
        box = SliceBox(z, (float(x_min), float(y_min), float(x_max), float(y_max)))
        prompts.append(SlicePrompt((box,), label=number))
    return prompts


def _segment(model: LiteMedSAM, case: LabelledCase, strategy: str) -> np.ndarray:
    if not case.is_volume:
        of_images = "best" if strategy == FROM_SLICE else strategy
        return model.segment_image(case.image, case.boxes, of_images)
    if strategy == FROM_SLICE:
        return model.segment_from_slices(case.image, slice_prompts(case))
    return model.segment_volume(case.image, case.boxes, strategy)


def mean(scores: Mapping[str, Score]) -> Score:
    """The mean over cases; NaN without any."""
    if not scores:
        return Score(float("nan"), float("nan"))
    return Score(*np.mean(list(scores.values()), axis=0).tolist())
