"""The object that a session works on: what was drawn, its mask, and how it was before."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from litemedsam_jax.serving.remote.cropped_mask import EMPTY, CroppedMask, union, without
from litemedsam_jax.serving.remote.drawn_box import DrawnBox, Part, parts_of

_MOST_STEPS, _MOST_BYTES = 200, 128 << 20  # of undo, which is given up from its oldest step


@dataclass(frozen=True)
class ObjectState:
    """An object at one time.

    Attributes:
        initial: The mask that the client began with.
        boxes: In the order in which they were drawn.
        mask: What the client has.
        pending: Whether the mask lacks some of the boxes.
    """

    initial: CroppedMask = EMPTY
    boxes: tuple[DrawnBox, ...] = ()
    mask: CroppedMask = EMPTY
    pending: bool = False

    @property
    def parts(self) -> tuple[Part, ...]:
        """Boxes whose masks are made together."""
        return parts_of(self.boxes)

    def drawn(self, box: DrawnBox) -> "ObjectState":
        """With one more box."""
        return replace(self, boxes=(*self.boxes, box), pending=True)

    def composed(self, mask_of: Callable[[Part], CroppedMask], complete: bool) -> "ObjectState":
        """With the mask that its parts make up.

        Where a box is for one slice alone, its mask replaces what the initial mask and those that
        go through the volume have inside it. What subtracts comes last.
        """
        adds = [p for p in self.parts if p.first.adds]
        alone = [p for p in adds if p.first.flat is not None and not p.first.through]
        mask = union([self.initial, *(mask_of(p) for p in adds if p not in alone)])
        mask = without(mask, [p.first.span for p in alone])
        mask = union([mask, *(mask_of(p) for p in alone)])
        mask = without(mask, [mask_of(p) for p in self.parts if not p.first.adds])
        return replace(self, mask=mask, pending=not complete)


class History:
    """The states before the present one, for undo; bounded by steps and bytes."""

    def __init__(self) -> None:
        self._before: deque[ObjectState] = deque()

    def __len__(self) -> int:
        """How many steps may be undone."""
        return len(self._before)

    def push(self, state: ObjectState) -> None:
        """Keeps a state that is about to be replaced."""
        self._before.append(state)
        while len(self._before) > _MOST_STEPS or self.nbytes > _MOST_BYTES:
            self._before.popleft()

    def pop(self) -> ObjectState:
        """Takes back the last one; raises IndexError."""
        return self._before.pop()

    @property
    def nbytes(self) -> int:
        """What the states' masks take."""
        masks = {id(m): m for s in self._before for m in (s.mask, s.initial)}
        return sum(mask.nbytes for mask in masks.values())
