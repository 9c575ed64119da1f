"""XLA's serialized executables without the instructions of fused loops.

Beside machine code a serialized executable holds the whole program that it was compiled from, and
loading it parses and builds every instruction anew: four fifths of the time that a program of the
encoder takes to load. Of a loop that became machine code nothing is asked again but its operands
and the shape of its result. So each such loop gives way to one instruction without a content.

XLA has no option for this. Its bytes are protocol buffers, of which nothing is known here but the
numbers of a few fields (xla/service/hlo.proto); all others are handed on as they are.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

Field = tuple[int, int, Any]  # number, wire type, value: an integer or bytes

_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}  # bytes by wire type

# From what PjRt serializes down to the module: executable, compilation result, module with config.
_MODULE = (1, 1, 1)
_COMPUTATIONS = 3  # of a module
_INSTRUCTIONS, _COMPUTATION_ID = 2, 5  # of a computation
_NAME, _OPCODE, _SHAPE, _FUSION_KIND, _TARGET, _ID, _OPERANDS = 1, 2, 3, 11, 28, 35, 36
_CONTROL_PREDECESSORS, _CALLED = 37, 38  # of an instruction, as those before

# Loops alone become machine code as a whole: those of a library's (YNNPACK), "kCustom", are built
# from their instructions when they run.
_LOOP = b"kLoop"
# What may share its operand's memory says so by its instructions.
_IN_PLACE = {b"dynamic-update-slice", b"scatter"}


def without_fused_instructions(code: bytes) -> bytes:
    """The same executable, faster to load.

    Args:
        code: from XLA's `serialize_executable`.

    Raises:
        ValueError: these are not the protocol buffers that were expected.
    """
    try:
        length, start = _varint(code, 0)  # of a header, which is not of interest
        start += length
        return code[:start] + _changed(code[start:], _MODULE, _slim_module)
    except (IndexError, TypeError) as error:
        raise ValueError(f"an executable of another form: {error!r}") from error


def _slim_module(module: bytes) -> bytes:
    computations = _all(module, _COMPUTATIONS)
    in_place = {_id(one) for one in computations if _opcodes(one) & _IN_PLACE}
    replaced: set[int] = set()  # of computations, as `still_called`
    still_called: set[int] = set()

    def slim(instruction: bytes) -> bytes:
        called = set(_numbers(instruction, _CALLED))
        if (
            _all(instruction, _OPCODE) != [b"fusion"]
            or _all(instruction, _FUSION_KIND) != [_LOOP]
            or called & in_place
        ):
            still_called.update(called)
            return instruction
        replaced.update(called)
        return _placeholder(instruction)

    computations = [_changed(one, (_INSTRUCTIONS,), slim) for one in computations]
    kept = [one for one in computations if _id(one) not in replaced - still_called]
    others = [field for field in _fields(module) if field[0] != _COMPUTATIONS]
    return _message([*((_COMPUTATIONS, _BYTES, one) for one in kept), *others])


def _id(computation: bytes) -> int:
    (number,) = _all(computation, _COMPUTATION_ID)
    return number


def _opcodes(computation: bytes) -> set[bytes]:
    return {_all(one, _OPCODE)[0] for one in _all(computation, _INSTRUCTIONS)}


def _placeholder(fusion: bytes) -> bytes:
    """Something of the same name, operands and shape."""
    asked = (_NAME, _SHAPE, _ID, _OPERANDS, _CONTROL_PREDECESSORS)
    kept = [field for field in _fields(fusion) if field[0] in asked]
    return _message([*kept, (_OPCODE, _BYTES, b"custom-call"), (_TARGET, _BYTES, b"compiled")])


def _changed(message: bytes, path: tuple[int, ...], change: Callable[[bytes], bytes]) -> bytes:
    """A message with the messages at a path of field numbers, one at least, changed."""
    if not path:
        return change(message)
    fields = list(_fields(message))
    if not any(number == path[0] for number, _, _ in fields):
        raise ValueError(f"a message without the field {path[0]}")
    return _message(
        (number, kind, _changed(value, path[1:], change) if number == path[0] else value)
        for number, kind, value in fields
    )


def _all(message: bytes, number: int) -> list:
    """The values of a field, of which there may be none."""
    return [value for found, _, value in _fields(message) if found == number]


def _numbers(message: bytes, number: int) -> list[int]:
    """The values of a repeated field of integers, packed or not."""
    numbers: list[int] = []
    for value in _all(message, number):
        if isinstance(value, int):
            numbers.append(value)
            continue
        position = 0
        while position < len(value):
            one, position = _varint(value, position)
            numbers.append(one)
    return numbers


def _fields(message: bytes) -> Iterator[Field]:
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield number, kind, value
            continue
        length = _FIXED.get(kind)
        if length is None:
            if kind != _BYTES:
                raise ValueError(f"a field of wire type {kind}")
            length, position = _varint(message, position)
        end = position + length
        if end > len(message):
            raise ValueError("a field that is longer than its message")
        yield number, kind, message[position:end]
        position = end


def _message(fields: Iterable[Field]) -> bytes:
    """The inverse of `_fields`."""
    parts = []
    for number, kind, value in fields:
        parts.append(_varint_bytes(number << 3 | kind))
        if isinstance(value, int):
            parts.append(_varint_bytes(value))
            continue
        if kind == _BYTES:
            parts.append(_varint_bytes(len(value)))
        parts.append(value)
    return b"".join(parts)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """An integer, seven bits a byte, and where it ends."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def _varint_bytes(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
