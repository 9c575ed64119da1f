"""Learning from annotated cases, and the choice of weights."""

import dataclasses

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from litemedsam_jax.serving.context import Context
from litemedsam_jax.serving.learning import Learning, LearningState
from litemedsam_jax.serving.requests import ModelRequest, parse


async def state(context: Context, _: Request) -> Response:
    """GET /learn: where learning stands, what it has brought, which weights are in use."""
    return _answer(await run_in_threadpool(_learning(context).state))


async def start(context: Context, _: Request) -> Response:
    """POST /learn/start: learns from the cases whose labels were saved, in another process."""
    if context.workspace.read_only:
        raise HTTPException(403, "the server was started with --read-only")
    return _answer(await run_in_threadpool(_learning(context).start))


async def cancel(context: Context, _: Request) -> Response:
    """POST /learn/cancel: ends that process."""
    return _answer(await run_in_threadpool(_learning(context).cancel))


async def choose(context: Context, request: Request) -> Response:
    """POST /learn/model: {"weights": "start" or "learned"}, used from the next mask on."""
    wanted = parse(ModelRequest, await request.body())
    return _answer(await run_in_threadpool(_learning(context).choose, wanted.weights))


def _learning(context: Context) -> Learning:
    if context.learning is None:
        raise HTTPException(404, "this server does not learn")
    return context.learning


def _answer(state: LearningState) -> Response:
    return JSONResponse(dataclasses.asdict(state))
