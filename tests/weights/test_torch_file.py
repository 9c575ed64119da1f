"""The reader of `.pth` files: the same tensors as torch's, and nothing that a file says is run."""

import builtins
import collections
import copy
import os
import pickle
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.torch_file import read_torch_file

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.complex128,
]


def _archive(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None) -> Path:
    """A hand-made checkpoint."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
    return path


def _tensor_pickle(
    *, count=6, offset=0, shape=(2, 3), strides=(3, 1), key="0", kind="FloatStorage"
) -> bytes:
    """The pickle of {"weight": a tensor}, with fields to one's liking."""

    class Names(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, str) and value == "<storage>":
                return ("storage", getattr(torch, kind), key, "cpu", count)
            return None

    class Tensor:
        def __reduce__(self):
            arguments = ("<storage>", offset, shape, strides, False, collections.OrderedDict())
            return torch._utils._rebuild_tensor_v2, arguments

    import io

    buffer = io.BytesIO()
    Names(buffer, 2).dump({"weight": Tensor()})
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(tmp_path, dtype):
    tensor = (torch.randn(3, 5) * 100).to(dtype)
    torch.save({"x": tensor}, tmp_path / "a.pth")
    array = read_torch_file(tmp_path / "a.pth")["x"]
    assert array.shape == (3, 5) and str(array.dtype) == str(dtype).removeprefix("torch.")
    assert array.tobytes() == tensor.contiguous().view(torch.uint8).numpy().tobytes()


def test_views_and_odd_shapes(tmp_path):
    base = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
    tensors = {
        "transposed": base.permute(2, 0, 1),
        "slice": base[1, 1:3, ::2],
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 5),
        "parameter": torch.nn.Parameter(base.clone()),
        "channels_last": base[None].to(memory_format=torch.channels_last),
    }
    torch.save(tensors, tmp_path / "a.pth")
    arrays = read_torch_file(tmp_path / "a.pth")
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(arrays[name], tensor.detach().numpy())
        assert not arrays[name].flags.writeable or not arrays[name].size


@pytest.mark.parametrize("protocol", [2, 4])
def test_what_trainers_put_beside_the_weights(tmp_path, protocol):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(1, 3)).sum().backward()
    optimizer.step()
    checkpoint = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "loss": np.float64(0.25),
        "best_loss": np.float32(0.5),
        "count": np.int64(-7),
        "logger": {"lrs": [1e-3, np.float64(2.5)], "note": "naïve", "none": None, "flag": True},
        "curve": np.arange(6, dtype=np.float32).reshape(2, 3),
        "betas": (0.9, 0.999),
        "large": 2**40,
        "raw": b"\x00\xff",
    }
    torch.save(checkpoint, tmp_path / "a.pth", pickle_protocol=protocol)
    loaded = read_torch_file(tmp_path / "a.pth")
    for name in ("epoch", "loss", "best_loss", "count", "logger", "betas", "large", "raw"):
        assert loaded[name] == checkpoint[name], name
    assert loaded["best_loss"].dtype == np.float32
    np.testing.assert_array_equal(loaded["curve"], checkpoint["curve"])
    np.testing.assert_array_equal(loaded["model"]["weight"], model.weight.detach().numpy())
    step = loaded["optimizer"]["state"][0]["step"]
    assert step == 1


def test_published_file_equals_torch(published_pth):
    expected = torch.load(published_pth, weights_only=True)
    arrays = read_torch_file(published_pth)
    assert list(arrays) == list(expected)
    for key, tensor in expected.items():
        assert arrays[key].dtype == tensor.numpy().dtype
        np.testing.assert_array_equal(arrays[key], tensor.numpy())


class _Call:
    """Pickles as a call of anything."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "beside-weights"])
@pytest.mark.parametrize("function", [os.mkdir, builtins.eval, builtins.getattr, torch.load])
def test_hostile_pickles_are_refused_by_name_and_not_run(tmp_path, function, wrapped, protocol):
    evidence = tmp_path / "executed"
    arguments = {
        "eval": (f"__import__('os').mkdir({str(evidence)!r})",),
        "getattr": (Path(evidence), "mkdir"),
    }.get(function.__name__, (str(evidence),))
    value = _Call(function, *arguments)
    data = pickle.dumps({"model": {}, "x": value} if wrapped else value, protocol)
    path = _archive(tmp_path / "hostile.pth", data)
    with pytest.raises(CheckpointError, match=r"hostile\.pth: refused: it contains \w+\.") as error:
        read_torch_file(path)
    assert not evidence.exists()
    if function is not builtins.getattr:  # there, pathlib is met first
        assert f".{function.__name__}. Only" in str(error.value)


def test_the_hostile_pickle_would_have_run(tmp_path):
    """Python's own unpickler runs what the test above sees refused."""
    evidence = tmp_path / "executed"
    pickle.loads(pickle.dumps(_Call(os.mkdir, str(evidence)), 2))
    assert evidence.exists()


