"""Headers of MHA and MHD files, checked before ITK's reader sees them.

On a damaged header that reader (MetaIO) prints to the console, and writes past its own memory where
numbers are more than there are axes. Source of the layout: https://itk.org/Wiki/MetaIO.
"""

import math
from collections.abc import Mapping
from pathlib import Path

_BYTES = {
    "MET_CHAR": 1, "MET_UCHAR": 1, "MET_SHORT": 2, "MET_USHORT": 2, "MET_INT": 4, "MET_UINT": 4,
    "MET_LONG": 4, "MET_ULONG": 4, "MET_LONG_LONG": 8, "MET_ULONG_LONG": 8, "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}  # fmt: skip
_A_NUMBER_AN_AXIS = (
    "DimSize", "ElementSpacing", "ElementSize", "Offset", "Origin", "Position", "CenterOfRotation",
)  # fmt: skip
_A_ROW_AN_AXIS = ("TransformMatrix", "Rotation", "Orientation")
_NEEDED = ("NDims", "DimSize", "ElementType", "ElementDataFile")
_LONGEST_HEADER = 1 << 16
_LONGEST_LINE = 400


def check_meta_image(path: Path) -> None:
    """Checks a header, and that its values are all there.

    Raises:
        ValueError: The header is damaged, or the values are fewer than it says.
    """
    with path.open("rb") as file:
        head = file.read(_LONGEST_HEADER)
    fields, end = _fields(head, path)
    name = fields["ElementDataFile"]
    if name.startswith("LIST") or "%" in name:
        return  # one file a slice
    there = path.stat().st_size - end
    if name.upper() != "LOCAL":
        data = path.parent / name
        if not data.is_file():
            raise ValueError(f"{path}: its values, {name}, do not lie beside it; copy both files")
        there = data.stat().st_size
    wanted = _size_of_values(fields)
    if there < wanted:
        raise ValueError(
            f"{path}: is truncated ({there} of {wanted} bytes of values); copy it again"
        )


def _fields(head: bytes, path: Path) -> tuple[dict[str, str], int]:
    """The header's words, and where it ends."""
    fields: dict[str, str] = {}
    end = 0
    for line in head.split(b"\n"):
        end += len(line) + 1
        text = line.decode("latin-1").strip()
        key, equals, value = (part.strip() for part in text.partition("="))
        if text and (not equals or len(text) > _LONGEST_LINE or not (key + value).isprintable()):
            raise _damaged(path, "a line of it is no 'Name = value'")
        if text and "NDims" not in fields and key in (*_A_NUMBER_AN_AXIS, *_A_ROW_AN_AXIS):
            raise _damaged(path, f"{key} stands before NDims")
        fields[key] = value
        if key == "ElementDataFile":
            break
    for key in _NEEDED:
        if not fields.get(key):
            raise _damaged(path, f"it lacks {key}")
    _check_numbers(fields, path)
    return fields, end


def _check_numbers(fields: Mapping[str, str], path: Path) -> None:
    axes = fields["NDims"]
    if axes not in ("2", "3", "4"):
        raise _damaged(path, f"NDims is {axes}")
    counts = dict.fromkeys(_A_NUMBER_AN_AXIS, int(axes))
    counts |= dict.fromkeys(_A_ROW_AN_AXIS, int(axes) ** 2)
    for key, count in counts.items():
        try:
            numbers = [float(word) for word in fields.get(key, "1 " * count).split()]
        except ValueError:
            numbers = []
        if len(numbers) != count or not all(map(math.isfinite, numbers)):
            raise _damaged(path, f"{key} is {fields[key]}, expected {count} numbers")
    if any(not side.isdecimal() or int(side) < 1 for side in fields["DimSize"].split()):
        raise _damaged(path, f"DimSize is {fields['DimSize']}")
    if fields["ElementType"].removesuffix("_ARRAY") not in _BYTES:
        raise _damaged(path, f"ElementType is {fields['ElementType']}")
    for key in ("ElementNumberOfChannels", "CompressedDataSize"):
        value = fields.get(key, "1")
        if not (value.isdecimal() and len(value) < 16):
            raise _damaged(path, f"{key} is {value}")


def _damaged(path: Path, what: str) -> ValueError:
    return ValueError(
        f"{path}: cannot be read as a volume: its header is damaged ({what}), or it is another "
        "kind of file under this name"
    )


def _size_of_values(fields: Mapping[str, str]) -> int:
    if fields.get("CompressedData", "False").lower() == "true":
        return int(fields.get("CompressedDataSize", "1"))
    sides = [int(side) for side in fields["DimSize"].split()]
    channels = int(fields.get("ElementNumberOfChannels", "1"))
    return math.prod(sides) * channels * _BYTES[fields["ElementType"].removesuffix("_ARRAY")]
