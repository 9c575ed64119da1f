"""The protocol's requests on images, buffers and prompts. See docs/slicer.md for what they do."""

import math

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from litemedsam_jax.serving.remote import wire
from litemedsam_jax.serving.remote.answers import capabilities as what_it_can
from litemedsam_jax.serving.remote.answers import prediction, refusal
from litemedsam_jax.serving.remote.context import Context, meta
from litemedsam_jax.serving.remote.cropped_mask import CroppedMask
from litemedsam_jax.serving.remote.drawn_box import DrawnBox
from litemedsam_jax.serving.remote.image_intake import Image, check_shape, take_in
from litemedsam_jax.serving.remote.leases import Lease
from litemedsam_jax.serving.remote.object_state import ObjectState
from litemedsam_jax.serving.remote.requests import LEASE_HEADER, flag
from litemedsam_jax.serving.remote.served_weights import DEFAULT
from litemedsam_jax.serving.remote.session import Buffer, Session

_BUFFER_DTYPES = wire.DTYPES - {"float16"}


async def healthz(_: Context, __: Request) -> Response:
    """GET /healthz: the server answers."""
    return JSONResponse({"ok": True})


async def capabilities(context: Context, _: Request) -> Response:
    """GET /capabilities: what the server can do."""
    return JSONResponse(what_it_can(context.autozoom))


async def weights(context: Context, _: Request) -> Response:
    """GET /weights: those that are served, by the path that the server's URL ends in."""
    served = [{"path": f"/{name}", "note": one.note} for name, one in context.weights.items()]
    return JSONResponse({"weights": served})


async def claim(context: Context, request: Request) -> Response:
    """POST /claim: a session; /NAME/claim: one with other weights."""
    name = request.path_params.get("weights", DEFAULT)
    if name not in context.weights:
        return refusal(404, f"there are no weights /{name} here; /weights lists those there are")
    token = context.leases.claim()
    context.leases.get(token).session.weights = name
    answer = {
        "lease_token": token,
        "idle_timeout_seconds": context.leases.idle_seconds,
        "liveness_timeout_seconds": context.leases.liveness_seconds,
        "max_sessions": context.leases.most,
    }
    return JSONResponse(answer)


async def release(context: Context, request: Request) -> Response:
    """POST /release: the session is over; one that is over already may be released again."""
    context.leases.release(request.headers.get(LEASE_HEADER))
    return JSONResponse({"released": True})


async def heartbeat(context: Context, request: Request) -> Response:
    """POST /heartbeat: the client is alive."""
    lease = context.lease(request)
    return JSONResponse({"remaining_seconds": context.leases.remaining(lease)})


async def lease_status(context: Context, request: Request) -> Response:
    """GET /lease_status: how long the session lasts if nothing is done; changes nothing."""
    lease = context.lease(request, seen=False)
    remaining, idle = context.leases.remaining(lease), context.leases.idle_seconds
    return JSONResponse({"remaining_seconds": remaining, "idle_timeout_seconds": idle})


