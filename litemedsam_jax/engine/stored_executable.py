"""The bytes of one stored executable: XLA's own, and what JAX's public interface wraps around them.

XLA's bytes alone are enough for jaxlib (engine.jaxlib_runtime); the wrapping lets JAX load the
same file (engine.jax_runtime) where jaxlib's inner interface is another one.
"""

import struct
from dataclasses import dataclass

_HEADER = struct.Struct("<4sIQQ")  # magic, arguments, bytes before the code, bytes of code
_MAGIC = b"LMX1"


@dataclass(frozen=True)
class StoredExecutable:
    """An executable as it lies on disk.

    Attributes:
        argument_count: arrays that it takes, parameters and inputs.
        before: JAX's bytes before XLA's.
        code: what XLA's client serializes and deserializes.
        after: JAX's bytes after XLA's.
    """

    argument_count: int
    before: bytes
    code: bytes
    after: bytes

    @classmethod
    def split(cls, argument_count: int, code: bytes, wrapped: bytes) -> "StoredExecutable":
        """Finds XLA's bytes within JAX's, so that they are stored once.

        Args:
            argument_count: arrays that the executable takes.
            code: from XLA's `serialize_executable`.
            wrapped: from `jax.experimental.serialize_executable.serialize`.
        """
        before, separator, after = wrapped.partition(code)
        if not separator:  # JAX wraps something else: its way to load is not available
            return cls(argument_count, b"", code, b"")
        return cls(argument_count, before, code, after)

    def with_code(self, code: bytes) -> "StoredExecutable":
        """The same with other bytes of XLA's, also within JAX's."""
        wrapped = _with_other_bytes(self.wrapped, self.code, code) if self.before else b""
        return self.split(self.argument_count, code, wrapped)

    @property
    def wrapped(self) -> bytes:
        """What JAX's public interface loads.

        Raises:
            ValueError: it was not stored.
        """
        if not self.before:
            raise ValueError("it was stored without what JAX needs to load it")
        return self.before + self.code + self.after

    def to_bytes(self) -> bytes:
        """The content of a file."""
        header = _HEADER.pack(_MAGIC, self.argument_count, len(self.before), len(self.code))
        return b"".join([header, self.before, self.code, self.after])

    @classmethod
    def from_bytes(cls, data: bytes) -> "StoredExecutable":
        """The inverse of `to_bytes`.

        Raises:
            ValueError: these are not such bytes.
        """
        if len(data) < _HEADER.size or not data.startswith(_MAGIC):
            raise ValueError("not a stored executable")
        _, argument_count, before, code = _HEADER.unpack_from(data)
        start, end = _HEADER.size + before, _HEADER.size + before + code
        if end > len(data):
            raise ValueError("a stored executable was cut short")
        return cls(argument_count, data[_HEADER.size : start], data[start:end], data[end:])


def _with_other_bytes(pickled: bytes, old: bytes, new: bytes) -> bytes:
    """A pickle in which a bytes object is another one, of another length."""
    import pickle
    import pickletools  # to store, not to load

    operations = list(pickletools.genops(pickled))
    ends = [start for _, _, start in operations[1:]] + [len(pickled)]
    parts = []
    for (operation, argument, start), end in zip(operations, ends, strict=True):
        if operation.name == "FRAME":  # tells a length of the rest, and may be left out
            continue
        if argument == old:
            parts.append(pickle.BINBYTES8 + struct.pack("<Q", len(new)) + new)
        else:
            parts.append(pickled[start:end])
    return b"".join(parts)
