"""Where a case's work is kept: its journal, the masks it began with, the files it is saved to."""

import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from litemedsam_jax.annotation.document import Document
from litemedsam_jax.annotation.editor import Editor
from litemedsam_jax.annotation.journal import Journal
from litemedsam_jax.annotation.layers import Label, default_label
from litemedsam_jax.imaging.file_kinds import stem_of
from litemedsam_jax.imaging.label_files import output_name
from litemedsam_jax.imaging.npz import read_npz, write_npz
from litemedsam_jax.imaging.opened_image import OpenedImage, labels_beside, read_labels_for

_JOURNALS = ".annotation"


def journal_path(image: Path, folder: Path) -> Path:
    """Where the journal of an image's masks lies in the output folder."""
    return folder / _JOURNALS / f"{image.name}.jsonl"


def progress(image: Path, folder: Path) -> str:
    """`new`, `edited` (steps that were not saved yet) or `saved`, from the files alone."""
    journal, saved = journal_path(image, folder), folder / output_name(image)
    if not saved.exists():
        return "edited" if journal.exists() and _has_steps(journal) else "new"
    if journal.exists() and journal.stat().st_mtime_ns > saved.stat().st_mtime_ns:
        return "edited"
    return "saved"


def open_editor(
    image: OpenedImage, folder: Path, labels: Iterable[Label] = (), write: bool = True
) -> tuple[Editor, list[str]]:
    """An editor that goes on where the work on an image ended, and notes for the user.

    Without a journal it begins with the masks saved in `folder`, else with those in a file beside
    the image that is named as its mask, else with none.

    Args:
        image: The image.
        folder: Where its masks and its journal are kept.
        labels: Names and colours for a case that has none yet.
        write: Whether a journal is kept; otherwise nothing on disk is touched.

    Raises:
        ValueError: Masks or journal do not fit the image. OSError: They cannot be read or written.
    """
    journal_file = journal_path(image.path, folder)
    kept = journal_file.with_suffix(".npz")
    notes: list[str] = []
    if journal_file.exists():
        initial = read_npz(kept, ("labels",))["labels"] if kept.exists() else None
    else:
        initial, notes = _initial_masks(image, folder)
        if write and initial is not None:
            write_npz(kept, labels=initial)
        elif write:
            kept.unlink(missing_ok=True)
    names = _saved_names(folder / f"{stem_of(image.path)}.labels.json")
    document = Document(image.shape, initial, names or labels)
    if not document.labels:
        document.labels[1] = default_label(1)
    opened = None
    if write or journal_file.exists():
        opened = Journal(journal_file, _identity(image, initial), write)
    return Editor(document, opened), notes


def read_label_names(path: Path) -> list[Label]:
    """Labels from a JSON file: a list of {"value", "name", "colour"}, or of names.

    Raises:
        ValueError: It is no such file. OSError: It cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, list):
            raise ValueError("expected a list")
        entries = [
            {"value": k, "name": entry} if isinstance(entry, str) else entry
            for k, entry in enumerate(content, start=1)
        ]
        return [Label.from_json(entry) for entry in entries]
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f'{path}: is no list of labels such as [{{"value": 1, "name": "liver"}}] ({error})'
        ) from None


def _saved_names(path: Path) -> list[Label]:
    return read_label_names(path) if path.exists() else []


def _initial_masks(image: OpenedImage, folder: Path) -> tuple[np.ndarray | None, list[str]]:
    saved = folder / output_name(image.path)
    if saved.exists() and saved.resolve() != image.path.resolve():
        return read_labels_for(image, saved), [f"goes on from the saved {saved.name}"]
    beside = labels_beside(image.path, image.path.parent)
    if beside is None:
        return None, []
    try:
        return read_labels_for(image, beside), [f"begins with {beside.name}"]
    except (ValueError, OSError) as error:  # somebody else's file: no reason not to work
        return None, [f"{beside.name} was not loaded: {error}"]


def _has_steps(journal: Path) -> bool:
    with journal.open("rb") as file:
        file.readline()
        return bool(file.readline())


def _identity(image: OpenedImage, initial: np.ndarray | None) -> dict[str, Any]:
    """What tells whether a journal is of this image, and of the masks that it began with."""
    depth, checksum = image.shape[0], 0
    for z in sorted({0, depth // 2, depth - 1}):
        checksum = zlib.crc32(np.ascontiguousarray(image.values[z]).data, checksum)
    begun = 0 if initial is None else zlib.crc32(np.ascontiguousarray(initial).data)
    return {"shape": list(image.shape), "values": checksum, "initial": begun}
