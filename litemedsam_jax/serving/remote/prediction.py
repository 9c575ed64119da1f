"""Masks of a session's object, slice by slice on the model's thread: sessions take turns."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future

from starlette.concurrency import run_in_threadpool

from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.inference.strategies import Strategy
from litemedsam_jax.serving.model_worker import PROMPT, ModelWorker
from litemedsam_jax.serving.remote.ahead import Ahead
from litemedsam_jax.serving.remote.cropped_mask import CroppedMask
from litemedsam_jax.serving.remote.drawn_box import Part
from litemedsam_jax.serving.remote.image_intake import Image
from litemedsam_jax.serving.remote.object_state import ObjectState
from litemedsam_jax.serving.remote.part_masks import SliceOfMask, assemble, axis_of, slices_of
from litemedsam_jax.serving.remote.served_weights import ServedWeights
from litemedsam_jax.serving.remote.session import Session


class OutOfTime(Exception):
    """A box in three dimensions took longer than a client waits; part of a mask is no answer."""


class Abandoned(Exception):
    """The client is gone, or its lease."""


class Predictor:
    """Makes masks.

    Attributes:
        seconds: After which an answer must be there, since clients wait for 60.
    """

    def __init__(
        self,
        worker: ModelWorker,
        weights: Mapping[str, ServedWeights],
        strategy: Strategy,
        seconds: float,
        ahead: Ahead,
    ):
        self.seconds = seconds
        self._worker, self._weights = worker, weights
        self._strategy, self._ahead = strategy, ahead

    async def predict(
        self, session: Session, state: ObjectState, gone: Callable[[], Awaitable[bool]]
    ) -> ObjectState:
        """A state with its mask; `pending` where time ran out before the mask's ends were reached.

        Args:
            session: Whose image it is; keeps the masks of parts.
            state: What was drawn.
            gone: Whether nobody waits any more.

        Raises:
            OutOfTime: A box in three dimensions takes too long.
            Abandoned: Nobody waits any more.
        """
        image = session.ready_image()
        deadline = time.monotonic() + self.seconds
        masks: dict[Part, CroppedMask] = {}
        complete = True
        with self._ahead.paused():
            for part in state.parts:
                mask = session.mask_of(part, image.axis)
                if mask is None:
                    mask, whole = await self._mask(session, image, part, deadline, gone)
                    if whole:
                        session.keep(part, image.axis, mask)
                    complete = complete and whole
                masks[part] = mask
        return await run_in_threadpool(state.composed, masks.__getitem__, complete)

    async def _mask(
        self,
        session: Session,
        image: Image,
        part: Part,
        deadline: float,
        gone: Callable[[], Awaitable[bool]],
    ) -> tuple[CroppedMask, bool]:
        """A part's mask, and whether it is complete."""
        final: dict[int, SliceOfMask] = {}
        served = self._weights[session.weights]
        slices = _Slices(self._worker, served.model, image, part, self._strategy, deadline)
        while (one := await slices.next()) is not None:
            if one.final:
                final[one.number] = one
            if session.over or await gone():
                raise Abandoned
            if part.first.flat is None and time.monotonic() > deadline:
                raise OutOfTime
        steps = served.steps if part.first.adds else ()
        mask = await run_in_threadpool(assemble, final, axis_of(part, image.axis), steps)
        return mask, not slices.stopped


class _Slices:
    """A part's slices, each a job of its own: between two of them others have their turn."""

    def __init__(
        self,
        worker: ModelWorker,
        model: LiteMedSAM,
        image: Image,
        part: Part,
        strategy: Strategy,
        deadline: float,
    ):
        self.stopped = False
        self._worker, self._deadline = worker, deadline
        self._begin = lambda: slices_of(
            model, image.volume, part, image.axis, strategy, self._enough
        )
        self._running: Iterator[SliceOfMask] | None = None

    async def next(self) -> SliceOfMask | None:
        """The next slice; None after the last."""
        job: Future[SliceOfMask | None] = self._worker.submit(self._step, PROMPT)
        return await asyncio.wrap_future(job)

    def _step(self, _: LiteMedSAM) -> SliceOfMask | None:
        if self._running is None:
            self._running = self._begin()
        return next(self._running, None)

    def _enough(self) -> bool:
        self.stopped = self.stopped or time.monotonic() > self._deadline
        return self.stopped
