"""The strategies and settings that were tried, each by a name: parts, and constants set apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from litemedsam_jax.imaging import zoom_windows
from litemedsam_jax.inference import ensemble_image, ensemble_volume


@dataclass(frozen=True)
class Candidate:
    """A strategy by name or parts, with constants of the modules that differ from the code's."""

    name: str
    strategy: str
    constants: dict[str, Any] = field(default_factory=dict)


# What `best` was before intensities were used and small boxes put ahead.
_FIRST = {"CLIP": 4.0, "SIZE_WEIGHT": 0.0}
# What it was for images before prior, intensities and extent were used.
_SECOND = "clip+margin+zoom"
VOLUMES = [
    Candidate("reference", "reference"),
    Candidate("best of the first round", "box+ellipsoid+propagate+prior+clip", _FIRST),
    Candidate(
        "prior 4, no intensities", "box+ellipsoid+propagate+prior+clip", {"PRIOR_WEIGHT": 4.0}
    ),
    Candidate("prior 4, intensities 1", "best", {"PRIOR_WEIGHT": 4.0, "INTENSITY_WEIGHT": 1.0}),
    Candidate("prior 4", "best", {"PRIOR_WEIGHT": 4.0}),
    Candidate("best", "best"),
    Candidate("thorough", "thorough"),
]
PICTURES = [
    Candidate("reference", "reference"),
    Candidate("clipped", "clip"),
    *(Candidate(f"margin {m}", "margin+clip", {"MARGINS": (m,)}) for m in (3, 5, 8)),
    Candidate("margins 5, 8", "margin+clip"),
    Candidate("zoom", "zoom+clip"),
    *(
        Candidate(f"second round, window {t:g} boxes", _SECOND, {"TIMES_THE_BOX": t})
        for t in (2.0, 2.5, 4.0)
    ),
    Candidate("second round, margin 5", _SECOND, {"MARGINS": (5,)}),
    Candidate("second round, widened boxes always", _SECOND, {"AGREEMENT": 0.0}),
    Candidate("second round", _SECOND),
    Candidate("best, no prior", f"{_SECOND}+intensity+extent"),
    Candidate("best, no intensities", f"{_SECOND}+prior+extent"),
    Candidate("best, no extent", f"{_SECOND}+prior+intensity"),
    Candidate("best, extent 0.95", "best", {"EXTENT": 0.95}),
    Candidate("best", "best"),
    Candidate("thorough", "thorough"),
]
_MODULES = (ensemble_image, ensemble_volume, zoom_windows)


@contextmanager
def settings(candidate: Candidate) -> Iterator[None]:
    """Sets a candidate's constants for the time of a `with` block."""
    before = [
        (module, name, getattr(module, name))
        for name in candidate.constants
        for module in _MODULES
        if hasattr(module, name)
    ]
    try:
        for module, name, _ in before:
            setattr(module, name, candidate.constants[name])
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
