"""`config.json` of a work folder: written by every run, compared with the flags on --resume."""

import json
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from litemedsam_jax.files import replacing
from litemedsam_jax.training.config import TrainingConfig
from litemedsam_jax.weights.errors import CheckpointError

_NAME = "config.json"


def write_config(folder: Path, config: TrainingConfig) -> None:
    """Writes every option of a run, defaults included."""
    with replacing(folder / _NAME) as beside:
        beside.write_text(json.dumps(asdict(config), indent=2) + "\n")


def resume_notes(folder: Path, config: TrainingConfig) -> list[str]:
    """How a run that is about to be resumed differs from what it was started with.

    Args:
        folder: the work folder.
        config: what the flags say now, which is what the run goes on with.

    Returns:
        A line for each difference that changes the result; none for those that do not (workers,
        how often something is written).

    Raises:
        CheckpointError: a difference after which the checkpoint would no longer mean the same.
    """
    try:
        stored = json.loads((folder / _NAME).read_text())
        if not isinstance(stored, dict):
            raise ValueError("expected an object")
    except (OSError, ValueError) as error:
        return [f"note: {folder / _NAME} cannot be read ({error}): options were not compared"]
    current = json.loads(json.dumps(asdict(config)))
    refused, notes = [], []
    for path, on_resume in _options(config):
        before, now = _at(stored, path), _at(current, path)
        if before == now or on_resume == "ignore":
            continue
        text = f"{'.'.join(path)} was {_text(before)} and is {_text(now)} now"
        if on_resume == "refuse":
            refused.append(text)
        else:
            notes.append(f"note: {text}")
    if refused:
        raise CheckpointError(
            f"{folder}: this run was started with other options: {'; '.join(refused)}. Resume it "
            "with the same, or start a new run in another -work_dir."
        )
    return notes


def _options(config: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Paths of the options, and what another value means; a field without a flag is refused."""
    for one in fields(config):
        value, path = getattr(config, one.name), (*above, one.name)
        if is_dataclass(value) and one.name != "model":
            yield from _options(value, path)
        else:
            yield path, one.metadata.get("on_resume", "refuse")


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("name", "another"))
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "not known" if value is None else str(value)
