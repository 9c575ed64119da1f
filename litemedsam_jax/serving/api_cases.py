"""Cases: the list, opening one, its slices, labels and events."""

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from litemedsam_jax.serving.context import Context


async def workspace(context: Context, _: Request) -> Response:
    """GET /workspace: the cases, and what the server can do."""
    cases = await run_in_threadpool(context.workspace.describe)
    return JSONResponse(
        {
            "cases": cases,
            "masks": [path.name for path in context.workspace.masks],
            "read_only": context.workspace.read_only,
            "model": {"state": context.worker.state, "message": context.worker.message},
        }
    )


async def case(context: Context, request: Request) -> Response:
    """GET /cases/{case}: opens it; shape, planes, windows, labels, layers."""
    session = await context.session(request)
    return JSONResponse(await run_in_threadpool(session.describe))


async def state(context: Context, request: Request) -> Response:
    """GET /cases/{case}/state: what editing changes, revision, labels, layers."""
    session = await context.session(request)
    return JSONResponse(session.state())


async def slice_values(context: Context, request: Request) -> Response:
    """GET /cases/{case}/slices/{axis}/{index}: raw values, little-endian, row by row."""
    session = await context.session(request)
    axis, index = request.path_params["axis"], request.path_params["index"]
    array = await run_in_threadpool(session.slice_values, axis, index)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    headers = {"X-Dtype": array.dtype.name, "X-Shape": ",".join(map(str, array.shape))}
    return Response(_bytes(little), media_type="application/octet-stream", headers=headers)


async def slice_labels(context: Context, request: Request) -> Response:
    """GET /cases/{case}/labels/{axis}/{index}: the label map, cropped, as runs."""
    session = await context.session(request)
    axis, index = request.path_params["axis"], request.path_params["index"]
    revision, patch = await run_in_threadpool(session.slice_labels, axis, index)
    return JSONResponse({"revision": revision, "patch": patch.to_json()})


async def measurements(context: Context, request: Request) -> Response:
    """GET /cases/{case}/measurements: how large each label is."""
    session = await context.session(request)
    return JSONResponse({"labels": await run_in_threadpool(session.measurements)})


async def diameters(context: Context, request: Request) -> Response:
    """GET /cases/{case}/diameters: the longest axial diameter of each label, and across it."""
    session = await context.session(request)
    revision, labels = await run_in_threadpool(session.diameters)
    return JSONResponse({"revision": revision, "labels": labels})


async def events(context: Context, request: Request) -> Response:
    """GET /cases/{case}/events: a stream of what happens to the case."""
    session = await context.session(request)
    # The model may have come between the page's look at the workspace and this stream.
    first = {"revision": session.editor.revision, "model": True}
    stream = context.events.stream(session.number, first)
    return StreamingResponse(stream, media_type="text/event-stream")


def _bytes(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()
