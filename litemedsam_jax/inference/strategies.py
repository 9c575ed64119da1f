"""What may be done beyond the reference's way of prompting, by name.

`reference` and `clean` follow one mask from slice to slice (see `volume`). The others are made of
parts; docs/accuracy.md has the measurements behind the choice and behind the numbers.
"""

from dataclasses import dataclass

PARTS = {
    "box": "volumes: every slice is prompted with the box as given",
    "ellipsoid": "volumes: the box shrinks towards the ends as an ellipsoid's sections do",
    "propagate": "volumes: the box around the mask of the slice before, kept within the box given",
    "prior": "volumes: logits are raised in the box's ellipsoid and lowered outside of it",
    "clip": "nothing outside the box as given",
    "margin": "pictures: the box is widened as boxes were in training",
    "zoom": "pictures: small objects are seen a second time, enlarged (more encoder passes)",
    "mirror": "all is seen a second time, mirrored (twice the encoder passes)",
}
_FOLLOWING = ("reference", "clean")
_BEST = frozenset({"box", "ellipsoid", "propagate", "prior", "clip", "margin", "zoom"})


@dataclass(frozen=True)
class Strategy:
    """How boxes become masks.

    Attributes:
        name: as given.
        parts: of `PARTS`; none for `reference` and `clean`.
        most_windows: enlarged windows that one picture may have.
    """

    name: str
    parts: frozenset[str] = frozenset()
    most_windows: int = 12

    @property
    def follows(self) -> bool:
        """Whether it is one of those that follow a single mask, the reference's way."""
        return not self.parts


def parse(text: str) -> Strategy:
    """A strategy from its name, or from parts joined by "+": "box+ellipsoid+clip".

    Raises:
        ValueError: there is no such strategy or part.
    """
    if text in _FOLLOWING:
        return Strategy(text)
    if text == "best":
        return Strategy(text, _BEST)
    if text == "thorough":
        return Strategy(text, _BEST | {"mirror"}, most_windows=20)
    parts = frozenset(text.split("+"))
    if unknown := sorted(parts - PARTS.keys()):
        raise ValueError(
            f"there is no strategy '{unknown[0]}'; choose from "
            f"{', '.join((*_FOLLOWING, 'best', 'thorough'))}, or join parts by '+': "
            f"{', '.join(PARTS)}"
        )
    return Strategy(text, parts)
