"""What requests may hold, typed; docs/http.md describes them."""

import dataclasses
import json
import typing
from dataclasses import dataclass
from typing import Any, TypeVar

Request = TypeVar("Request")


@dataclass(frozen=True)
class EncodeRequest:
    """Encode a slice, so that the first mask on it comes at once."""

    slice: int
    client: str = ""


@dataclass(frozen=True)
class BoxRequest:
    """A box on a native slice, to try (`predict`) or to keep (`boxes`)."""

    slice: int
    box: list[float]
    label: int
    adds: bool = True
    layer: int | None = None  # the box that it replaces
    threshold: float = 0.0
    client: str = ""
    number: int = 0  # of the request; comes back with the answer


@dataclass(frozen=True)
class PaintRequest:
    """A mask painted on a slice of any plane."""

    axis: int
    index: int
    label: int
    mask: dict[str, Any]
    adds: bool = True


@dataclass(frozen=True)
class LabelRequest:
    """A label that is new or changed; without a value the next free one is taken."""

    value: int | None = None
    name: str | None = None
    colour: str | None = None
    visible: bool | None = None
    locked: bool | None = None


@dataclass(frozen=True)
class TidyRequest:
    """What to do to a label as a whole: fill, largest, interpolate, clear."""

    what: str
    label: int
    slice: int | None = None  # of clear; none: all slices


@dataclass(frozen=True)
class MaskRequest:
    """A mask file of the workspace, by its number."""

    mask: int


@dataclass(frozen=True)
class RangeRequest:
    """Between which native slices a label's object lies; without ends nobody knows."""

    label: int
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True)
class PropagateRequest:
    """Carry a box's mask to the slices above and below it."""

    layer: int


@dataclass(frozen=True)
class SaveRequest:
    """What to write; `case`: also a case of the challenge's format, with the boxes."""

    case: bool = False


@dataclass(frozen=True)
class ModelRequest:
    """Which weights the model has: `start` or `learned`."""

    weights: str


def parse(kind: type[Request], body: bytes) -> Request:
    """Reads a request; raises ValueError with a sentence on what does not fit."""
    try:
        data = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise ValueError("the request is not JSON") from None
    if not isinstance(data, dict):
        raise ValueError("the request must be a JSON object")
    known = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if surplus := sorted(data.keys() - known.keys()):
        raise ValueError(f"the request has an unknown field '{surplus[0][:40]}'")
    types = typing.get_type_hints(kind)
    values = {}
    for name, value in data.items():
        if not _fits(value, types[name]):
            raise ValueError(f"the field '{name}' has the wrong type")
        values[name] = value
    try:
        return kind(**values)
    except TypeError as error:  # a field is missing
        raise ValueError(f"the request is incomplete: {str(error).split('() ')[-1]}") from None


def _fits(value: Any, kind: Any) -> bool:
    arguments = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict)
    if arguments:  # a union
        return any(_fits(value, one) for one in arguments)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)
