"""npz files of cases, read without unpickling and written whole or not at all."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from litemedsam_jax.files import replacing
from litemedsam_jax.imaging.geometry import Geometry


def read_npz(
    path: str | Path, required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """The named arrays of an npz. Raises ValueError (damaged, pickled, lacking), OSError."""
    path = Path(path)
    if path.is_file() and not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: is no intact npz file ({path.stat().st_size} bytes, no zip)")
    try:
        with np.load(path, allow_pickle=False) as archive:
            present = set(archive.files)
            if missing := [name for name in required if name not in present]:
                raise ValueError(
                    f"{path}: has no array '{missing[0]}' (it has: {', '.join(sorted(present))})"
                )
            return {name: archive[name] for name in (*required, *optional) if name in present}
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: is no intact npz file ({error}); write it again") from None
    except ValueError as error:
        text = str(error)
        if "allow_pickle" in text or "pickled" in text:
            text = f"{path}: holds pickled objects, which can run code and are refused"
        raise ValueError(text if str(path) in text else f"{path}: {text}") from None


def write_npz(path: str | Path, **arrays: np.ndarray) -> None:
    """Writes a compressed npz in one move."""
    with replacing(path) as beside, beside.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def geometry_arrays(geometry: Geometry) -> dict[str, np.ndarray]:
    """`spacing`, `origin` (3,) and `direction` (9,), as cases carry them: x, y, z, mm, LPS."""
    return {
        "spacing": np.array(geometry.spacing),
        "origin": np.array(geometry.origin),
        "direction": np.array(geometry.direction),
    }


def geometry_of(arrays: dict[str, np.ndarray], shape: tuple[int, ...]) -> Geometry:
    """The grid of a case's (D, H, W) arrays; without `origin`, the axes start at 0, straight."""
    depth, height, width = shape[:3]

    def numbers(key: str, default: np.ndarray) -> tuple[float, ...]:
        values = np.asarray(arrays.get(key, default), np.float64).ravel()
        if values.size != default.size or not np.isfinite(values).all():
            raise ValueError(f"{key} is {values.tolist()}; expected {default.size} numbers")
        return tuple(values.tolist())

    spacing, origin = numbers("spacing", np.ones(3)), numbers("origin", np.zeros(3))
    direction = numbers("direction", np.eye(3))
    return Geometry((width, height, depth), spacing, origin, direction)  # type: ignore[arg-type]
