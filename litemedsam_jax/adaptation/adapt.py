"""From labelled cases to weights that segment their kind better, without forgetting the rest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from litemedsam_jax.adaptation.cases import LabelledCase, catalog_of, volume_boxes
from litemedsam_jax.adaptation.scoring import CachedEngine, dsc_of_cases, mean
from litemedsam_jax.training import devices, finetune
from litemedsam_jax.training.catalog import DataError, split_by_case
from litemedsam_jax.training.config import TrainingConfig
from litemedsam_jax.training.decoding import Decoder, decoder_variables
from litemedsam_jax.training.embedding_files import EmbeddingFiles, Encode
from litemedsam_jax.training.loop import Outcome
from litemedsam_jax.training.samples import FinetuneSample
from litemedsam_jax.training.setup import TrainingTask, run_training
from litemedsam_jax.training.steps import TrainState
from litemedsam_jax.weights.load import load_model
from litemedsam_jax.weights.tree import flatten, unflatten

LARGEST_LOSS = 0.005  # of the anchor's mean DSC: half a point
BLENDS = (1.0, 0.75, 0.5, 0.25, 0.1)  # shares of what was learned, the rest is the start's
_FINEST_GAIN = 1e-3  # of the mean DSC: less is not told from chance


@dataclass(frozen=True)
class Start:
    """What is adapted: weights, and what runs them.

    Attributes:
        variables: nested, of the whole model.
        counters: torch's BatchNorm counters.
        encode: the frozen image encoder.
        embeddings: its embeddings on disk.
    """

    variables: dict[str, Any]
    counters: dict[str, int]
    encode: Encode
    embeddings: EmbeddingFiles


@dataclass(frozen=True)
class Adaptation:
    """What came of it.

    Attributes:
        outcome: how training ended.
        blend: share of what was learned in the result; 0: the start is better.
        variables: nested, of the whole model; the start's where blend is 0.
        before: DSC of each validation case with the start.
        after: the same with the result.
        anchor_before: DSC of each case that must not become worse; empty: none was given.
        anchor_after: the same with the result.
    """

    outcome: Outcome
    blend: float
    variables: dict[str, Any]
    before: dict[str, float]
    after: dict[str, float]
    anchor_before: dict[str, float]
    anchor_after: dict[str, float]


def split_cases(
    cases: Sequence[LabelledCase], fraction: float, seed: int
) -> tuple[list[LabelledCase], list[LabelledCase]]:
    """Training and validation cases: a fraction of each modality, at least one where it has two.

    Args:
        cases: at least two.
        fraction: held out.
        seed: of the choice, by the cases' names.

    Raises:
        DataError: too few cases to hold one out.
    """
    if len({case.name for case in cases}) < 2:
        raise DataError("learning needs two labelled cases at least: one to learn, one to validate")
    try:
        training, _ = split_by_case(catalog_of(cases), fraction, seed)
    except DataError:  # a single case of each modality: then of all together
        names = sorted(case.name for case in cases)
        held = set(names[:: max(round(1 / max(fraction, 1e-9)), 2)][: len(names) - 1])
    else:
        held = {case.name for case in cases} - {entry.case for entry in training.entries}
    return (
        [case for case in cases if case.name not in held],
        [case for case in cases if case.name in held],
    )


def adapt(
    config: TrainingConfig,
    start: Start,
    training: Sequence[LabelledCase],
    validation: Sequence[LabelledCase],
    anchor: Sequence[LabelledCase],
    *,
    strategy: str,
) -> Adaptation:
    """Trains prompt encoder and mask decoder on cached embeddings, and blends with the start.

    Args:
        config: of a run with a frozen encoder.
        start: weights and their encoder.
        training: cases to learn from.
        validation: other cases; the best step is the one that segments them best.
        anchor: cases of other kinds, which may lose half a point at most.
        strategy: with which validation segments: that of later use.

    Raises:
        DataError: unusable data.
        CheckpointError: see `training.setup.run_training`.
        NotFiniteError: the loss or its gradient is not finite.
        SaveError: a checkpoint could not be written.
    """
    catalog = catalog_of(training)
    devices.say(f"learning from {catalog.describe()}; validating on {len(validation)} cases")
    finetune.fill_cache(start.embeddings, start.encode, config, catalog, None)
    decoder = Decoder(config.model)

    def scores(variables: dict[str, Any], cases: Sequence[LabelledCase]) -> dict[str, float]:
        engine = CachedEngine(start.encode, start.embeddings, decoder, decoder_variables(variables))
        return dsc_of_cases(engine, cases, strategy)

    def validate(state: TrainState, epoch: int) -> dict[str, float]:
        del epoch
        dsc = mean(scores(state.variables(), validation))
        return {"dsc": dsc, "score": dsc}

    size = config.model.image_encoder.image_size
    task = TrainingTask(
        variables=start.variables,
        counters=start.counters,
        transform=FinetuneSample(config.data, size, start.embeddings, volume_boxes(training)),
        loss=finetune.training_loss,
        prepare=lambda batch: batch,
        validate=validate,
        output="best.safetensors",
    )
    outcome = run_training(config, task, catalog, resume=False)
    assert outcome is not None  # only a dry run has none
    if outcome.reason == "stopped":
        return Adaptation(outcome, 0.0, start.variables, {}, {}, {}, {})
    best = unflatten(load_model(Path(config.work_dir) / task.output).variables)
    return choose_blend(
        outcome,
        start.variables,
        best,
        lambda variables: scores(variables, validation),
        lambda variables: scores(variables, anchor),
    )


def choose_blend(
    outcome: Outcome,
    start: dict[str, Any],
    end: dict[str, Any],
    of_validation: Callable[[dict[str, Any]], dict[str, float]],
    of_anchor: Callable[[dict[str, Any]], dict[str, float]],
) -> Adaptation:
    """The blend of start and end that validates best, of those that cost other kinds nothing.

    Args:
        outcome: of the training from start to end.
        start: nested variables.
        end: nested variables.
        of_validation: variables -> DSC of each validation case.
        of_anchor: variables -> DSC of each case that must not become worse; empty: there is none.

    Returns:
        The start itself, with blend 0, where no blend gains a tenth of a point or more.
    """
    before, anchor_before = of_validation(start), of_anchor(start)
    result = Adaptation(outcome, 0.0, start, before, before, anchor_before, anchor_before)
    for share in BLENDS:
        variables = blended(start, end, share)
        after = of_validation(variables)
        if mean(after) <= mean(result.after) + (0 if result.blend else _FINEST_GAIN):
            continue
        anchor_after = of_anchor(variables)
        if anchor_before and mean(anchor_after) < mean(anchor_before) - LARGEST_LOSS:
            continue
        result = Adaptation(outcome, share, variables, before, after, anchor_before, anchor_after)
    return result


def blended(start: dict[str, Any], end: dict[str, Any], share: float) -> dict[str, Any]:
    """start + share · (end - start) of every parameter; other collections are the start's.

    Source: Wortsman et al., Robust fine-tuning of zero-shot models (WiSE-FT), CVPR 2022.
    """
    first, last = flatten(start["params"]), flatten(end["params"])
    mixed = {name: first[name] + np.float32(share) * (last[name] - first[name]) for name in first}
    return {**start, "params": unflatten(mixed)}
