"""What every handler needs, and how faults become the statuses that clients know."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from litemedsam_jax.imaging.intensity import IntensityOptions
from litemedsam_jax.serving.model_worker import ModelUnavailable, ModelWorker, Superseded
from litemedsam_jax.serving.remote.ahead import Ahead
from litemedsam_jax.serving.remote.answers import refusal
from litemedsam_jax.serving.remote.leases import Full, Gone, Lease, Leases
from litemedsam_jax.serving.remote.memory import Memory, OutOfMemory
from litemedsam_jax.serving.remote.prediction import Abandoned, OutOfTime, Predictor
from litemedsam_jax.serving.remote.requests import (
    LEASE_HEADER,
    META_HEADER,
    MOST_JSON_BYTES,
    TooSlow,
    parse_object,
    read_body,
)
from litemedsam_jax.serving.remote.served_weights import ServedWeights
from litemedsam_jax.serving.remote.session import Session
from litemedsam_jax.serving.remote.wire import TooLarge

SLACK_BYTES = 1 << 20  # of a body beyond its array: headers, and what does not compress
_GONE = "the session is over (idle, silent for too long, or the server was restarted): connect anew"


@dataclass(frozen=True)
class Context:
    """The parts of a running server."""

    leases: Leases[Session]
    memory: Memory
    predictor: Predictor
    ahead: Ahead
    worker: ModelWorker
    intensity: IntensityOptions
    autozoom: bool
    log: Callable[[str], None]
    weights: Mapping[str, ServedWeights]

    def lease(self, request: Request, seen: bool = True) -> Lease[Session]:
        """The lease that a request is about; raises `Gone`."""
        return self.leases.get(request.headers.get(LEASE_HEADER), seen)

    @asynccontextmanager
    async def session(self, request: Request) -> AsyncIterator[Lease[Session]]:
        """A lease whose session is changed: its requests are worked on one after the other."""
        lease = self.lease(request)
        async with lease.session.lock:
            if lease.session.over:
                raise Gone
            yield lease

    async def json(self, request: Request, lease: Lease[Session]) -> dict:
        """A JSON body; raises as `read_body` and `parse_object` do."""
        silence = self.leases.liveness_seconds
        body = await read_body(request, MOST_JSON_BYTES, silence, lambda _: None)
        return parse_object(body, "the request's body")

    @asynccontextmanager
    async def array_body(
        self, request: Request, lease: Lease[Session], most: int
    ) -> AsyncIterator[bytearray]:
        """A body that holds an array of at most so many bytes; counted while it is kept."""
        taken = 0

        def heard(count: int) -> None:
            nonlocal taken
            self.lease(request)  # it is alive while it sends; or it is over
            self.memory.take(count)
            taken += count

        try:
            silence = self.leases.liveness_seconds
            yield await read_body(request, most + SLACK_BYTES, silence, heard)
        finally:
            self.memory.give(taken)


def meta(request: Request) -> dict:
    """The fields of `X-Meta`; raises ValueError."""
    return parse_object(request.headers.get(META_HEADER, "{}"), f"the header {META_HEADER}")


Handler = Callable[[Context, Request], Awaitable[Response]]


def endpoint(context: Context, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """A handler whose faults come back with the client's status and {"detail": a sentence}."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(context, request)
        except Gone:
            return refusal(410, _GONE)
        except Full:
            most = context.leases.most
            return refusal(
                503, f"all {most} sessions are in use; try again", **{"Retry-After": "10"}
            )
        except OutOfMemory as error:
            return refusal(503, str(error))
        except (ModelUnavailable, Superseded) as error:
            return refusal(500, str(error) or "the server is being stopped")
        except OutOfTime:
            context.log("a 3D box was not done in time; sent again, it goes on from where it was")
            return refusal(504, "not done in time; send the box again, it goes on from there")
        except TooLarge as error:
            return refusal(413, str(error))
        except TooSlow:
            return refusal(408, "the request's body did not come")
        except ValueError as error:
            return refusal(400, str(error))
        except (Abandoned, ClientDisconnect):
            return refusal(410, _GONE)  # nobody reads it
        except MemoryError:
            return refusal(503, "this machine has no memory left for that")
        except Exception as error:  # a fault of ours: the server goes on, and says what it was
            print(f"litemedsam serve: {type(error).__name__}: {error}", file=sys.stderr)
            return refusal(500, f"the server failed: {type(error).__name__}: {error}")

    return answer