async def set_image(context: Context, request: Request) -> Response:
    """POST /set_image: an image [C, X, Y, Z]; drops what was drawn on the one before."""
    async with context.session(request) as lease:
        properties = meta(request).get("image_properties")
        spacing = properties.get("spacing") if isinstance(properties, dict) else None
        limit = context.memory.limit
        async with context.array_body(request, lease, limit) as body:
            header = wire.read_header(body, limit)
            check_shape(header.shape)
            voxels = math.prod(header.shape)
            context.memory.take(voxels)
            try:
                # The raw values, and as much again while their percentiles are looked for.
                with context.memory.lent(2 * header.nbytes), context.leases.using(lease):
                    image = await run_in_threadpool(_take_in, context, body, spacing)
            except BaseException:
                context.memory.give(voxels)
                raise
        lease.session.set_image(image, voxels)
        kind = f"{'x'.join(map(str, image.shape))} {header.dtype.name}"
        context.log(f"session {lease.number}: image {kind}: {image.note}")
        context.ahead.look(lease.session, image.axis, image.shape[image.axis] // 2)
        return JSONResponse({"original_image_shape": list(header.shape)})


def _take_in(context: Context, body: bytearray, spacing: object) -> Image:
    return take_in(wire.unpack(body, context.memory.limit), spacing, context.intensity)


async def set_target_buffer(context: Context, request: Request) -> Response:
    """POST /set_target_buffer: the client has an empty array for masks, of this shape and type."""
    async with context.session(request) as lease:
        data = await context.json(request, lease)
        shape, dtype = data.get("shape"), data.get("dtype")
        if not isinstance(shape, list) or not all(type(n) is int for n in shape):
            raise ValueError("the field 'shape' must be a list of whole numbers")
        if not isinstance(dtype, str) or dtype not in _BUFFER_DTYPES:
            raise ValueError("the field 'dtype' must be a type of numbers, such as uint8")
        with context.leases.using(lease):
            lease.session.set_buffer(Buffer(tuple(shape), np.dtype(dtype)))
        return JSONResponse({})


async def set_do_autozoom(context: Context, request: Request) -> Response:
    """POST /set_do_autozoom: whether boxes drawn from now on go through the volume."""
    async with context.session(request) as lease:
        on = flag(await context.json(request, lease), "do_autozoom")
        with context.leases.using(lease):
            lease.session.autozoom = on
        return JSONResponse({})


async def reset_interactions(context: Context, request: Request) -> Response:
    """POST /reset_interactions: the next object; the client empties its buffer."""
    async with context.session(request) as lease:
        await context.json(request, lease)
        with context.leases.using(lease):
            lease.session.forget_object()
        return JSONResponse({})


async def add_bbox(context: Context, request: Request) -> Response:
    """POST /add_bbox_interaction: a box; one of an axis of length 1 is drawn on that slice."""
    async with context.session(request) as lease:
        data = await context.json(request, lease)
        session = lease.session
        box = DrawnBox.read(
            data.get("bbox_coords"),
            session.ready_image().shape,
            flag(data, "include_interaction"),
            session.autozoom,
        )
        return await _draw(context, request, lease, box, flag(data, "run_prediction", True))


async def add_lasso(context: Context, request: Request) -> Response:
    """POST /add_lasso_interaction: a closed line, filled; it counts as the box around it."""
    return await _add_region(context, request, "lasso")


async def add_scribble(context: Context, request: Request) -> Response:
    """POST /add_scribble_interaction: refused, but where the client insists: as the box around."""
    return await _add_region(context, request, "scribble")


async def add_point(context: Context, request: Request) -> Response:
    """POST /add_point_interaction: refused."""
    async with context.session(request) as lease:
        await context.json(request, lease)
        raise ValueError("LiteMedSAM was trained on boxes and knows no points: draw a box")


async def add_initial_seg(context: Context, request: Request) -> Response:
    """POST /add_initial_seg_interaction: a mask to go on from; what was drawn is dropped."""
    async with context.session(request) as lease:
        session, data = lease.session, meta(request)
        run = flag(data, "run_prediction", False)
        shape = session.ready_buffer().shape
        async with context.array_body(request, lease, _most(shape)) as body:
            mask = await _unpack_mask(context, lease, body, shape, (0, 0, 0))
        with context.leases.using(lease):
            # The client has written the mask into its buffer itself; it is sent nothing back.
            session.replace_state(ObjectState(initial=mask, mask=mask))
        return prediction(run, None)


async def undo(context: Context, request: Request) -> Response:
    """POST /undo: as it was before the last prompt, step by step."""
    async with context.session(request) as lease:
        await context.json(request, lease)
        lease.session.ready_buffer()
        with context.leases.using(lease):
            return prediction(*await run_in_threadpool(lease.session.undo))


async def predict(context: Context, request: Request) -> Response:
    """POST /predict: the mask of prompts that were sent without one, or the rest of a mask."""
    async with context.session(request) as lease:
        data, session = await context.json(request, lease), lease.session
        session.ready_buffer()
        if flag(data, "force_full_refine", False):
            session.forget_masks()
        elif not session.state.pending:
            return prediction(False, None)
        with context.leases.using(lease):
            state = await context.predictor.predict(session, session.state, request.is_disconnected)
            change = await run_in_threadpool(session.replace_state, state, False)
        return prediction(True, change)


async def _add_region(context: Context, request: Request, kind: str) -> Response:
    async with context.session(request) as lease:
        data, session = meta(request), lease.session
        adds, run = flag(data, "include_interaction"), flag(data, "run_prediction", True)
        insists = flag(data, "override_capability_checks", False)
        shape = session.ready_buffer().shape
        async with context.array_body(request, lease, _most(shape)) as body:
            if kind == "scribble" and not insists:
                raise ValueError(
                    "LiteMedSAM was trained on boxes and knows no scribbles: draw a box"
                )
            corner, size = _place(data.get("interaction_bbox"), shape)
            mask = await _unpack_mask(context, lease, body, size, corner)
        if mask.empty:
            raise ValueError(f"the {kind} is empty")
        box = DrawnBox(mask.box, adds, session.autozoom)
        return await _draw(context, request, lease, box, run)


async def _draw(
    context: Context, request: Request, lease: Lease[Session], box: DrawnBox, run: bool
) -> Response:
    """Adds a box to the object, and answers with its mask, if it is wanted now."""
    session = lease.session
    session.ready_buffer()
    with context.leases.using(lease):
        state = session.state.drawn(box)
        if run:
            state = await context.predictor.predict(session, state, request.is_disconnected)
        change = await run_in_threadpool(session.replace_state, state)
    if state.pending and run:
        seconds = context.predictor.seconds
        context.log(
            f"session {lease.number}: after {seconds:g} s the mask's ends were not reached; "
            "the next prompt, or Run, goes on from there"
        )
    if box.flat is not None:
        context.ahead.look(session, box.flat, box.index)
    return prediction(run, change)


def _most(shape: tuple[int, ...]) -> int:
    """Bytes of a mask over the whole buffer, whatever type its numbers have."""
    return math.prod(shape) * 8


def _place(bounds: object, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where a mask lies in the volume, and its size; without bounds it is as large as that."""
    if bounds is None:
        return (0, 0, 0), shape
    box = DrawnBox.read(bounds, shape if len(shape) == 3 else (1, *shape), True, False)
    return tuple(a for a, _ in box.span), tuple(b - a for a, b in box.span)


async def _unpack_mask(
    context: Context,
    lease: Lease[Session],
    body: bytearray,
    shape: tuple[int, ...],
    corner: tuple[int, ...],
) -> CroppedMask:
    """A mask of a body, which must have a shape; what is not 0 is set."""
    header = wire.read_header(body, _most(shape))
    if header.shape != shape:
        raise ValueError(
            f"the mask has shape {list(header.shape)}; expected {list(shape)}, as the image has it"
        )
    with context.memory.lent(2 * header.nbytes), context.leases.using(lease):
        return await run_in_threadpool(_as_mask, body, header.nbytes, corner)


def _as_mask(body: bytearray, nbytes: int, corner: tuple[int, ...]) -> CroppedMask:
    values = wire.unpack(body, nbytes) != 0
    return CroppedMask.of(values if values.ndim == 3 else values[None], corner)


ROUTES = (
    ("GET", "/healthz", healthz),
    ("GET", "/capabilities", capabilities),
    ("GET", "/weights", weights),
    ("POST", "/claim", claim),
    ("POST", "/release", release),
    ("POST", "/heartbeat", heartbeat),
    ("GET", "/lease_status", lease_status),
    ("POST", "/set_image", set_image),
    ("POST", "/set_target_buffer", set_target_buffer),
    ("POST", "/set_do_autozoom", set_do_autozoom),
    ("POST", "/reset_interactions", reset_interactions),
    ("POST", "/add_bbox_interaction", add_bbox),
    ("POST", "/add_point_interaction", add_point),
    ("POST", "/add_scribble_interaction", add_scribble),
    ("POST", "/add_lasso_interaction", add_lasso),
    ("POST", "/add_initial_seg_interaction", add_initial_seg),
    ("POST", "/undo", undo),
    ("POST", "/predict", predict),
)
