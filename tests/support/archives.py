"""What the tests of cases share: good arrays, and archives put together by hand."""

import io
import zipfile

import numpy as np
import pytest

from litemedsam_jax.imaging.case import read_case
from litemedsam_jax.imaging.errors import CaseError

GREY = np.arange(30 * 40, dtype=np.uint8).reshape(30, 40)
COLOUR = np.stack([GREY] * 3, axis=-1)
VOLUME = np.stack([GREY] * 5)
BOX = np.array([[3, 4, 20, 25]])
BOX_3D = np.array([[3, 4, 1, 20, 25, 3]])


def write(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def refusal(path, prompts="boxes") -> str:
    with pytest.raises(CaseError) as caught:
        read_case(path, prompts)
    message = str(caught.value)
    assert message.isprintable() and len(message) <= 400  # so it is one line
    return message


def npy(array, **options) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def zipped(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path
