"""The cases that were given to the server, and those that are open."""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litemedsam_jax.annotation.layers import Label
from litemedsam_jax.annotation.project import open_editor, progress
from litemedsam_jax.imaging.box_source import is_named_as_mask
from litemedsam_jax.imaging.file_kinds import cases_in
from litemedsam_jax.imaging.label_files import output_name
from litemedsam_jax.imaging.opened_image import labels_beside, open_image
from litemedsam_jax.serving.case_session import CaseSession

# Cases kept open beside the one in use; each goes on from its journal when it is opened again.
_OPEN_BYTES = 700 << 20


@dataclass(frozen=True)
class CaseEntry:
    """A case that may be opened: its number in addresses, its file, where its work goes."""

    number: int
    path: Path
    folder: Path


class Workspace:
    """Cases by number; paths never come from a request.

    Attributes:
        output: The folder that everything is written to.
        read_only: Whether nothing is.
        masks: Files that are named as masks, but not as that of one image; see `mask`.
    """

    def __init__(
        self,
        inputs: Iterable[Path],
        output: Path | None = None,
        labels: Iterable[Label] = (),
        read_only: bool = False,
    ):
        """Finds the cases.

        Args:
            inputs: Files, DICOM folders, and folders of such.
            output: None: `annotations` in the first folder.
            labels: Names and colours for cases that have none yet.
            read_only: Whether nothing is written.

        Raises:
            FileNotFoundError: An input is missing. ValueError: There is no case, or two cases
                would be saved to one file.
        """
        given = list(inputs)
        self.output = output or _default_output(given[0])
        self.read_only = read_only
        self._labels = list(labels)
        images, self.masks = _images_and_masks(given)
        self.entries = _entries(images, self.output)
        self._open: OrderedDict[int, CaseSession] = OrderedDict()
        self._lock = threading.Lock()

    def describe(self) -> list[dict[str, Any]]:
        """The cases, as the page lists them."""
        return [
            {"id": e.number, "name": e.path.name, "progress": progress(e.path, e.folder)}
            for e in self.entries
        ]

    def entry(self, number: int) -> CaseEntry:
        """A case by its number; raises KeyError."""
        if not 0 <= number < len(self.entries):
            raise KeyError(f"there is no case {number}")
        return self.entries[number]

    def mask(self, number: int) -> Path:
        """A mask file by its number; raises KeyError."""
        if not 0 <= number < len(self.masks):
            raise KeyError(f"there is no mask {number}")
        return self.masks[number]

    def session(self, number: int) -> CaseSession:
        """A case, opened if it is not yet; raises KeyError, ValueError, OSError."""
        entry = self.entry(number)
        with self._lock:
            session = self._open.get(number)
            if session is None:
                image = open_image(entry.path)
                editor, notes = open_editor(
                    image, entry.folder, self._labels, write=not self.read_only
                )
                session = self._open[number] = CaseSession(
                    number, image, editor, [*image.notes, *notes]
                )
            self._open.move_to_end(number)
            self._close_some()
            return session

    def close(self) -> None:
        """Closes all journals."""
        with self._lock:
            for session in self._open.values():
                session.editor.close()
            self._open.clear()

    def _close_some(self) -> None:
        for number in list(self._open)[:-1]:
            session = self._open[number]
            if sum(s.bytes for s in self._open.values()) <= _OPEN_BYTES:
                return
            with session.lock:
                if session.propagation is None:
                    session.editor.close()
                    del self._open[number]


def _default_output(first: Path) -> Path:
    folder = first if first.is_dir() and cases_in(first) != [first] else first.parent
    return folder / "annotations"


def _images_and_masks(given: list[Path]) -> tuple[list[Path], list[Path]]:
    """The images among the inputs, and masks that belong to none of them by name."""
    paths: list[Path] = []
    for path in given:
        paths += [p for p in cases_in(path) if p not in paths]
    matched = {labels.resolve() for p in paths if (labels := labels_beside(p, p.parent))}
    paths = [p for p in paths if p.resolve() not in matched]
    if not paths:
        raise ValueError(f"{given[0]}: holds no image; expected npz or image files")
    # A file that was named itself is an image, whatever it is called.
    masks = [p for p in paths if is_named_as_mask(p) and p not in given]
    if len(masks) == len(paths):
        return paths, []
    return [p for p in paths if p not in masks], masks


def _entries(paths: list[Path], output: Path) -> list[CaseEntry]:
    entries: list[CaseEntry] = []
    taken: dict[Path, Path] = {}
    several = len({p.parent.resolve() for p in paths}) > 1
    for path in paths:
        folder = output / path.parent.name if several else output
        target = folder / output_name(path)
        if target in taken:
            raise ValueError(
                f"{path} and {taken[target]} would both be saved as {target}; open them one by one"
            )
        taken[target] = path
        entries.append(CaseEntry(len(entries), path, folder))
    return entries
