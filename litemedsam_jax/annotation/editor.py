"""Editing a document: steps that are journaled, undone and redone."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from litemedsam_jax.annotation.document import Document, Region, union
from litemedsam_jax.annotation.journal import Journal
from litemedsam_jax.annotation.operations import ExtendLayer, Operation, PutLayer, from_json


@dataclass
class _Step:
    """One entry of the history: what was done, and what takes it back (last first)."""

    done: list[Operation]
    back: list[Operation] = field(default_factory=list)


class Editor:
    """A document with a history.

    Attributes:
        document: What is edited; read it, change it through the editor alone.
        revision: Grows with every change.
    """

    def __init__(self, document: Document, journal: Journal | None = None):
        """Goes on where the journal ends; raises ValueError if it does not fit the document.

        Args:
            document: As the journal found it when it was begun.
            journal: None: nothing is kept.
        """
        self.document = document
        self.revision = 0
        self._journal: Journal | None = None
        self._replaying = True
        self._undo: list[_Step] = []
        self._redo: list[_Step] = []
        self._highest = 0  # numbers of layers are never used again
        for record in journal.records if journal else ():
            self._replay(record)
        if journal and journal.records:
            document.recompose(document.whole())
            journal.records.clear()
        self._journal, self._replaying = journal, False
        self._end_interrupted_propagations()

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to take back."""
        return bool(self._undo)

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to do again."""
        return bool(self._redo)

    def next_number(self) -> int:
        """A number that no layer has had, also none that was undone."""
        return max(self._highest, self.document.next_number() - 1) + 1

    @property
    def last_step(self) -> int | None:
        """The step that `undo` takes back, as `do` takes it for `extends`; None: there is none."""
        return len(self._undo) - 1 if self._undo else None

    def do(self, *operations: Operation, extends: int | None = None) -> dict[int, Region]:
        """Does operations as one step of the history; returns where the label map changed.

        Args:
            *operations: What to do, in order.
            extends: An earlier step that they belong to, and are undone with. What was done since
                must not concern the layers that they change.
        """
        step = _Step(list(operations))
        changed = self._run(step)
        try:
            self._append({"do": [op.to_json() for op in operations], "extends": extends})
        except BaseException:  # a full disk: what is not in the journal has not happened
            self._changed(_apply_all(step.back, self.document))
            raise
        self._remember(step, extends)
        return changed

    def undo(self) -> dict[int, Region]:
        """Takes the last step back; returns where the label map changed."""
        changed = self._undo_step()
        try:
            self._append({"undo": True})
        except BaseException:
            self._redo_step()
            raise
        return changed

    def redo(self) -> dict[int, Region]:
        """Does again what was taken back last; returns where the label map changed."""
        changed = self._redo_step()
        try:
            self._append({"redo": True})
        except BaseException:
            self._undo_step()
            raise
        return changed

    def close(self) -> None:
        """Closes the journal."""
        if self._journal:
            self._journal.close()

    def _run(self, step: _Step) -> dict[int, Region]:
        changed: dict[int, Region] = {}
        step.back = []
        try:
            for operation in step.done:
                back, regions = operation.apply(self.document)
                step.back.insert(0, back)
                _merge(changed, regions)
        except ValueError:  # a step is done whole or not at all
            _apply_all(step.back, self.document)
            raise
        self._changed(changed)
        return changed

    def _remember(self, step: _Step, extends: int | None) -> None:
        if extends is not None:
            before = self._undo[extends]
            before.done += step.done
            before.back = step.back + before.back
        else:
            self._undo.append(step)
            self._redo.clear()
        self._highest = self.next_number() - 1

    def _undo_step(self) -> dict[int, Region]:
        if not self._undo:
            raise ValueError("there is nothing to undo")
        step = self._undo.pop()
        changed = _apply_all(step.back, self.document)
        self._redo.append(step)
        self._changed(changed)
        return changed

    def _redo_step(self) -> dict[int, Region]:
        if not self._redo:
            raise ValueError("there is nothing to redo")
        step = self._redo.pop()
        changed = self._run(step)
        self._undo.append(step)
        return changed

    def _changed(self, regions: dict[int, Region]) -> None:
        self.revision += 1
        if not self._replaying:  # else once, at the end
            self.document.recompose(regions)

    def _append(self, record: dict[str, Any]) -> None:
        if self._journal is not None:
            self._journal.append(record)

    def _end_interrupted_propagations(self) -> None:
        """Previews whose final masks never came go; nobody has seen where the object ends."""
        for layer in list(self.document.layers):
            if layer.previews:
                final = {z: mask for z, mask in layer.masks.items() if z not in layer.previews}
                kept = replace(layer, masks=final, previews=frozenset())
                self.do(PutLayer(kept), extends=self._step_of(layer.number))

    def _step_of(self, number: int) -> int:
        """The last step that extended a layer."""
        return max(
            index
            for index, step in enumerate(self._undo)
            for operation in step.done
            if isinstance(operation, ExtendLayer) and operation.number == number
        )

    def _replay(self, record: dict[str, Any]) -> None:
        if "undo" in record:
            self._undo_step()
        elif "redo" in record:
            self._redo_step()
        else:
            step = _Step([from_json(data, self.document.shape) for data in record["do"]])
            self._run(step)
            self._remember(step, record["extends"])


def _apply_all(operations: Sequence[Operation], document: Document) -> dict[int, Region]:
    changed: dict[int, Region] = {}
    for operation in operations:
        _merge(changed, operation.apply(document)[1])
    return changed


def _merge(changed: dict[int, Region], more: dict[int, Region]) -> None:
    for z, region in more.items():
        changed[z] = union(changed[z], region) if z in changed else region
