"""The command line's own doings: what is said of packages that are not installed."""

import argparse
import importlib.util
import os
import signal
import subprocess
import sys

import pytest

from litemedsam_jax import cli
from litemedsam_jax.inference.predictor import LiteMedSAM
from tests.conftest import REPOSITORY


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("SimpleITK", "pip install 'litemedsam-jax[tools]'"),
        ("orbax.checkpoint", "pip install 'litemedsam-jax[train]'"),
        ("torch", "pip install torch"),
    ],
)
def test_a_missing_optional_package_is_one_sentence(monkeypatch, capsys, module, command):
    def run(_):
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)

    monkeypatch.setattr("litemedsam_jax.commands.compile.run", run)
    assert cli.main(["compile"]) == 2
    package = module.split(".")[0]
    assert (
        capsys.readouterr().err == f"litemedsam compile: needs the package {package}: {command}\n"
    )


@pytest.mark.parametrize(
    ("command", "arguments"), [("finetune", []), ("adapt", ["-i", "a", "-l", "b", "--estimate"])]
)
def test_a_package_that_is_needed_late_is_missed_at_once(monkeypatch, capsys, command, arguments):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "surface_distance" else find(name)
    )
    assert cli.main([command, *arguments]) == 2
    printed = capsys.readouterr().err
    assert printed == (
        f"litemedsam {command}: needs the package surface_distance: "
        "pip install 'litemedsam-jax[tools]'\n"
    )


def test_a_missing_package_while_cases_run(monkeypatch, capsys, tmp_path):
    (tmp_path / "a.npz").touch()

    def from_pretrained(*_, **__):
        raise ModuleNotFoundError("No module named 'PIL'", name="PIL")

    monkeypatch.setattr(LiteMedSAM, "from_pretrained", from_pretrained)
    arguments = ["-i", str(tmp_path), "-o", str(tmp_path / "segs")]
    assert cli.main(arguments, command="segment") == 2
    assert "needs the package PIL" in capsys.readouterr().err


def test_a_mistake_of_ours_is_not_covered_up(monkeypatch):
    def add_arguments(_: argparse.ArgumentParser):
        raise ModuleNotFoundError(
            "No module named 'litemedsam_jax.gone'", name="litemedsam_jax.gone"
        )

    monkeypatch.setattr("litemedsam_jax.commands.compile.add_arguments", add_arguments)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["compile"])


def test_an_interruption_is_one_line(monkeypatch, capsys):
    def run(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("litemedsam_jax.commands.compile.run", run)
    before = signal.getsignal(signal.SIGINT)
    try:
        assert cli.main(["compile"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr() == ("", "litemedsam: interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="other signals")
@pytest.mark.parametrize(("name", "word"), [("SIGINT", "interrupted"), ("SIGTERM", "terminated")])
@pytest.mark.parametrize("command", ["segment", None], ids=["infer.py", "litemedsam segment"])
def test_signals_end_a_run_with_one_line_and_their_status(command, name, word):
    code = f"""
import os, signal, sys, threading
from litemedsam_jax import cli
from litemedsam_jax.commands import segment
signal.signal(signal.SIGINT, signal.default_int_handler)  # CI may run with it ignored
# XLA's threads do not end either: who waits for them would hang.
threading.Thread(target=threading.Event().wait).start()
segment.run = lambda _: os.kill(os.getpid(), signal.{name}) or signal.pause()
sys.argv[1:] = {[] if command else ["segment"]} + ["-i", "imgs", "-o", "segs"]
cli.run_process({command!r})
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 128 + getattr(signal, name)
    assert run.stderr == f"litemedsam: {word}; with --skip-existing it goes on where it was\n"


@pytest.mark.skipif(sys.platform == "win32", reason="other pipes")
@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "litemedsam_jax"],
        ["-m", "litemedsam_jax", "--version"],
        ["-m", "litemedsam_jax", "segment", "-i", "IMGS", "-o", "SEGS"],
        ["infer.py", "-i", "IMGS", "-o", "SEGS"],
    ],
    ids=" ".join,
)
def test_a_reader_that_goes_away_ends_the_command_quietly(arguments, tmp_path):
    (tmp_path / "imgs").mkdir()
    (tmp_path / "imgs" / "a.npz").touch()  # a case that fails, which is printed
    folders = {"IMGS": str(tmp_path / "imgs"), "SEGS": str(tmp_path / "segs")}
    command = [sys.executable, *(folders.get(argument, argument) for argument in arguments)]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        run = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, cwd=REPOSITORY)
    assert (run.returncode, run.stderr) == (141, b"")


def test_another_broken_pipe_is_not_covered_up(monkeypatch):
    def run(_):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("litemedsam_jax.commands.compile.run", run)
    with pytest.raises(BrokenPipeError):
        cli.main(["compile"])


def test_the_version_is_the_packages(capsys):
    import litemedsam_jax

    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"litemedsam {litemedsam_jax.__version__}\n"


def test_every_command_is_there():
    for name, command in cli.COMMANDS.items():
        assert importlib.util.find_spec(f"litemedsam_jax.commands.{command.module}"), name
