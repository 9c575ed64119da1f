"""In which precision the network's large products are computed."""

from typing import NamedTuple

from litemedsam_jax.engine import processor

FLOAT32, BFLOAT16, AUTO = "float32", "bfloat16", "auto"
PRECISIONS = (FLOAT32, BFLOAT16, AUTO)


class Choice(NamedTuple):
    """A precision, and what its user should know.

    Attributes:
        precision: "float32" or "bfloat16".
        note: a sentence; empty where there is nothing to say.
    """

    precision: str
    note: str


def name_in(precision: str, name: str) -> str:
    """The name of a program in a precision; that of float32 has no suffix."""
    return name if precision == FLOAT32 else f"{name}_{precision}"


def choose(precision: str, device: str | None, features: frozenset[str] | None = None) -> Choice:
    """What a precision that was asked for means on a device.

    Args:
        precision: one of `PRECISIONS`.
        device: "cpu", "gpu", "tpu"; None: an accelerator.
        features: the processor's; None: this host's.

    Raises:
        ValueError: it is none of `PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision '{precision}': expected {', '.join(PRECISIONS)}")
    if precision == FLOAT32:
        return Choice(FLOAT32, "")
    if device != "cpu":
        if precision == AUTO:
            return Choice(FLOAT32, "precision: float32 (auto chooses bfloat16 on CPUs alone)")
        return Choice(BFLOAT16, "")
    hardware = processor.bfloat16_hardware(features)
    if precision == AUTO:
        if hardware:
            return Choice(BFLOAT16, f"precision: bfloat16 (this processor has {hardware})")
        return Choice(FLOAT32, "precision: float32 (this processor has no bfloat16)")
    if hardware:
        return Choice(BFLOAT16, "")
    return Choice(
        BFLOAT16, "precision: bfloat16, which this processor lacks: it is no faster than float32"
    )
