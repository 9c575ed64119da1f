"""Dividing cases into parts, the same way every time."""

import random
import re
from collections.abc import Sequence
from pathlib import Path

from litemedsam_jax.imaging import file_kinds

PARTS = ("training", "validation", "testing")


def divide(
    names: Sequence[str], validation: float, testing: float, seed: int, patient: str | None = None
) -> dict[str, list[str]]:
    """Case names to `PARTS`; each part sorted, none lost, none twice.

    Args:
        names: of the cases.
        validation: share of the cases (or of the patients), rounded; at least one if above 0.
        testing: likewise.
        seed: of the order in which cases are drawn.
        patient: a regular expression whose first group (or whole match) names the patient; cases
            of one patient stay together.

    Returns:
        The names of each part.

    Raises:
        ValueError: the shares leave nothing to train on, or a name holds no patient.
    """
    if validation < 0 or testing < 0 or validation + testing >= 1:
        raise ValueError(f"shares {validation:g} and {testing:g}; expected a sum below 1")
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(_patient_of(name, patient), []).append(name)
    order = sorted(groups)
    random.Random(seed).shuffle(order)
    counts = [max(1, round(share * len(order))) if share else 0 for share in (validation, testing)]
    if sum(counts) >= len(order):
        raise ValueError(
            f"{len(order)} {'patients' if patient else 'cases'} are too few for these shares"
        )
    chosen = {
        "validation": order[: counts[0]],
        "testing": order[counts[0] : sum(counts)],
        "training": order[sum(counts) :],
    }
    return {part: sorted(n for group in chosen[part] for n in groups[group]) for part in PARTS}


def files_by_case(folder: Path) -> dict[str, list[Path]]:
    """The files of each case in a folder and below it: same stem, an image's `_0000` aside.

    Raises:
        ValueError: there are none.
    """
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and file_kinds.suffix_of(path) and not path.name.startswith(".")
    ]
    stems = {file_kinds.stem_of(path) for path in files}
    by_case: dict[str, list[Path]] = {}
    for path in files:
        stem = file_kinds.stem_of(path)
        bare = stem.removesuffix("_0000")
        by_case.setdefault(bare if bare in stems else stem, []).append(path)
    if not by_case:
        raise ValueError(f"{folder}: holds no cases ({', '.join(file_kinds.SUFFIXES)})")
    return by_case


def _patient_of(name: str, pattern: str | None) -> str:
    if pattern is None:
        return name
    match = re.search(pattern, name)
    if match is None:
        raise ValueError(f"{name}: '{pattern}' finds no patient in this name (--patient)")
    return match.group(1) if match.re.groups else match.group()
