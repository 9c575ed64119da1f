"""What a client's lease stands for: its image, the buffer it keeps, the object it works on."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from litemedsam_jax.serving.remote.cropped_mask import Box, CroppedMask, changed
from litemedsam_jax.serving.remote.drawn_box import Part
from litemedsam_jax.serving.remote.image_intake import Image
from litemedsam_jax.serving.remote.memory import Memory
from litemedsam_jax.serving.remote.object_state import History, ObjectState
from litemedsam_jax.serving.remote.served_weights import DEFAULT

_KEPT_PARTS = 32  # of which the masks are kept, so that a box leaves the others' alone


@dataclass(frozen=True)
class Buffer:
    """The array that the client writes masks into; the server knows it but by its shape."""

    shape: tuple[int, ...]
    dtype: np.dtype


@dataclass(frozen=True)
class Change:
    """A part of the client's buffer that is new.

    Attributes:
        box: Of each axis of the buffer the first voxel, and the one after the last.
        values: What it holds.
    """

    box: Box
    values: np.ndarray


@dataclass
class Session:
    """Use `lock` around whatever changes it.

    Attributes:
        memory: Of all sessions; what this one holds is given back by `close`.
        autozoom: Whether a box on one slice goes through the volume.
        weights: The name of those that it was begun with; all its masks are theirs.
        over: Whether the lease is gone, so that nobody waits for what is under way.
    """

    memory: Memory
    autozoom: bool
    image: Image | None = None
    buffer: Buffer | None = None
    state: ObjectState = field(default_factory=ObjectState)
    history: History = field(default_factory=History)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    weights: str = DEFAULT
    over: bool = False
    _parts: OrderedDict[tuple[Part, int], CroppedMask] = field(default_factory=OrderedDict)
    _held: int = 0

    def set_image(self, image: Image, held: int) -> None:
        """Takes an image, for which `held` bytes were taken from the memory; drops what was."""
        if self.over:
            self.memory.give(held)
            return
        self.forget_object()
        self._parts.clear()
        self.buffer = None
        self.memory.give(self._held)
        self.image, self._held = image, held

    def set_buffer(self, buffer: Buffer) -> None:
        """Takes a buffer, which is empty; raises ValueError."""
        image = self.ready_image()
        if buffer.shape not in (image.shape, image.shape[1:] if image.shape[0] == 1 else ()):
            raise ValueError(
                f"the target buffer has shape {list(buffer.shape)} and the image "
                f"{list(image.shape)}; expected the same"
            )
        self.forget_object()
        self.buffer = buffer

    def forget_object(self) -> None:
        """Drops what was drawn; it cannot be undone, since the client empties its buffer."""
        self.state, self.history = ObjectState(), History()

    def ready_image(self) -> Image:
        """The image; raises ValueError where there is none yet."""
        if self.image is None:
            raise ValueError("the session has no image yet; send /set_image first")
        return self.image

    def ready_buffer(self) -> Buffer:
        """The client's buffer; raises ValueError where there is none yet."""
        self.ready_image()
        if self.buffer is None:
            raise ValueError("the session has no target buffer yet; send /set_target_buffer first")
        return self.buffer

    def mask_of(self, part: Part, axis: int) -> CroppedMask | None:
        """A part's mask, if it was made before."""
        mask = self._parts.get((part, axis))
        if mask is not None:
            self._parts.move_to_end((part, axis))
        return mask

    def keep(self, part: Part, axis: int, mask: CroppedMask) -> None:
        """Keeps the complete mask of a part."""
        self._parts[part, axis] = mask
        while len(self._parts) > _KEPT_PARTS:
            self._parts.popitem(last=False)

    def forget_masks(self) -> None:
        """Drops the masks of parts, so that all are made again."""
        self._parts.clear()

    def replace_state(self, state: ObjectState, undoable: bool = True) -> Change | None:
        """Goes over to a state; returns what changes for the client; None: nothing."""
        before = self.state
        if undoable:
            self.history.push(before)
        self.state = state
        return self._change(before.mask, state.mask)

    def undo(self) -> tuple[bool, Change | None]:
        """Goes back a step: whether there was one, and what changes for the client."""
        if not self.history:
            return False, None
        return True, self.replace_state(self.history.pop(), undoable=False)

    def close(self) -> None:
        """Ends it, and gives up what it holds."""
        self.over = True
        self.image = self.buffer = None
        self.forget_object()
        self._parts.clear()
        self.memory.give(self._held)
        self._held = 0

    def _change(self, before: CroppedMask, after: CroppedMask) -> Change | None:
        buffer = self.ready_buffer()
        box = changed(before, after)
        if box is None:
            return None
        values = after.within(box).astype(buffer.dtype)
        if len(buffer.shape) == 2:
            box, values = box[1:], values[0]
        return Change(box, values)
