"""Prompts: slices encoded ahead, boxes tried while they are dragged, boxes kept."""

import asyncio
from collections.abc import Hashable
from functools import partial

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from litemedsam_jax.annotation import edits
from litemedsam_jax.annotation.operations import PutLayer
from litemedsam_jax.annotation.run_lengths import Patch
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.inference.strategies import REFERENCE, Strategy
from litemedsam_jax.serving.case_session import CaseSession
from litemedsam_jax.serving.context import Context
from litemedsam_jax.serving.embedding_cache import EmbeddingCache
from litemedsam_jax.serving.model_worker import AHEAD, PROMPT
from litemedsam_jax.serving.requests import BoxRequest, EncodeRequest, parse
from litemedsam_jax.serving.slice_masks import SliceImage, encoded, mask_to_keep


async def encode(context: Context, request: Request) -> Response:
    """POST /cases/{case}/encode: encodes a slice; the answer comes when it is ready."""
    session = await context.session(request)
    wanted = parse(EncodeRequest, await request.body())
    source = await run_in_threadpool(session.slice_image, wanted.slice)
    if source.key not in context.cache:
        job = partial(_encode, cache=context.cache, source=source)
        future = context.worker.submit(job, AHEAD, latest_of=("encode", wanted.client))
        await asyncio.wrap_future(future)
    return JSONResponse({"slice": wanted.slice, "ready": True})


async def predict(context: Context, request: Request) -> Response:
    """POST /cases/{case}/predict: the slice as it would be with this box; nothing is kept.

    Of one client's requests that still wait, only the latest is run; the others are
    answered {"superseded": true}.
    """
    session = await context.session(request)
    wanted = parse(BoxRequest, await request.body())
    mask = await _mask(context, session, wanted, REFERENCE, ("predict", wanted.client))
    layer = _layer(session, wanted, mask)
    patch = await run_in_threadpool(session.tried, wanted.slice, layer)
    return JSONResponse({"number": wanted.number, "slice": wanted.slice, "patch": patch.to_json()})


async def put_box(context: Context, request: Request) -> Response:
    """POST /cases/{case}/boxes: keeps a box and its mask, as one step of the history."""
    session = await context.writable(request)
    wanted = parse(BoxRequest, await request.body())
    mask = await _mask(context, session, wanted, context.strategy, None)

    def keep() -> Response:
        with session.lock:
            session.refuse_propagating(wanted.layer)
            layer = _layer(session, wanted, mask)
            regions = session.editor.do(PutLayer(layer))
            return JSONResponse({**context.changed(session, regions), "layer": layer.number})

    return await run_in_threadpool(keep)


async def _mask(
    context: Context,
    session: CaseSession,
    wanted: BoxRequest,
    strategy: Strategy,
    latest_of: Hashable,
) -> Patch:
    box = np.array(edits.ordered_box(wanted.box, session.document.shape))
    source = await run_in_threadpool(session.slice_image, wanted.slice)
    job = partial(
        mask_to_keep,
        cache=context.cache,
        source=source,
        box=box,
        threshold=wanted.threshold,
        strategy=strategy,
        steps=context.mask_steps if wanted.adds else (),
    )
    return await asyncio.wrap_future(context.worker.submit(job, PROMPT, latest_of))


def _layer(session: CaseSession, wanted: BoxRequest, mask: Patch):
    with session.lock:
        number = session.editor.next_number() if wanted.layer is None else wanted.layer
        return edits.box_layer(
            session.document,
            number,
            label=wanted.label,
            z=wanted.slice,
            box=edits.ordered_box(wanted.box, session.document.shape),
            mask=mask,
            adds=wanted.adds,
            threshold=wanted.threshold,
        )


def _encode(model: LiteMedSAM, cache: EmbeddingCache, source: SliceImage) -> None:
    encoded(model, cache, source)
