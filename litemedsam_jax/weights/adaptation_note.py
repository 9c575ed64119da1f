"""What adapted weights say of themselves: `litemedsam adapt` writes it, who segments reads it."""

import json
from dataclasses import dataclass
from pathlib import Path

from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.safetensors_file import read_metadata

KEY = "adaptation"  # of the metadata: a JSON object with `summary`, `strategy`, `postprocess`
# In the place of a strategy: volumes from one box on one slice of each object, propagated.
FROM_SLICE = "slice"
_LONGEST = 300  # characters


@dataclass(frozen=True)
class AdaptationNote:
    """What was found on held-out cases.

    Attributes:
        summary: one printable line, with the scores.
        strategy: with which these cases were segmented.
        postprocess: the step of `--postprocess` that was chosen for their masks; "": none.
    """

    summary: str
    strategy: str = ""
    postprocess: str = ""


def adaptation_note(path: str | Path) -> AdaptationNote | None:
    """The note that adapted weights carry; None for others, and for files that are none."""
    try:
        record = json.loads(read_metadata(path).get(KEY, "null"))
    except (CheckpointError, OSError, ValueError, RecursionError):
        return None  # whoever reads the weights says what is wrong with them
    if not isinstance(record, dict) or not isinstance(record.get("summary"), str):
        return None
    texts = [record.get(key) for key in ("summary", "strategy", "postprocess")]
    return AdaptationNote(*(_printable(text) if isinstance(text, str) else "" for text in texts))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:_LONGEST]
