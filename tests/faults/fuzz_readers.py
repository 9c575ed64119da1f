"""Coverage-guided fuzzing of everything that reads a file from outside.

    pip install atheris        # has wheels for Linux and Python up to 3.13
    python -m tests.faults.fuzz_readers [--seconds 600] [TARGET ...]

Each target runs in a process of its own for its share of the time, from good files as seeds. An
input is answered well if it is read or refused by the reader's own exception; anything else, more
than 2 GB, or more than 20 s stops the target and leaves the input beside the corpus, to be kept as
a test. Exit status 0: no target was stopped.
"""

import argparse
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
FRAME = b"\xf7\xf7"  # stands between the members of an archive that is put together here


def _members(data: bytes, names: list[str]) -> bytes:
    """A zip with right checksums, so that what is inside is reached."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in zip(names, data.split(FRAME), strict=False):
            archive.writestr(name, content)
    return stream.getvalue()


def read_npz(path: Path) -> None:
    from litemedsam_jax.imaging.case import read_case
    from litemedsam_jax.imaging.errors import CaseError

    for prompts in ("boxes", "gt"):
        try:
            read_case(path, prompts)
        except CaseError as error:
            assert str(error).isprintable()


def read_pth(path: Path) -> None:
    from litemedsam_jax.weights.errors import CheckpointError
    from litemedsam_jax.weights.state_dict import recognise, unwrap
    from litemedsam_jax.weights.torch_file import read_torch_file

    try:
        recognise(unwrap(read_torch_file(path), str(path)), str(path))
    except CheckpointError as error:
        assert str(error).isprintable()


def read_store(path: Path) -> None:
    from litemedsam_jax.weights.errors import CheckpointError
    from litemedsam_jax.weights.load import load

    try:
        load(path)
    except CheckpointError as error:
        assert str(error).isprintable()


def read_boxes(path: Path) -> None:
    from litemedsam_jax.imaging import box_files
    from litemedsam_jax.imaging.geometry import Geometry

    for geometry in (
        None,
        Geometry((9, 9, 9), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel())),
    ):
        try:
            box_files.read_boxes(path, "a", geometry)
        except ValueError as error:
            assert str(error).startswith(str(path))


NPZ = ["imgs.npy", "boxes.npy", "gts.npy", "spacing.npy", "direction.npy"]
PTH = ["a/data.pkl", "a/data/0", "a/data/1", "a/data/2", "a/data/3", "a/data/4"]
# Target -> suffix of the file, what becomes of the input, reader.
TARGETS: dict[str, tuple[str, Callable[[bytes], bytes], Callable[[Path], None]]] = {
    "npz": (".npz", bytes, read_npz),
    "npz-members": (".npz", lambda data: _members(data, NPZ), read_npz),
    "pth": (".pth", bytes, read_pth),
    "pth-members": (".pth", lambda data: _members(data, PTH), read_pth),
    "safetensors": (".safetensors", bytes, read_store),
    "boxes-json": (".json", bytes, read_boxes),
    "boxes-csv": (".csv", bytes, read_boxes),
}


def seeds(target: str) -> list[bytes]:
    """Good inputs of a target."""
    from tests.batch.hostile import making
    from tests.weights import mutations

    if target.startswith("npz"):
        cases = [making.good(np.random.default_rng(seed), bool(seed % 2)) for seed in range(6)]
        if target == "npz":
            return [making.zipped(case) for case in cases]
        return [FRAME.join(case.values()) for case in cases]
    if target.startswith("pth"):
        path = Path(tempfile.mkdtemp()) / "a.pth"
        mutations.save_good(path)
        if target == "pth":
            return [path.read_bytes()]
        parts = [content for name, content in mutations.read_members(path) if "/data" in name]
        codes = [mutations.pickled(call, 2) for call in mutations.calls(path)]
        return [FRAME.join(parts), *codes]
    if target == "safetensors":
        return [_small_safetensors()]
    if target == "boxes-json":
        texts = ["[[1,2,3,4]]", '{"a": [[1,2,3,4,5,6]]}']
        texts += ['{"units": "mm", "boxes": [[1,2,3,4,5,6]]}', '{"a": {"units": "mm-ras"}}']
        return [text.encode() for text in texts]
    head = "case,units,x_min,y_min,z_min,x_max,y_max,z_max\n"
    texts = [head + "a,mm,1,2,3,4,5,6\nb,,1,2,3,4,5,6\n", "x_min,y_min,x_max,y_max\n1,2,3,4\n"]
    return [text.encode() for text in texts]


def _small_safetensors() -> bytes:
    from safetensors.numpy import save

    from litemedsam_jax import config
    from litemedsam_jax.weights import config_json, safetensors_file

    texts = {
        "format": safetensors_file.FORMAT,
        "config": config_json.to_json(config.tiny_for_tests()),
    }
    return save({"params/a": np.ones((2, 3), np.float32), "b": np.zeros(2, np.int64)}, texts)


def fuzz(target: str, arguments: list[str]) -> None:
    """Runs one target in this process; does not return."""
    import atheris

    # Everything that the readers import is instrumented, what it stands on is not.
    with atheris.instrument_imports(include=["litemedsam_jax", "zipfile", "pickletools"]):
        import litemedsam_jax.imaging.box_files
        import litemedsam_jax.imaging.case
        import litemedsam_jax.weights.load
        import litemedsam_jax.weights.state_dict  # noqa: F401
    suffix, made, read = TARGETS[target]
    path = Path(tempfile.mkdtemp(dir="/dev/shm")) / f"input{suffix}"

    def once(data: bytes) -> None:
        path.write_bytes(made(data))
        read(path)

    atheris.Setup([sys.argv[0], *arguments], once)
    atheris.Fuzz()


def run(target: str, folder: Path, seconds: int) -> bool:
    """Runs one target in a process; whether nothing stopped it."""
    corpus = folder / target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target)):
        (corpus / f"seed_{number}").write_bytes(seed)
    limits = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", "-max_len=20000"]
    command = [sys.executable, "-m", "tests.faults.fuzz_readers", "--child", target, *limits]
    command += [f"-artifact_prefix={folder}/{target}-found-", str(corpus)]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    lines = result.stderr.splitlines()
    done = [line for line in lines if line.startswith(("Done", "#"))]
    print(f"{target}: {done[-1] if done else lines[-1:]}", flush=True)
    if result.returncode:
        print(result.stdout[-3000:], "\n".join(lines[-8:]), sep="\n", flush=True)
    return result.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=600, help="in all")
    parser.add_argument("--folder", type=Path, help="keeps the corpus for a next time")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    targets = arguments.targets or list(TARGETS)
    share = max(1, arguments.seconds // len(targets))
    well = [run(target, folder.resolve(), share) for target in targets]
    print(f"{sum(well)} of {len(well)} targets ended well; corpus in {folder}")
    return 0 if all(well) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        fuzz(sys.argv[2], sys.argv[3:])
    sys.exit(main())
