"""Edits: history, painting, labels, layers; saving."""

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from litemedsam_jax.annotation import edits, loading, saving, tidying
from litemedsam_jax.annotation.document import Region
from litemedsam_jax.annotation.layers import Layer
from litemedsam_jax.annotation.operations import DropLayer, PutLayer
from litemedsam_jax.imaging.opened_image import read_labels_for
from litemedsam_jax.serving.case_session import CaseSession
from litemedsam_jax.serving.context import Context
from litemedsam_jax.serving.requests import (
    MaskRequest,
    PaintRequest,
    SaveRequest,
    TidyRequest,
    parse,
)


async def undo(context: Context, request: Request) -> Response:
    """POST /cases/{case}/undo: takes the last step back."""
    session = await context.writable(request)

    def step() -> dict[int, Region]:
        _refuse_history(session)
        return session.editor.undo()

    return await context.edit(session, step)


async def redo(context: Context, request: Request) -> Response:
    """POST /cases/{case}/redo: does again what was taken back last."""
    session = await context.writable(request)

    def step() -> dict[int, Region]:
        _refuse_history(session)
        return session.editor.redo()

    return await context.edit(session, step)


def _refuse_history(session: CaseSession) -> None:
    """Steps done during a propagation may be taken back, but not the propagation itself."""
    running = session.propagation
    if running is not None and running.step == session.editor.last_step:
        raise HTTPException(409, "the mask is being propagated; Escape stops it, then undo")


async def paint(context: Context, request: Request) -> Response:
    """POST /cases/{case}/paint: adds a painted mask to a label, or takes it away."""
    session = await context.writable(request)
    wanted = parse(PaintRequest, await request.body())

    def step() -> dict[int, Region]:
        document = session.document
        masks = edits.paint_masks(document, wanted.axis, wanted.index, wanted.mask)
        number = session.editor.next_number()
        layer = edits.mask_layer(document, number, "paint", wanted.label, wanted.adds, masks)
        return session.editor.do(PutLayer(layer))

    return await context.edit(session, step)


async def tidy(context: Context, request: Request) -> Response:
    """POST /cases/{case}/tidy: fill, largest, interpolate or clear, on a label as a whole."""
    session = await context.writable(request)
    wanted = parse(TidyRequest, await request.body())
    return await context.edit(
        session, lambda: session.editor.do(PutLayer(_tidied(session, wanted)))
    )


def _tidied(session: CaseSession, wanted: TidyRequest) -> Layer:
    document, number = session.document, session.editor.next_number()
    edits.drawable(document, wanted.label)
    if session.propagation is not None and session.propagation.label == wanted.label:
        name = document.label(wanted.label).name
        raise HTTPException(409, f"{name} is being propagated; Escape stops it")
    match wanted.what:
        case "fill":
            return tidying.fill_holes(document, number, wanted.label)
        case "largest":
            return tidying.keep_largest(document, number, wanted.label)
        case "interpolate":
            return tidying.interpolate(document, number, wanted.label)
        case "clear":
            if wanted.slice is not None and not 0 <= wanted.slice < document.shape[0]:
                raise ValueError(f"there is no slice {wanted.slice}")
            return tidying.clear(document, number, wanted.label, wanted.slice)
    raise ValueError("what must be fill, largest, interpolate or clear")


async def load_mask(context: Context, request: Request) -> Response:
    """POST /cases/{case}/masks: adds the labels of a mask file of the workspace."""
    session = await context.writable(request)
    path = context.workspace.mask(parse(MaskRequest, await request.body()).mask)

    def step() -> dict[int, Region]:
        number = session.editor.next_number()
        try:
            voxels = read_labels_for(session.image, path)
            return session.editor.do(*loading.loaded(session.document, number, voxels))
        except ValueError as error:
            reason = str(error).removeprefix(f"{path}: ")
            raise ValueError(f"{path.name}: {reason}") from error

    return await context.edit(session, step)


async def drop_layer(context: Context, request: Request) -> Response:
    """DELETE /cases/{case}/layers/{layer}: takes a box, or another step, out."""
    session = await context.writable(request)
    number = request.path_params["layer"]

    def step() -> dict[int, Region]:
        layer = session.document.layer(number)
        edits.drawable(session.document, layer.label)
        session.refuse_propagating(number)
        return session.editor.do(DropLayer(number))

    return await context.edit(session, step)


async def save(context: Context, request: Request) -> Response:
    """POST /cases/{case}/save: writes masks, boxes and names to the output folder."""
    session = await context.writable(request)
    wanted = parse(SaveRequest, await request.body())
    folder = context.workspace.entry(session.number).folder

    def work() -> Response:
        with session.lock:
            if session.propagation is not None:
                raise HTTPException(409, "a mask is being propagated; save when it has ended")
            written = saving.save(session.image, session.document, folder)
            if wanted.case:
                written.append(saving.save_case(session.image, session.document, folder))
        context.events.publish(None, {"saved": session.number})
        return JSONResponse({"folder": str(folder), "files": [path.name for path in written]})

    return await run_in_threadpool(work)
