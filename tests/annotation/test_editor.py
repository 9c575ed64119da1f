"""Editing without a server: layers, locks, history, journal."""

import json

import numpy as np
import pytest

from litemedsam_jax.annotation import edits
from litemedsam_jax.annotation.document import Document
from litemedsam_jax.annotation.editor import Editor
from litemedsam_jax.annotation.journal import Journal
from litemedsam_jax.annotation.layers import Label, Layer, default_label
from litemedsam_jax.annotation.operations import (
    DropLabel,
    DropLayer,
    ExtendLayer,
    PutLabel,
    PutLayer,
    PutRange,
)
from litemedsam_jax.annotation.run_lengths import encode_cropped

SHAPE = (4, 20, 30)
IDENTITY = {"shape": list(SHAPE)}


def square(top, left, bottom, right):
    mask = np.zeros(SHAPE[1:], bool)
    mask[top:bottom, left:right] = True
    return mask


def layer(editor, label, mask, z=1, adds=True, number=None) -> Layer:
    number = editor.next_number() if number is None else number
    return edits.mask_layer(
        editor.document, number, "paint", label, adds, {z: encode_cropped(mask)}
    )


@pytest.fixture
def editor():
    return Editor(Document(SHAPE, labels=[default_label(1), default_label(2)]))


def put(editor, label, mask, **more) -> int:
    made = layer(editor, label, mask, **more)
    editor.do(PutLayer(made))
    return made.number


def test_layers_add_up_in_their_order(editor):
    one, two = square(2, 2, 10, 10), square(6, 6, 14, 14)
    put(editor, 1, one)
    put(editor, 2, two)
    put(editor, 2, square(6, 6, 8, 30), adds=False)
    expected = np.zeros(SHAPE[1:], int)
    expected[one], expected[two] = 1, 2
    expected[6:8, 6:30][expected[6:8, 6:30] == 2] = 0
    np.testing.assert_array_equal(editor.document.voxels[1], expected)
    assert not editor.document.voxels[[0, 2, 3]].any()


def test_a_moved_box_gives_back_what_lay_under_it(editor):
    put(editor, 1, square(0, 0, 10, 10))
    number = put(editor, 2, square(5, 5, 15, 15))
    editor.do(PutLayer(layer(editor, 2, square(12, 20, 18, 28), number=number)))
    expected = square(0, 0, 10, 10) * 1 + square(12, 20, 18, 28) * 2
    np.testing.assert_array_equal(editor.document.voxels[1], expected)


def test_locked_labels_are_neither_overwritten_nor_changed(editor):
    put(editor, 1, square(0, 0, 10, 10))
    editor.do(PutLabel(Label(1, "liver", "#56B4E9", locked=True)))
    put(editor, 2, square(5, 5, 15, 15))
    voxels = editor.document.voxels[1]
    assert (voxels[0:10, 0:10] == 1).all() and voxels[12, 12] == 2
    with pytest.raises(ValueError, match="liver is locked"):
        layer(editor, 1, square(0, 0, 2, 2))
    # What was drawn while it was locked stays so when it is unlocked.
    editor.do(PutLabel(Label(1, "liver", "#56B4E9")))
    assert (editor.document.voxels[1, 0:10, 0:10] == 1).all()


def test_everything_can_be_undone_to_the_start_and_redone(editor):
    states = [editor.document.voxels.copy()]
    number = put(editor, 1, square(0, 0, 10, 10))
    states.append(editor.document.voxels.copy())
    for operation in (
        PutLabel(default_label(3)),
        PutLayer(layer(editor, 2, square(3, 3, 6, 6), z=2)),
        PutRange(1, (0, 2)),
        DropLayer(number),
        DropLabel(2),
    ):
        editor.do(operation)
        states.append(editor.document.voxels.copy())
    described = editor.document.describe()
    for state in reversed(states[:-1]):
        editor.undo()
        np.testing.assert_array_equal(editor.document.voxels, state)
    assert not editor.can_undo and not editor.document.layers
    for state in states[1:]:
        editor.redo()
        np.testing.assert_array_equal(editor.document.voxels, state)
    assert editor.document.describe() == described and not editor.can_redo


def test_a_label_that_is_removed_comes_back_whole():
    initial = np.zeros(SHAPE, np.uint8)
    initial[2, 3:6, 3:6] = 7
    editor = Editor(Document(SHAPE, initial))
    put(editor, 7, square(10, 10, 12, 12))
    before = editor.document.voxels.copy()
    editor.do(DropLabel(7))
    assert not editor.document.voxels.any()
    editor.undo()
    np.testing.assert_array_equal(editor.document.voxels, before)
    assert initial.sum() == 63  # what was loaded is not changed


def test_what_extends_a_step_is_undone_with_it(editor):
    number = put(editor, 1, square(0, 0, 10, 10))
    for z in (2, 3):
        editor.do(
            ExtendLayer(
                number,
                {z: encode_cropped(square(0, 0, 5, 5))},
            ),
            extends=0,
        )
    assert editor.document.voxels[2:].sum() == 50
    after = editor.document.voxels.copy()
    editor.undo()
    assert not editor.document.voxels.any() and not editor.can_undo
    editor.redo()
    np.testing.assert_array_equal(editor.document.voxels, after)


