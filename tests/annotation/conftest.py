"""Editors whose journals are closed when a test ends."""

from collections.abc import Callable, Iterator

import pytest

from litemedsam_jax.annotation.editor import Editor


@pytest.fixture
def closed_later() -> Iterator[Callable[[Editor], Editor]]:
    """Takes an editor and gives it back."""
    editors: list[Editor] = []

    def keep(editor: Editor) -> Editor:
        editors.append(editor)
        return editor

    yield keep
    for editor in editors:
        editor.close()
