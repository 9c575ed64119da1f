"""Reads the pickles of PyTorch checkpoints and of NumPy's object arrays, executing nothing.

Python's own unpickler calls what the file names, and even restricted it can be made to allocate
without bound. This one is an interpreter of the opcodes that checkpoints are made of; what a
pickle may build is the table given to it, and all else is refused by name.
"""

import pickletools
from collections.abc import Callable, Mapping
from typing import Any

# Twenty times what the description of a large training checkpoint takes.
MAX_PICKLE_BYTES = 4 << 20
# What builders are given, in elements and characters, by bytes of the pickle: each is given once,
# and what is remembered could be given again and again.
_WORK_PER_BYTE = 4
_MOST_MEMO_KEYS = 4  # of one unfinished object
_LARGEST_KEY = 1 << 31  # of integers: larger ones can be made to collide in a dictionary


class Refused(Exception):
    """What the pickle asks for and does not get; the caller adds the file's name."""


class Name:
    """A `module.name` that the pickle refers to. Nothing is imported for it."""

    def __init__(self, text: str):
        """Keeps the name, such as "torch.FloatStorage"."""
        self.text = text


class State:
    """Base of what a pickle's BUILD may complete. `memo_keys`: where the machine remembers it."""

    memo_keys: tuple[int, ...] = ()

    def build(self, state: Any) -> Any:
        """Returns what takes the place of this object."""
        raise NotImplementedError


_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = frozenset(
    [
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "BINFLOAT",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
        "BINSTRING",
        "SHORT_BINSTRING",
    ]
)
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_pickle(
    data: bytes,
    builders: Mapping[str, Callable[..., Any]],
    persistent: Callable[[Any], Any],
) -> Any:
    """Returns what a pickle describes.

    Args:
        data: The pickle; at most `MAX_PICKLE_BYTES`. Reading takes time and memory in proportion
            to it, if those of a builder are in proportion to its arguments.
        builders: What may be called, by its name in the pickle, such as
            "collections.OrderedDict". Never the function of that name, always one of ours.
        persistent: Turns a persistent id (torch: a storage) into an object.

    Returns:
        Dicts, lists, tuples, numbers, strings, bytes, and what the builders make.

    Raises:
        Refused: The pickle is damaged, too large, or asks for what is not in `builders`.
    """
    if len(data) > MAX_PICKLE_BYTES:
        most = MAX_PICKLE_BYTES >> 20
        raise Refused(f"a pickle of {len(data) >> 20} MiB where at most {most} were expected")
    machine = _Machine(builders, persistent, _WORK_PER_BYTE * len(data))
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.step(opcode.name, argument)
    except (
        *(ValueError, IndexError, KeyError, TypeError, AttributeError),
        *(ArithmeticError, RecursionError),  # numbers and nests without measure
    ) as error:
        raise Refused(f"a damaged pickle ({error})") from error
    raise Refused("a pickle without an end")


class _Machine:
    """The pickle machine: a stack, a memo, and one method for the opcodes that are not trivial."""

    def __init__(
        self,
        builders: Mapping[str, Callable[..., Any]],
        persistent: Callable[[Any], Any],
        work: int,
    ):
        self.builders = builders
        self.persistent = persistent
        self.work = work
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Executes one opcode."""
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._remember(argument)
        elif name == "MEMOIZE":
            self._remember(len(self.memo))
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _TUPLES:
            self._push_tuple(_TUPLES[name])
        elif name not in ("PROTO", "FRAME"):
            method = getattr(self, f"_{name.lower()}", None)
            if method is None:
                raise Refused(f"the pickle instruction {name}")
            method(argument)

    def _remember(self, key: int) -> None:
        value = self.memo[key] = self.stack[-1]
        if isinstance(value, State):
            if len(value.memo_keys) == _MOST_MEMO_KEYS:
                raise Refused("an object that is remembered again and again")
            value.memo_keys += (key,)

    def _spend(self, arguments: Any) -> None:
        """Counts what a builder is about to look at."""
        for value in arguments if isinstance(arguments, tuple) else (arguments,):
            if isinstance(value, str | bytes | list | tuple | dict):
                self.work -= len(value)
        if self.work < 0:
            raise Refused("a description that gives the same values again and again")

    def _push_tuple(self, length: int) -> None:
        start = len(self.stack) - length
        if start < 0:
            raise IndexError("stack underflow")
        self.stack[start:] = [tuple(self.stack[start:])]

    def _above_mark(self) -> list[Any]:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise IndexError("no mark")

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._above_mark()))

    def _empty_list(self, _: Any) -> None:
        self.stack.append([])

    def _empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def _append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._above_mark())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise TypeError("an element for what is no list")
        self.stack[-1].extend(items)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def _setitems(self, _: Any) -> None:
        self._update(self._above_mark())

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise TypeError("an entry for what is no dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing a nest of tuples can take for ever, and numbers can be made to collide.
            if isinstance(key, int) and abs(key) >= _LARGEST_KEY:
                raise Refused("a number as large as that as a dictionary key")
            if not isinstance(key, str | int | None):
                raise Refused(f"a dictionary key of type {type(key).__name__}")
            target[key] = value

    def _global(self, argument: str) -> None:
        self.stack.append(self._name(*argument.split(" ", 1)))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a name that is no string")
        self.stack.append(self._name(module, name))

    def _name(self, module: str, name: str) -> Name:
        if f"{module}.{name}" not in self.builders:
            raise Refused(f"{module}.{name}"[:200])
        return Name(f"{module}.{name}")

    def _reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise TypeError("a call of what is no function")
        self._spend(arguments)
        self.stack.append(self.builders[function.text](*arguments))

    def _newobj(self, argument: Any) -> None:
        self._reduce(argument)

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        self._spend(state)
        if isinstance(target, State):
            self.stack[-1] = target.build(state)
            for key in target.memo_keys:
                self.memo[key] = self.stack[-1]
        elif not isinstance(target, dict):  # of an OrderedDict it is torch's `_metadata`: no use
            raise TypeError("a state for what has none")

    def _binpersid(self, _: Any) -> None:
        identity = self.stack.pop()
        self._spend(identity)
        self.stack.append(self.persistent(identity))