def test_what_was_done_meanwhile_is_undone_by_itself(editor):
    number = put(editor, 1, square(0, 0, 10, 10))
    growing = editor.last_step
    editor.do(ExtendLayer(number, {2: encode_cropped(square(0, 0, 5, 5))}), extends=growing)
    put(editor, 2, square(3, 3, 8, 8), z=2)
    editor.do(ExtendLayer(number, {3: encode_cropped(square(0, 0, 5, 5))}), extends=growing)
    after = editor.document.voxels.copy()
    editor.undo()
    assert not (editor.document.voxels == 2).any()
    editor.do(ExtendLayer(number, {0: encode_cropped(square(0, 0, 2, 2))}), extends=growing)
    editor.redo()
    assert (editor.document.voxels == 2).sum() == (after == 2).sum() == 25
    editor.undo()
    editor.undo()
    assert not editor.document.voxels.any() and not editor.can_undo


def test_a_step_that_fails_changes_nothing(editor):
    put(editor, 1, square(0, 0, 10, 10))
    before = editor.document.voxels.copy()
    with pytest.raises(ValueError, match="not there"):
        editor.do(PutLayer(layer(editor, 2, square(0, 0, 5, 5))), DropLayer(99))
    np.testing.assert_array_equal(editor.document.voxels, before)
    assert len(editor.document.layers) == 1


class TestJournal:
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "case.jsonl"

    @pytest.fixture
    def open(self, closed_later):
        def start(path) -> Editor:
            document = Document(SHAPE, labels=[default_label(1)])
            return closed_later(Editor(document, Journal(path, IDENTITY)))

        return start

    @pytest.fixture
    def drawn(self, open, path) -> Editor:
        editor = open(path)
        put(editor, 1, square(0, 0, 10, 10))
        editor.do(PutLabel(default_label(2)))
        number = put(editor, 2, square(5, 5, 15, 15), z=2)
        editor.do(ExtendLayer(number, {3: encode_cropped(square(0, 0, 4, 4))}), extends=2)
        put(editor, 2, square(0, 20, 5, 25))
        editor.undo()
        editor.close()
        return editor

    def test_work_goes_on_where_it_ended(self, open, drawn, path):
        before = drawn
        after = open(path)
        np.testing.assert_array_equal(after.document.voxels, before.document.voxels)
        assert after.document.describe() == before.document.describe()
        assert after.can_redo
        after.redo()
        assert after.document.voxels[1, 2, 22] == 2
        for _ in range(4):
            after.undo()
        assert not after.document.voxels.any() and not after.can_undo

    def test_previews_of_a_killed_propagation_go(self, open, path):
        editor = open(path)
        number = put(editor, 1, square(0, 0, 10, 10))
        patch = encode_cropped(square(0, 0, 5, 5))
        editor.do(PutLabel(default_label(2)))
        editor.do(ExtendLayer(number, {2: patch}))
        growing = editor.last_step
        editor.do(ExtendLayer(number, {3: patch}, final=False), extends=growing)
        editor.do(ExtendLayer(number, {0: patch}, final=False), extends=growing)
        editor.do(ExtendLayer(number, {0: patch}), extends=growing)
        put(editor, 2, square(15, 15, 18, 18), z=3)
        assert (editor.document.voxels[3] == 1).any()
        editor.close()
        for _ in range(2):
            after = open(path)
            assert [(plane == 1).sum() for plane in after.document.voxels] == [25, 100, 25, 0]
            assert not after.document.layer(number).previews
            after.close()
        after = open(path)
        after.undo()
        after.undo()
        assert [plane.sum() for plane in after.document.voxels] == [0, 100, 0, 0]

    def test_a_line_cut_short_by_a_kill_is_left_out(self, open, drawn, path):
        whole = path.read_bytes()
        for cut in range(len(whole) - 1, whole.index(b"\n"), -97):
            path.write_bytes(whole[:cut])
            editor = open(path)
            put(editor, 1, square(15, 15, 18, 18))
            editor.close()
            again = open(path)
            np.testing.assert_array_equal(again.document.voxels, editor.document.voxels)
            again.close()

    def test_another_image_of_the_same_name_is_refused(self, drawn, path):
        with pytest.raises(ValueError, match="another image"):
            Journal(path, {"shape": [4, 20, 31]})

    def test_what_is_no_journal_is_refused_and_left_alone(self, path):
        path.write_text("hello\nworld\n")
        with pytest.raises(ValueError, match="no journal"):
            Journal(path, IDENTITY)
        assert path.read_text() == "hello\nworld\n"

    def test_two_processes_do_not_write_one_journal(self, open, path):
        editor = open(path)
        with pytest.raises(ValueError, match="another `litemedsam annotate`"):
            open(path)
        editor.close()
        open(path).close()

    def test_reading_alone_touches_nothing(self, drawn, path):
        before = path.read_bytes() + b'{"torn'
        path.write_bytes(before)
        journal = Journal(path, IDENTITY, write=False)
        assert len(journal.records) == 6
        journal.append({"undo": True})
        assert path.read_bytes() == before

    def test_every_line_is_on_disk_when_the_step_returns(self, open, path):
        editor = open(path)
        put(editor, 1, square(0, 0, 10, 10))
        lines = path.read_text().splitlines()
        assert len(lines) == 2 and json.loads(lines[1])["do"][0]["op"] == "put_layer"
