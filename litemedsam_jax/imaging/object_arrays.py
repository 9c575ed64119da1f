"""Object arrays of npz files (dictionaries and lists of numbers), read without executing anything.

NumPy stores them as pickles; `pickle_reader` interprets those with the few builders given here.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.pickle_reader import Refused, State, read_pickle

_NUMBERS = frozenset("biuf")


class _DType(State):
    """A dtype on its way: its byte order comes with the state."""

    def __init__(self, code: Any, *_: Any):
        if not isinstance(code, str | bytes):
            raise TypeError("a dtype that is no text")
        self.code = code if isinstance(code, str) else code.decode("ascii")
        self.order = "="

    def build(self, state: Any) -> "_DType":
        """Takes the byte order."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.order = state[1]
        return self

    def numbers(self) -> np.dtype:
        """The dtype of numbers; anything else is refused."""
        if self.code[:1] not in _NUMBERS:
            raise Refused(f"values of the type {self.code[:20]}")
        return np.dtype(self.code).newbyteorder("=" if self.order == "|" else self.order)  # type: ignore[arg-type]


class _Array(State):
    """An array on its way: lists stand for those of objects, and for those of numbers too."""

    def build(self, state: Any) -> Any:
        """Returns the elements as nested lists; those of an array without axes alone."""
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _DType) or not isinstance(shape, tuple):
            raise TypeError("an array without shape and dtype")
        if dtype.code.startswith("O"):
            if not isinstance(content, list) or len(shape) > 1:
                raise TypeError("an object array of several axes")
            return content if shape else content[0]
        values = np.frombuffer(content, dtype.numbers())
        return values.reshape(shape, order="F" if fortran else "C").tolist()


def _scalar(dtype: Any, content: Any) -> Any:
    if not isinstance(dtype, _DType):
        raise TypeError("a scalar without a dtype")
    return np.frombuffer(content, dtype.numbers())[0].item()


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> Any:
    if not isinstance(dtype, _DType) or not isinstance(shape, tuple) or order not in ("C", "F"):
        raise TypeError("a buffer without dtype, shape and order")
    return np.frombuffer(content, dtype.numbers()).reshape(shape, order=order).tolist()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if encoding != "latin1" or not isinstance(text, str):
        raise Refused(f"the encoding {str(encoding)[:20]}")
    return text.encode("latin1")


_BUILDERS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _DType,
    "numpy.ndarray": lambda *_: None,
    "_codecs.encode": _encode,
    **{
        f"{module}.multiarray.{name}": builder
        for module in ("numpy.core", "numpy._core")
        for name, builder in (("_reconstruct", lambda *_: _Array()), ("scalar", _scalar))
    },
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy._core.numeric._frombuffer": _from_buffer,
}


def read_objects(pickle: bytes, name: str) -> Any:
    """What an object array holds: dictionaries, lists, tuples, strings and numbers.

    Args:
        pickle: the array's data, as in the npy file after its header.
        name: of the array, for the message.

    Raises:
        CaseError: it is damaged, too large, or holds anything else.
    """
    try:
        return read_pickle(pickle, _BUILDERS, _no_persistent_id)
    except Refused as error:
        raise CaseError(
            f"array '{name}' holds Python objects, which are never unpickled, and not only "
            f"dictionaries, lists and numbers, which are read ({error})"
        ) from error


def _no_persistent_id(_: Any) -> Any:
    raise Refused("a persistent id")
