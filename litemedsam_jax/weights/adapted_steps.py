"""Which cleaning steps belong to weights that `litemedsam adapt` wrote."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from litemedsam_jax.imaging.postprocess import OF_SLICES, Step, parse
from litemedsam_jax.weights.adaptation_note import FROM_SLICE, adaptation_note


@dataclass(frozen=True)
class MaskSteps:
    """What is done to a model's masks.

    Attributes:
        steps: taken in this order.
        line: on adapted weights and what is applied, for whoever chose them; "": nothing to say.
    """

    steps: tuple[Step, ...] = ()
    line: str = ""


def steps_for(
    weights: Path | None,
    strategy: str,
    asked: Sequence[Step] | None = None,
    by_slice: bool = False,
) -> MaskSteps:
    """The steps for masks that weights make with a strategy.

    Adapted weights name the step that was chosen on held-out cases. It is applied to masks of the
    strategy with which it was chosen; those of another need not lack what it mends.

    Args:
        weights: a file; None: the default ones, which are not adapted.
        strategy: the name of that of the masks.
        asked: by the user; None: nothing was said. Steps that are asked for take the place of those
            that the weights name.
        by_slice: boxes are drawn on slices, of which masks are made one by one: a step that needs
            the whole of a mask is not applied.

    Raises:
        ValueError: such a step was asked for.
    """
    if by_slice and (whole := [one.name for one in asked or () if one.name not in OF_SLICES]):
        expected = ", ".join(sorted(OF_SLICES))
        raise ValueError(f"--postprocess {whole[0]} needs the whole mask; here: {expected}, none")
    note = None if weights is None else adaptation_note(weights)
    if note is None:
        return MaskSteps(tuple(asked or ()))
    chosen = note.postprocess
    if asked is not None or not chosen:
        return MaskSteps(tuple(asked or ()), note.summary)
    try:
        steps = parse(chosen)
    except ValueError:
        return MaskSteps((), f"{note.summary}; not applied: there is no step '{chosen}' here")
    why_not = ""
    if note.strategy == FROM_SLICE and not by_slice:
        why_not = "was chosen for volumes with boxes on one slice, so it is not applied here"
    elif note.strategy not in (strategy, FROM_SLICE):
        why_not = f"was chosen with --strategy {note.strategy}, so it is not applied here"
    elif by_slice and not all(step.name in OF_SLICES for step in steps):
        why_not = "needs the whole mask, so it is not applied here"
    if why_not:
        return MaskSteps((), f"{note.summary}; {chosen} {why_not}")
    return MaskSteps(steps, f"{note.summary}; {chosen} is applied (--postprocess none: without)")
