"""The weights that a server offers, each under a path of its own."""

from dataclasses import dataclass

from litemedsam_jax.imaging.postprocess import Step
from litemedsam_jax.inference.predictor import LiteMedSAM

DEFAULT = ""  # the name of those without a path


@dataclass(frozen=True)
class ServedWeights:
    """A model, and what is done to its masks.

    Attributes:
        model: Its engine is a `CachingEngine`; all of a server share the image encoder.
        steps: That clean masks of what is added, each slice by itself.
        note: What adapted weights say of themselves; "": nothing.
    """

    model: LiteMedSAM
    steps: tuple[Step, ...] = ()
    note: str = ""
