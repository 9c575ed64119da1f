"""Propagation: a box's mask carried to the slices above and below, as they come."""

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
from litemedsam_jax.annotation.layers import Layer
from litemedsam_jax.annotation.operations import ExtendLayer, Operation, PutLayer
from litemedsam_jax.imaging.slice_prompt import SliceBox, SlicePrompt
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.serving.case_session import CaseSession
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
    session.propagating = True
    session.stop_propagating.clear()
    lines = _lines(context, session, layer, ends)
    return StreamingResponse(lines, media_type="application/x-ndjson")


async def stop(context: Context, request: Request) -> Response:
    """POST /cases/{case}/propagate/stop: stops after the slice that is under way."""
    session = await context.session(request)
    session.stop_propagating.set()
    return JSONResponse({"stopping": session.propagating})


async def _lines(
    context: Context, session: CaseSession, layer: Layer, ends: tuple[int, int] | None
) -> AsyncIterator[str]:
    assert layer.box is not None and layer.slice is not None
    first, last = ends if ends is not None else (None, None)
    prompt = SlicePrompt((SliceBox(layer.slice, layer.box),), first, last, layer.label)
    steps = _Steps(context, session, prompt)
    # A fresh layer: what an earlier propagation left is not mixed with this one.
    start = replace(layer, kind="propagation", masks={layer.slice: layer.masks[layer.slice]})
    masks, final, ended = dict(start.masks), {layer.slice}, "finished"
    try:
        while (result := await steps.next()) is not None:
            if session.stop_propagating.is_set():
                ended = "stopped"
                break
            if result.slice == layer.slice:  # the user has seen and kept that one
                continue
            operation: Operation = ExtendLayer(layer.number, {result.slice: result.mask})
            extend = len(masks) > 1
            operations = [operation] if extend else [PutLayer(start), operation]
            state = await run_in_threadpool(_keep, context, session, operations, extend)
            masks[result.slice] = result.mask
            if result.final:
                final.add(result.slice)
            answer = {"slice": result.slice, "done": len(masks) - 1, "final": result.final}
            yield _line({**answer, "revision": state["revision"]})
        if ended == "finished" and len(final) < len(masks):  # previews beyond the object's end
            masks = {z: masks[z] for z in masks if z in final}
            whole: list[Operation] = [PutLayer(replace(start, masks=masks))]
            await run_in_threadpool(_keep, context, session, whole, True)
    except (ModelUnavailable, Superseded, ValueError, OSError) as error:
        ended = f"failed: {error}"
    finally:
        session.propagating = False
        context.events.publish(session.number, {"propagated": len(masks) - 1})
    yield _line({"ended": ended, "done": len(masks) - 1, **session.state(), "slices": None})


def _keep(
    context: Context, session: CaseSession, operations: list[Operation], extend: bool
) -> dict[str, Any]:
    with session.lock:
        return context.changed(session, session.editor.do(*operations, extend=extend))


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
            )
        return next(self._slices, None)


def _line(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":")) + "\n"
