"""Propagation: a box's mask carried to the slices above and below, as they come.

Boxes of the same object on other slices (see `annotation.guides`) lead it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from litemedsam_jax.annotation.edits import drawable
from litemedsam_jax.annotation.guides import guides
from litemedsam_jax.annotation.layers import Layer
from litemedsam_jax.annotation.operations import ExtendLayer, PutLayer
from litemedsam_jax.imaging.slice_prompt import SliceBox, SlicePrompt
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.serving.case_session import CaseSession, Propagation
from litemedsam_jax.serving.context import Context
from litemedsam_jax.serving.model_worker import PROPAGATION, ModelUnavailable, Superseded
from litemedsam_jax.serving.requests import PropagateRequest, parse
from litemedsam_jax.serving.slice_masks import SliceResult, propagated


async def propagate(context: Context, request: Request) -> Response:
    """POST /cases/{case}/propagate: a line of JSON a slice, then one that says how it ended.

    The masks belong to one step of the history, whether it ends or is stopped: by
    /propagate/stop, or by closing the connection.
    """
    session = await context.writable(request)
    wanted = parse(PropagateRequest, await request.body())
    layer = session.document.layer(wanted.layer)
    drawable(session.document, layer.label)
    if layer.box is None or layer.slice is None or not layer.adds or session.image.shape[0] < 2:
        raise ValueError("a box that adds, on a slice of a volume, can be propagated")
    if context.worker.state == "missing":
        raise ModelUnavailable(context.worker.message)
    ends = session.document.ranges.get(layer.label)
    if ends is not None and not ends[0] <= layer.slice <= ends[1]:
        raise HTTPException(422, "the box lies outside the range that was drawn for its label")
    if session.propagation is not None:
        raise HTTPException(409, "another mask is being propagated; Escape stops it")
    lines = _lines(context, session, layer, ends)
    return StreamingResponse(lines, media_type="application/x-ndjson")


async def stop(context: Context, request: Request) -> Response:
    """POST /cases/{case}/propagate/stop: stops after the slice that is under way."""
    session = await context.session(request)
    running = session.propagation
    if running is not None:
        running.stop.set()
    return JSONResponse({"stopping": running is not None})


async def _lines(
    context: Context, session: CaseSession, layer: Layer, ends: tuple[int, int] | None
) -> AsyncIterator[str]:
    first, last = ends if ends is not None else (None, None)
    # Here, not where the request came in: a client that is gone by now starts nothing.
    running, others = _begin(context, session, layer)
    boxes = [_drawn_box(one) for one in (layer, *others)]
    drawn = {box.index for box in boxes}
    steps = _Steps(context, session, SlicePrompt(tuple(boxes), first, last, layer.label))
    ended = "stopped"
    try:
        while (result := await steps.next()) is not None:
            if running.stop.is_set():
                break
            if result.slice in drawn:  # the user has seen and kept those
                continue
            state, done = await run_in_threadpool(_keep, context, session, running, result)
            answer = {"slice": result.slice, "done": done, "final": result.final}
            yield _line({**answer, "revision": state["revision"]})
        else:
            ended = "finished"
    except (ModelUnavailable, Superseded, ValueError, OSError) as error:
        ended = f"failed: {error}"
    finally:  # also where the connection was closed
        done = _settle(context, session, running, ended == "finished")
    guided = [box.index for box in boxes[1:]]
    yield _line({"ended": ended, "done": done, "guides": guided, **session.state(), "slices": None})


def _begin(context: Context, session: CaseSession, layer: Layer) -> tuple[Propagation, list[Layer]]:
    """Begins a step of the history with the own slices of the box and of those that guide it.

    What an earlier propagation of one of them left is not mixed with this one.
    """
    with session.lock:
        others = guides(session.document, layer)
        starts = [_own_slice(layer, "propagation")]
        starts += [_own_slice(one, "box") for one in others if one.kind == "propagation"]
        context.changed(session, session.editor.do(*map(PutLayer, starts)))
        session.propagation = Propagation(layer.number, layer.label, session.editor.last_step)
        return session.propagation, others


def _drawn_box(layer: Layer) -> SliceBox:
    assert layer.box is not None and layer.slice is not None
    return SliceBox(layer.slice, layer.box)


def _own_slice(layer: Layer, kind: str) -> Layer:
    assert layer.slice is not None
    return replace(layer, kind=kind, masks={layer.slice: layer.masks[layer.slice]})


def _keep(
    context: Context, session: CaseSession, running: Propagation, result: SliceResult
) -> tuple[dict[str, Any], int]:
    """Adds a slice to the propagation's step; returns the state, and how many slices there are."""
    extension = ExtendLayer(running.layer, {result.slice: result.mask}, result.final)
    with session.lock:
        regions = session.editor.do(extension, extends=running.step)
        done = len(session.document.layer(running.layer).masks) - 1
        return context.changed(session, regions), done


def _settle(context: Context, session: CaseSession, running: Propagation, finished: bool) -> int:
    """Ends a propagation; returns how many slices it reached.

    Previews beyond the object's end go. Where the end was not found because somebody stopped it,
    they stay as what was seen.
    """
    with session.lock:
        session.propagation = None
        layer = session.document.layer(running.layer)
        masks = dict(layer.masks)
        if finished:
            masks = {z: mask for z, mask in masks.items() if z not in layer.previews}
        if layer.previews:
            settled = PutLayer(replace(layer, masks=masks, previews=frozenset()))
            context.changed(session, session.editor.do(settled, extends=running.step))
    done = len(masks) - 1
    context.events.publish(session.number, {"propagated": done})
    return done


class _Steps:
    """The propagation's slices, each a job of its own, so that boxes at the mouse come between."""

    def __init__(self, context: Context, session: CaseSession, prompt: SlicePrompt):
        self._context, self._session, self._prompt = context, session, prompt
        self._slices: Iterator[SliceResult] | None = None

    async def next(self) -> SliceResult | None:
        """The next slice, or None after the last."""
        return await asyncio.wrap_future(self._context.worker.submit(self._step, PROPAGATION))

    def _step(self, model: LiteMedSAM) -> SliceResult | None:
        if self._slices is None:
            session = self._session
            image = session.network_image()
            self._slices = propagated(
                model,
                self._context.cache,
                session.number,
                image,
                self._prompt,
                self._context.strategy,
                self._context.mask_steps,
            )
        return next(self._slices, None)


def _line(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":")) + "\n"
