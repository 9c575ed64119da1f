"""Labels: named, coloured, shown, locked, removed; the slices between which their objects lie."""

from dataclasses import replace

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from litemedsam_jax.annotation.document import Region
from litemedsam_jax.annotation.edits import drawable
from litemedsam_jax.annotation.layers import MAX_LABEL, Label, default_label
from litemedsam_jax.annotation.operations import DropLabel, PutLabel, PutRange
from litemedsam_jax.serving.case_session import CaseSession
from litemedsam_jax.serving.context import Context
from litemedsam_jax.serving.requests import LabelRequest, RangeRequest, parse


async def put_label(context: Context, request: Request) -> Response:
    """POST /cases/{case}/labels: adds a label, or changes what the request names of one."""
    session = await context.writable(request)
    wanted = parse(LabelRequest, await request.body())

    def work() -> Response:
        with session.lock:
            label = _changed(session, wanted)
            changed = context.changed(session, session.editor.do(PutLabel(label)))
            return JSONResponse({**changed, "label": label.value})

    return await run_in_threadpool(work)


async def drop_label(context: Context, request: Request) -> Response:
    """DELETE /cases/{case}/labels/{label}: takes a label and its masks out."""
    session = await context.writable(request)
    value = request.path_params["label"]

    def step() -> dict[int, Region]:
        drawable(session.document, value)
        return session.editor.do(DropLabel(value))

    return await context.edit(session, step)


async def put_range(context: Context, request: Request) -> Response:
    """POST /cases/{case}/ranges: says between which native slices a label's object lies."""
    session = await context.writable(request)
    wanted = parse(RangeRequest, await request.body())
    ends = None
    if wanted.first is not None and wanted.last is not None:
        last = session.image.shape[0] - 1
        low, high = sorted((wanted.first, wanted.last))
        ends = min(max(low, 0), last), min(max(high, 0), last)

    def step() -> dict[int, Region]:
        session.document.label(wanted.label)
        return session.editor.do(PutRange(wanted.label, ends))

    return await context.edit(session, step)


def _changed(session: CaseSession, wanted: LabelRequest) -> Label:
    labels = session.document.labels
    value = wanted.value
    if value is None:
        value = next((v for v in range(1, MAX_LABEL + 1) if v not in labels), None)
        if value is None:
            raise ValueError(f"there are {MAX_LABEL} labels already")
    label = labels.get(value) or default_label(value)
    given = {
        name: getattr(wanted, name)
        for name in ("name", "colour", "visible", "locked")
        if getattr(wanted, name) is not None
    }
    return Label.from_json(replace(label, **given).to_json())