@pytest.mark.parametrize(
    "data, word",
    [
        (b"\x80\x02cos\nsystem\n.", "os.system"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "a call of a storage type"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "numpy.ndarray"),
        (b"\x80\x02(i__builtin__\nexit\n.", "INST"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02}(K\x01K\x01)K\x01tK\x02u.", "damaged|dictionary key"),
        (b"\x80\x02})K\x01s.", "dictionary key of type tuple"),
        (b"\x80\x02]r\xff\xff\xff\xff.", None),  # a memo index of 4 billion: allocates nothing
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00.", "damaged"),  # a bytearray of 1 TB
        (b"\x80\x02K\x01K\x02", "damaged|without an end"),
        (b"\x80\x02R.", "damaged"),
        (b"\x80\x02}b.", "damaged"),
        (b"", "damaged|without an end"),
        (b"garbage", "damaged"),
        (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R.", "numpy type 'O8'"),
    ],
)
def test_odd_pickles(tmp_path, data, word):
    path = _archive(tmp_path / "odd.pth", data)
    if word is None:
        assert read_torch_file(path) == []
    else:
        with pytest.raises(CheckpointError, match=word):
            read_torch_file(path)


FLOATS = struct.pack("<6f", *range(6))


def test_hand_made_tensor_is_read(tmp_path):
    path = _archive(tmp_path / "a.pth", _tensor_pickle(), {"0": FLOATS})
    np.testing.assert_array_equal(read_torch_file(path)["weight"], [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize(
    "fields",
    [
        {"count": 10**12, "shape": (10**12,), "strides": (1,)},
        {"count": -1},
        {"count": 5},
        {"shape": (2, 4), "strides": (4, 1)},
        {"offset": 1},
        {"offset": -1},
        {"shape": (-2, 3)},
        {"strides": (-3, 1)},
        {"strides": (10**18, 1)},
        {"shape": (10**6, 10**6), "strides": (0, 0)},
        {"shape": (2,)},
        {"shape": (1,) * 40, "strides": (1,) * 40},
        {"key": "1"},
        {"key": "../data.pkl"},
        {"shape": [2, 3]},
        {"shape": (2.0, 3)},
        {"kind": "DoubleStorage"},
    ],
    ids=str,
)
def test_tensors_that_lie_about_their_storage(tmp_path, fields):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = _tensor_pickle(**fields)
    path = _archive(tmp_path / "a.pth", data, {"0": FLOATS})
    with pytest.raises(CheckpointError, match=r"a\.pth: "):
        read_torch_file(path)


def _flip(data: bytes, index: int) -> bytes:
    return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]


def test_files_that_are_no_checkpoint(tmp_path):
    good = tmp_path / "good.pth"
    torch.save({"x": torch.arange(1000.0)}, good)
    data = good.read_bytes()
    legacy = tmp_path / "legacy.pth"
    torch.save({"x": torch.ones(3)}, legacy, _use_new_zipfile_serialization=False)
    zipped = tmp_path / "zipped.pth"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, 2) + b" " * 100)
    other = tmp_path / "other.pth"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "hello")
    contents = {
        "empty.pth": (b"", "an empty file"),
        "truncated.pth": (data[: len(data) // 2], "truncated or damaged zip"),
        "one_byte_short.pth": (data[:-1], "truncated or damaged zip"),
        "text.pth": (b"hello", "not a PyTorch checkpoint"),
        "flipped.pth": (_flip(data, data.index(struct.pack("<2f", 500, 501))), "checksum"),
    }
    for name, (content, _) in contents.items():
        (tmp_path / name).write_bytes(content)
    faults = {name: fault for name, (_, fault) in contents.items()} | {
        "legacy.pth": "before version 1.6",
        "zipped.pth": "compressed or encrypted",
        "other.pth": "no data.pkl",
        "missing.pth": "No such file",
        ".": "Is a directory",
    }
    for name, fault in faults.items():
        with pytest.raises(CheckpointError, match=fault) as error:
            read_torch_file(tmp_path / name)
        assert str(error.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(error.value)


def test_torch_script_is_refused(tmp_path):
    path = tmp_path / "script.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, 2))
        archive.writestr("a/constants.pkl", b"")
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_torch_file(path)


def test_a_huge_description_is_refused(tmp_path):
    path = _archive(tmp_path / "huge.pth", b"\x80\x02" + b"N" * (5 << 20) + b".")
    with pytest.raises(CheckpointError, match="more than 4 MiB"):
        read_torch_file(path)


def test_members_that_overlap_are_refused(tmp_path):
    """A thousand directory entries for the same bytes would be read a thousand times."""
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", _many_storages(10))
        archive.writestr("archive/data/0", bytes(4096))
        entry = archive.getinfo("archive/data/0")
        for number in range(1, 10):
            twin = copy.copy(entry)
            twin.filename = f"archive/data/{number}"
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
    with pytest.raises(CheckpointError, match="overlap"):
        read_torch_file(path)


def _many_storages(count: int) -> bytes:
    storages = b"".join(
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00"
        + str(number).encode()
        + b"X\x03\x00\x00\x00cpuM\x00\x04tQ"
        for number in range(count)
    )
    return b"\x80\x02(" + storages + b"t."
