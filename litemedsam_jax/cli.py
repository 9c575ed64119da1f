"""`litemedsam <subcommand>`: finds the command, imports that one alone, runs it."""

import argparse
import importlib
import os
import select
import signal
import sys
from collections.abc import Sequence

# Subcommand -> (module with `add_arguments(parser)` and `run(args) -> exit status`, one-line help).
# The modules are imported only when asked for: start-up time is part of every timed case.
COMMANDS = {
    "segment": ("litemedsam_jax.commands.segment", "segment images and volumes inside boxes"),
    "annotate": ("litemedsam_jax.commands.annotate", "a page on which the mask follows the box"),
    "compile": ("litemedsam_jax.commands.compile", "compile ahead of time, for quick starts"),
    "weights": ("litemedsam_jax.commands.weights", "get the published weights"),
    "convert": ("litemedsam_jax.commands.convert", "PyTorch checkpoint to safetensors, and back"),
    "evaluate": ("litemedsam_jax.commands.evaluate", "score masks against ground truth"),
    "compare": ("litemedsam_jax.commands.compare", "two sets of masks side by side"),
    "time": ("litemedsam_jax.commands.time", "seconds per case of a container image"),
    "prepare": ("litemedsam_jax.commands.prepare", "cases and training data from image files"),
    "pack": ("litemedsam_jax.commands.pack", "training npz to ArrayRecord shards"),
    "finetune": ("litemedsam_jax.commands.finetune", "train stage 2: the whole model on masks"),
    "distill": ("litemedsam_jax.commands.distill", "train stage 1: the encoder from MedSAM's"),
    "npz-to-npy": ("litemedsam_jax.commands.npz_to_npy", "training npz to a folder of npy slices"),
    "split": ("litemedsam_jax.commands.split", "divide cases for training and validation"),
    "check": ("litemedsam_jax.commands.check", "say what is wrong with a folder of cases"),
    "export": ("litemedsam_jax.commands.export", "masks (npz) to label files for a viewer"),
}

# What a plain installation leaves out, by the extra that brings it along.
_OPTIONAL = {
    "'litemedsam-jax[tools]'": "PIL SimpleITK cc3d highdicom matplotlib pydicom scipy "
    "surface_distance",
    "'litemedsam-jax[serve]'": "starlette uvicorn",
    "'litemedsam-jax[train]'": "array_record grain optax orbax tensorboardX tqdm",
    "torch": "torch",
}

# Exit statuses by which shells tell that SIGINT (2), SIGPIPE (13) or SIGTERM (15) ended a program.
_INTERRUPTED, _NOBODY_READS, _TERMINATED = 128 + 2, 128 + 13, 128 + 15


class _Terminated(BaseException):
    """SIGTERM: a scheduler or `docker stop` wants the process to end."""


def main(argv: Sequence[str] | None = None, command: str | None = None) -> int:
    """Runs one subcommand and returns its exit status.

    `command` fixes the subcommand (what `infer.py` and its like do); otherwise it is the first
    argument.
    """
    try:
        try:
            return _dispatch(argv, command)
        finally:
            sys.stdout.flush()
    except (KeyboardInterrupt, _Terminated) as stop:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends the clean-up too
        interrupted = isinstance(stop, KeyboardInterrupt)
        goes_on = "; with --skip-existing it goes on where it was" if command == "segment" else ""
        told = f"litemedsam: {'interrupted' if interrupted else 'terminated'}{goes_on}"
        print(told, file=sys.stderr, flush=True)
        status = _INTERRUPTED if interrupted else _TERMINATED
        if command == "segment" and argv is None:
            os._exit(status)  # XLA's threads may be at work, and would be heard of
        return status
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        return _NOBODY_READS


def _dispatch(argv: Sequence[str] | None, command: str | None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    program = None
    if command is None:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(_usage())
            return 0 if arguments else 2
        command = arguments.pop(0)
        program = f"litemedsam {command}"
        if command not in COMMANDS:
            print(f"litemedsam: there is no command '{command}'\n\n{_usage()}", file=sys.stderr)
            return 2
    if command in ("finetune", "distill") and argv is None:
        from litemedsam_jax import process

        process.with_huge_pages(process.TRAINING)
    if command == "segment" and argv is None:
        from litemedsam_jax import process

        process.with_huge_pages()
        process.lightly()
        # As process 1 of a container it would not be heard otherwise.
        signal.signal(signal.SIGTERM, _terminate)
    module_name, summary = COMMANDS[command]
    try:
        return _run(module_name, program, summary, arguments)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        extras = [extra for extra, packages in _OPTIONAL.items() if package in packages.split()]
        if not extras:
            raise
        told = f"needs the package {package}: pip install {extras[0]}"
        print(f"litemedsam {command}: {told}", file=sys.stderr)
        return 2


def _terminate(*_: object) -> None:
    raise _Terminated


def _run(module_name: str, program: str | None, summary: str, arguments: list[str]) -> int:
    module = importlib.import_module(module_name)
    parser = argparse.ArgumentParser(
        prog=program,
        description=getattr(module, "DESCRIPTION", summary),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return module.run(parser.parse_args(arguments))


def _nobody_reads() -> bool:
    """Whether standard output is a pipe that its reader has closed, as `head` does."""
    try:
        poll, output = select.poll(), sys.stdout.fileno()
    except (AttributeError, OSError):  # Windows; an output that is no file
        return False
    poll.register(output, select.POLLERR)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False  # some other pipe, a fault to be told
    # What is still to be written cannot be: else Python complains of it at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def _usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items())
    return (
        f"usage: litemedsam COMMAND [options]      (litemedsam COMMAND --help tells more)\n\n{rows}"
    )
