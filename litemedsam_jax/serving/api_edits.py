"""Edits: history, painting, labels, layers; saving."""

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from litemedsam_jax.annotation import saving
from litemedsam_jax.annotation.operations import DropLayer
from litemedsam_jax.serving.context import Context


async def undo(context: Context, request: Request) -> Response:
    """POST /cases/{case}/undo: takes the last step back."""
    session = await context.writable(request)

    def work() -> Response:
        with session.lock:
            return JSONResponse(context.changed(session, session.editor.undo()))

    return await run_in_threadpool(work)


async def redo(context: Context, request: Request) -> Response:
    """POST /cases/{case}/redo: does again what was taken back last."""
    session = await context.writable(request)

    def work() -> Response:
        with session.lock:
            return JSONResponse(context.changed(session, session.editor.redo()))

    return await run_in_threadpool(work)


async def drop_layer(context: Context, request: Request) -> Response:
    """DELETE /cases/{case}/layers/{layer}: takes a box, or another step, out."""
    session = await context.writable(request)
    number = request.path_params["layer"]

    def work() -> Response:
        with session.lock:
            layer = session.document.layer(number)
            if layer.label in session.document.locked():
                raise HTTPException(422, f"{session.document.label(layer.label).name} is locked")
            return JSONResponse(context.changed(session, session.editor.do(DropLayer(number))))

    return await run_in_threadpool(work)


async def save(context: Context, request: Request) -> Response:
    """POST /cases/{case}/save: writes masks, boxes and names to the output folder."""
    session = await context.writable(request)
    folder = context.workspace.entry(session.number).folder

    def work() -> Response:
        with session.lock:
            written = saving.save(session.image, session.document, folder)
        context.events.publish(None, {"saved": session.number})
        return JSONResponse({"folder": str(folder), "files": [path.name for path in written]})

    return await run_in_threadpool(work)
