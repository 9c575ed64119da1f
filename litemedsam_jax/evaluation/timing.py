"""The challenge's timing: one fresh container per case, from start to exit."""

import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from litemedsam_jax.files import replacing


@dataclass(frozen=True)
class Container:
    """What is run for each case.

    Attributes:
        engine: docker or podman (name or path).
        image: its name.
        memory: limit, as the engine takes it.
        command: run in the image's working directory; it finds the case in /workspace/inputs and
            leaves the masks in /workspace/outputs.
        timeout: seconds.
    """

    engine: str
    image: str
    memory: str = "8g"
    command: tuple[str, ...] = ("sh", "predict.sh")
    timeout: float = 3600.0


def find_engine(name: str | None) -> str:
    """The engine's path: the named one, else docker, else podman.

    Raises:
        FileNotFoundError: there is none.
    """
    for candidate in [name] if name else ["docker", "podman"]:
        if program := shutil.which(candidate):
            return program
    raise FileNotFoundError(
        f"{name or 'docker or podman'}: not found; install one, or name it with --engine"
    )


def load_image(engine: str, archive: Path) -> None:
    """Loads an image from a tar archive.

    Raises:
        RuntimeError: in the engine's words, why it cannot be loaded.
    """
    _engine([engine, "image", "load", "-i", str(archive)], f"{archive} could not be loaded")


def demand_image(container: Container) -> None:
    """Checks that the engine answers and has the image.

    Raises:
        RuntimeError: it does not.
    """
    _engine([container.engine, "version"], f"{container.engine} does not answer; is it running?")
    what = f"there is no image '{container.image}'; build it, or load it with --load FILE"
    _engine([container.engine, "image", "inspect", container.image], what)


def time_case(container: Container, case: Path, output: Path) -> float:
    """Runs the container on one case and moves its result to `output`.

    Works in a temporary folder of its own, removed afterwards; the container has no network.

    Returns:
        Wall seconds.

    Raises:
        RuntimeError: it fails, takes too long or writes no file of the case's name.
    """
    with tempfile.TemporaryDirectory(prefix="litemedsam-time-") as scratch:
        inputs, outputs = Path(scratch, "inputs"), Path(scratch, "outputs")
        inputs.mkdir()
        outputs.mkdir()
        outputs.chmod(0o777)  # the image's user is not ours
        Path(scratch).chmod(0o755)
        shutil.copyfile(case, inputs / case.name)
        name = Path(scratch).name
        start = time.perf_counter()
        try:
            _engine(_arguments(container, name, inputs, outputs), "the container failed", container)
        except subprocess.TimeoutExpired:
            subprocess.run([container.engine, "kill", name], capture_output=True, check=False)
            raise RuntimeError(f"stopped after {container.timeout:g} s (--timeout)") from None
        seconds = time.perf_counter() - start
        result = outputs / case.name
        if not result.is_file():
            raise RuntimeError(f"the container wrote no {case.name} to /workspace/outputs")
        with replacing(output) as beside:
            shutil.copyfile(result, beside)
    return seconds


def _arguments(container: Container, name: str, inputs: Path, outputs: Path) -> list[str]:
    return [
        container.engine, "container", "run", "--rm", "--name", name, "--network", "none",
        "--memory", container.memory,
        "--mount", f"type=bind,source={inputs},target=/workspace/inputs",
        "--mount", f"type=bind,source={outputs},target=/workspace/outputs",
        container.image, *container.command,
    ]  # fmt: skip


def _engine(arguments: list[str], what: str, container: Container | None = None) -> None:
    done = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=container.timeout if container else None,
    )
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        words = lines[0 if done.returncode == 125 else -1]  # 125: the engine itself; usage follows
        killed = " (killed: out of memory?)" if done.returncode == 137 else ""
        raise RuntimeError(f"{what}: exit status {done.returncode}{killed}: {words}")
