"""Cases put together by hand: arrays, their headers, archives; and good ones to start from."""

import io
import zipfile

import numpy as np

Members = dict[str, bytes]
Random = np.random.Generator


def npy(array: np.ndarray, pickled: bool = False) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=pickled)
    return stream.getvalue()


def header(shape: str, descr: str = "'|u1'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin1")


def zipped(members: Members, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def good(rng: Random, volume: bool | None = None) -> Members:
    """A case without a fault, small."""
    if volume is None:
        volume = bool(rng.integers(2))
    height, width, depth = rng.integers(2, 60), rng.integers(2, 60), rng.integers(1, 5)
    shape = (depth, height, width) if volume else (height, width, 3)
    image = rng.integers(0, 256, shape, np.uint8)
    count = rng.integers(1, 4)
    corners = np.sort(rng.integers(0, [width, height, depth], (2, count, 3)), axis=0)
    boxes = np.concatenate(corners[..., : 3 if volume else 2], axis=1)
    gts = rng.integers(0, 3, shape[: 3 if volume else 2], np.uint8)
    return {
        "imgs.npy": npy(image),
        "boxes.npy": npy(boxes),
        "gts.npy": npy(gts),
        "spacing.npy": npy(np.array([1.0, 1.0, 2.5])),
        "direction.npy": npy(np.eye(3).ravel()),
    }
