"""What adapted weights say of themselves: written by `litemedsam adapt`, printed by `infer.py`."""

import json
from pathlib import Path

from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.safetensors_file import read_metadata

KEY = "adaptation"  # of the metadata: a JSON object with a `summary`
_LONGEST = 300  # characters


def adaptation_note(path: str | Path) -> str | None:
    """The sentence that adapted weights carry; None for others, and for files that are none."""
    try:
        record = json.loads(read_metadata(path).get(KEY, "null"))
    except (CheckpointError, OSError, ValueError, RecursionError):
        return None  # whoever reads the weights says what is wrong with them
    text = record.get("summary") if isinstance(record, dict) else None
    if not isinstance(text, str):
        return None
    return "".join(c if c.isprintable() else " " for c in text)[:_LONGEST]
