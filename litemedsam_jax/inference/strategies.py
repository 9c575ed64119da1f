"""What may be done beyond the reference's way of prompting, by name.

`reference` and `clean` propagate one mask from slice to slice (see `propagation`). The others are
ensembles made of parts (see `ensemble_volume`, `ensemble_image`); docs/accuracy.md has the
measurements behind the choice and behind the numbers.
"""

from dataclasses import dataclass, field, fields, replace

# Encoder passes that one image may take, whatever the number of its boxes.
MOST_PASSES, THOROUGH_PASSES = 6, 16


@dataclass(frozen=True)
class SingleMask:
    """One prompt a slice, the mask of which prompts the next slice: the reference's way.

    Attributes:
        name: as given.
        by_label: a mask is resized with its label as foreground value before its box is taken, as
            the reference does, so that results depend on the order of boxes.
    """

    name: str
    by_label: bool


def _part(text: str) -> bool:
    """A part of an ensemble, off unless asked for."""
    return field(default=False, metadata={"part": text})


@dataclass(frozen=True)
class Ensemble:
    """Several prompts an object, whose logits are averaged.

    Attributes:
        name: as given.
        max_passes: encoder passes that one image may take; the image itself takes one, and as many
            as remain go to enlarged windows. `mirror` doubles both.
    """

    name: str
    box: bool = _part("volumes: every slice is prompted with the box as given")
    ellipsoid: bool = _part(
        "volumes: the box shrinks towards the ends as an ellipsoid's sections do"
    )
    propagate: bool = _part(
        "volumes: the box around the mask of the slice before, kept within the box given"
    )
    prior: bool = _part("logits are raised in the box's ellipsoid and lowered outside of it")
    intensity: bool = _part("pixels with the intensities of the object's masks so far are raised")
    clip: bool = _part("nothing outside the box as given")
    margin: bool = _part("images: the box is widened as boxes were in training")
    extent: bool = _part("images: logits are raised until the mask reaches the sides of its box")
    zoom: bool = _part("images: small objects are encoded again, enlarged (more encoder passes)")
    mirror: bool = _part("everything is encoded again, mirrored (twice the encoder passes)")
    max_passes: int = MOST_PASSES

    @property
    def max_windows(self) -> int:
        """Enlarged windows that one image may have, each of them mirrored if the image is."""
        return max(0, self.max_passes // (2 if self.mirror else 1) - 1)


Strategy = SingleMask | Ensemble

PARTS = {one.name: one.metadata["part"] for one in fields(Ensemble) if "part" in one.metadata}
REFERENCE = SingleMask("reference", by_label=True)
CLEAN = SingleMask("clean", by_label=False)
THOROUGH = Ensemble("thorough", **dict.fromkeys(PARTS, True), max_passes=THOROUGH_PASSES)
BEST = replace(THOROUGH, name="best", mirror=False, max_passes=MOST_PASSES)
NAMED: dict[str, Strategy] = {one.name: one for one in (REFERENCE, CLEAN, BEST, THOROUGH)}


def parse(strategy: str | Strategy) -> Strategy:
    """A strategy from its name, or from parts joined by "+": "box+ellipsoid+clip".

    Args:
        strategy: the text; a strategy is returned as it is.

    Raises:
        ValueError: there is no such strategy or part.
    """
    if not isinstance(strategy, str):
        return strategy
    if strategy in NAMED:
        return NAMED[strategy]
    parts = dict.fromkeys(strategy.split("+"), True)
    if unknown := sorted(parts.keys() - PARTS.keys()):
        raise ValueError(
            f"there is no strategy '{unknown[0]}'; choose from {', '.join(NAMED)}, or join parts "
            f"by '+': {', '.join(PARTS)}"
        )
    return Ensemble(strategy, **parts)


def parts_of(strategy: Ensemble) -> frozenset[str]:
    """The names of an ensemble's parts."""
    return frozenset(name for name in PARTS if getattr(strategy, name))
