"""From labelled cases to weights that segment their kind better, without forgetting the rest."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from litemedsam_jax.adaptation.anchors import anchors_on_others, anchors_on_own
from litemedsam_jax.adaptation.cases import LabelledCase, Score, catalog_of
from litemedsam_jax.adaptation.cleaning import STEPS, cleaned_scores
from litemedsam_jax.adaptation.folds import Estimate, estimate, split_folds
from litemedsam_jax.adaptation.pictures import shown_slice
from litemedsam_jax.adaptation.prompts import use_boxes
from litemedsam_jax.adaptation.scoring import CachedEngine, mean, scores_of_cases
from litemedsam_jax.training import devices, finetune, steps
from litemedsam_jax.training.anchored_sample import Anchor, AnchoredSample
from litemedsam_jax.training.config import TrainingConfig
from litemedsam_jax.training.decoding import decoder_variables
from litemedsam_jax.training.embedding_files import EmbeddingFiles
from litemedsam_jax.training.samples import FinetuneSample
from litemedsam_jax.training.setup import TrainingTask, run_training
from litemedsam_jax.weights.tree import flatten, unflatten

if TYPE_CHECKING:
    from litemedsam_jax.engine.engine import Engine

# Of the held-out cases' mean DSC, by what the others choose: less is gained by chance.
LEAST_GAIN = 0.005
LARGEST_LOSS = 0.005  # of the anchors' mean DSC: half a point
LARGEST_LOSS_OF_ONE = 0.02  # of any of their cases
BLENDS = (1.0, 0.5, 0.25)  # shares of what was learned, the rest is the start's
# Cases up to which half is taken at most: all was worse in seven of eight kinds (docs/adapt.md).
FEW = 5
SLICES_SEEN = 1.0  # samples, half of them anchors, for each slice with an object
FEWEST_STEPS, MOST_STEPS, STEPS_OF = 60, 100, 20
Scores = dict[str, Score]  # by case


@dataclass(frozen=True)
class Start:
    """What is adapted: weights, and what runs them.

    Attributes:
        variables: nested, of the whole model.
        counters: torch's BatchNorm counters.
        engine: of these weights.
        embeddings: of its encoder, on disk.
    """

    variables: dict[str, Any]
    counters: dict[str, int]
    engine: "Engine"
    embeddings: EmbeddingFiles


@dataclass(frozen=True)
class Adaptation:
    """What came of it.

    Attributes:
        blend: share of what was learned in the result; 0: the start is better.
        variables: nested, of the whole model; the start's where blend is 0.
        estimate: what held-out cases say.
        blends: share -> mean score of the held-out cases, after the estimate's step.
        anchor_before: score of each case that must not become worse; empty: none was given.
        anchor_after: share -> the same with the result, of each share that was tried.
    """

    blend: float
    variables: dict[str, Any]
    estimate: Estimate
    blends: dict[float, Score]
    anchor_before: Scores
    anchor_after: dict[float, Scores]


class Stopped(Exception):
    """SIGTERM came while it trained."""


class Adapter:
    """Learns from cases: folds for the estimate, all of them for the result."""

    def __init__(
        self,
        config: TrainingConfig,
        start: Start,
        anchor_cases: Sequence[LabelledCase],
        strategy: str,
    ):
        """Puts the parts together.

        Args:
            config: of a run with a frozen encoder; its work folder gets a folder for each training.
            start: weights and their encoder.
            anchor_cases: of other kinds, which may lose half a point at most.
            strategy: with which held-out cases are segmented: that of later use.
        """
        self._config, self._start, self._strategy = config, start, strategy
        self._anchor_cases = anchor_cases
        self._engine = CachedEngine(start.engine, start.embeddings)
        self._size = config.model.image_encoder.image_size
        # Case -> share -> the masks (H, W) of one slice, for pictures.
        self.pictured: dict[str, dict[float, np.ndarray]] = {}
        # Step of --postprocess -> held-out case -> share -> score.
        self.cleaned: dict[str, dict[str, dict[float, Score]]] = {step: {} for step in STEPS}
        self._steps: dict[str, devices.DeviceFunction] = {}  # compiled once for all folds

    @property
    def start(self) -> dict[str, Any]:
        """The variables that it starts from."""
        return self._start.variables

    def scores(
        self,
        variables: dict[str, Any],
        cases: Sequence[LabelledCase],
        on_case: Callable[[LabelledCase, np.ndarray], None] | None = None,
    ) -> Scores:
        """Scores of cases, segmented with the strategy from the boxes of their labels."""
        engine = self._start.engine.with_decoder(flatten(variables))
        cached = CachedEngine(engine, self._start.embeddings)
        return scores_of_cases(cached, cases, self._strategy, on_case)

    def held_out_scores(
        self, cases: Sequence[LabelledCase], folds: int
    ) -> dict[str, dict[float, Score]]:
        """Case -> share -> score with a decoder that learned from other cases.

        Raises:
            DataError: unusable data.
            Stopped: SIGTERM.
        """
        split = split_folds(cases, folds, self._config.data.seed)
        scores: dict[str, dict[float, Score]] = {case.name: {} for case in cases}
        began = 0.0
        for number, (training, held) in enumerate(split, start=1):
            names = ", ".join(case.name for case in held)
            left = "" if number == 1 else f"; {_minutes_left(began, len(split) + 2 - number)}"
            devices.say(f"fold {number} of {len(split)}, held out: {names}{left}")
            began = time.monotonic()
            end = self.learn(training, f"fold_{number}")
            for share in (0.0, *shares_for(len(cases))):
                variables = blended(self._start.variables, end, share)
                for name, score in self.scores(variables, held, self._keeper(share)).items():
                    scores[name][share] = score
        return {name: scores[name] for name in sorted(scores)}

    def _keeper(self, share: float) -> Callable[[LabelledCase, np.ndarray], None]:
        def keep(case: LabelledCase, segs: np.ndarray) -> None:
            for step, score in cleaned_scores(case, segs).items():
                self.cleaned[step].setdefault(case.name, {})[share] = score
            z = shown_slice(case)
            self.pictured.setdefault(case.name, {})[share] = (segs if z is None else segs[z]).copy()

        return keep

    def learn(self, cases: Sequence[LabelledCase], name: str) -> dict[str, Any]:
        """Trains prompt encoder and mask decoder on cases and anchors; all of what was learned.

        Args:
            cases: to learn from.
            name: of the folder for this training.

        Returns:
            Nested variables of the whole model.
        """
        start, catalog = self._start, catalog_of(cases)
        config = self._training_config(len(catalog), name)
        finetune.fill_cache(start.embeddings, start.engine.encode, config, catalog, None)
        sample = FinetuneSample(config.data, self._size, start.embeddings, use_boxes(cases))
        rng = np.random.default_rng(config.data.seed)
        anchors = anchors_on_own(catalog, self._size, self._engine, rng) + self._anchors_on_others
        task = TrainingTask(
            # The frozen encoder takes no part: a smaller program, and smaller checkpoints.
            variables=decoder_variables(start.variables),
            counters=start.counters,
            transform=AnchoredSample(sample, anchors),
            loss=steps.anchored_loss,
            prepare=lambda batch: batch,
            validate=None,
            output="",
            steps=self._steps,
        )
        # A run of a minute starts anew; what takes long, the embeddings, is kept.
        shutil.rmtree(Path(config.work_dir), ignore_errors=True)
        outcome = run_training(config, task, catalog, resume=False)
        assert outcome is not None  # only a dry run has none
        if outcome.reason == "stopped":
            raise Stopped
        learned = devices.fetch(outcome.state.params)
        return {**start.variables, "params": {**start.variables["params"], **learned}}

    def within_bounds(
        self, end: dict[str, Any], blend: float
    ) -> tuple[float, dict[str, Any], Scores, dict[float, Scores]]:
        """The largest share up to `blend` with which the anchors lose half a point at most.

        No case of theirs may lose more than two.

        Returns:
            The share, its variables, the anchors' scores before, and after for each share tried.
        """
        start = self._start.variables
        before = self.scores(start, self._anchor_cases)
        after: dict[float, Scores] = {}
        for share in (share for share in BLENDS if share <= blend):
            variables = blended(start, end, share)
            after[share] = self.scores(variables, self._anchor_cases)
            losses = [before[name].dsc - after[share][name].dsc for name in before]
            if not losses or (
                float(np.mean(losses)) <= LARGEST_LOSS and max(losses) <= LARGEST_LOSS_OF_ONE
            ):
                return share, variables, before, after
        return 0.0, start, before, after

    def _training_config(self, slices: int, name: str) -> TrainingConfig:
        config = replace(self._config, work_dir=str(Path(self._config.work_dir) / name))
        if config.steps_per_epoch:
            return config
        wanted = SLICES_SEEN * slices / config.data.batch_size
        wanted = STEPS_OF * round(wanted / STEPS_OF)  # few lengths: fewer programs to compile
        return replace(config, steps_per_epoch=min(max(wanted, FEWEST_STEPS), MOST_STEPS))

    @cached_property
    def _anchors_on_others(self) -> list[Anchor]:
        """Made once: the starting weights stay."""
        data = replace(self._config.data, flips=False)
        sample = FinetuneSample(data, self._size, None, use_boxes(self._anchor_cases))
        catalog = catalog_of(self._anchor_cases)
        return anchors_on_others(catalog, sample, self._engine, np.random.default_rng(data.seed))


def _minutes_left(began: float, trainings: int) -> str:
    """What so many trainings take, the last of all cases among them, if each is as the last one."""
    minutes = (time.monotonic() - began) * trainings / 60
    return f"about {max(1, round(minutes))} min left if it pays"


def shares_for(cases: int) -> tuple[float, ...]:
    """Which shares of what was learned are tried with so many cases, the largest first."""
    return tuple(share for share in BLENDS if cases > FEW or share <= 0.5)


def expectation(adapter: Adapter, cases: Sequence[LabelledCase], folds: int) -> Adaptation:
    """What held-out cases say of learning; its variables are the start's.

    Args:
        adapter: learns.
        cases: to learn from.
        folds: groups of cases that are held out in turn.

    Raises:
        DataError: unusable data.
        NotFiniteError: the loss or its gradient is not finite.
        SaveError: a checkpoint could not be written.
        Stopped: SIGTERM.
    """
    scores = adapter.held_out_scores(cases, folds)
    estimated = estimate(scores, adapter.cleaned)
    if mean(estimated.after).dsc - mean(estimated.before).dsc < LEAST_GAIN:
        estimated = replace(estimated, blend=0.0, step="")
    scores = adapter.cleaned[estimated.step] if estimated.step else scores
    shares = (0.0, *shares_for(len(cases)))
    means = {share: mean({n: s[share] for n, s in scores.items()}) for share in shares}
    return Adaptation(estimated.blend, adapter.start, estimated, means, {}, {})


def adapt(adapter: Adapter, cases: Sequence[LabelledCase], folds: int) -> Adaptation:
    """Estimates by held-out cases; if that gains, learns from all within the anchors' bound.

    Raises as `expectation` does.
    """
    expected = expectation(adapter, cases, folds)
    if not expected.blend:
        return expected
    devices.say(f"learning from all {len(cases)} cases")
    end = adapter.learn(cases, "all")
    blend, variables, before, after = adapter.within_bounds(end, expected.blend)
    return replace(
        expected, blend=blend, variables=variables, anchor_before=before, anchor_after=after
    )


def blended(start: dict[str, Any], end: dict[str, Any], share: float) -> dict[str, Any]:
    """start + share · (end - start) of every parameter; other collections are the start's.

    Source: Wortsman et al., Robust fine-tuning of zero-shot models (WiSE-FT), CVPR 2022.
    """
    first, last = flatten(start["params"]), flatten(end["params"])
    mixed = {name: first[name] + np.float32(share) * (last[name] - first[name]) for name in first}
    return {**start, "params": unflatten(mixed)}
