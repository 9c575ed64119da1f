"""`litemedsam <subcommand>`: finds the command, imports that one alone, runs it."""

import os
import select
import signal
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from litemedsam_jax import process
from litemedsam_jax.process import ProcessNeeds, Terminated

_SEGMENTING = ProcessNeeds(
    tunables=process.HUGE_PAGES,
    quick_start=True,
    stops_on_sigterm=True,
    ends_at_once=True,
    after_stop="with --skip-existing it goes on where it was",
)
# XLA's threads may be at work when the user ends it.
_SERVING = ProcessNeeds(tunables=process.HUGE_PAGES, ends_at_once=True)
_TRAINING = ProcessNeeds(tunables=process.TRAINING_PAGES)
_SCORING = ("scipy", "surface_distance")  # packages


class Command(NamedTuple):
    """A subcommand.

    Attributes:
        module: below litemedsam_jax.commands, with `add_arguments(parser)` and
            `run(args) -> exit status`. Imported only when asked for: start-up time is part of
            every timed case.
        summary: its help in one line.
        needs: of a process that runs nothing else.
        packages: of an extra that it comes to after long work: a missing one is named before.
    """

    module: str
    summary: str
    needs: ProcessNeeds = ProcessNeeds()
    packages: tuple[str, ...] = ()


COMMANDS = {
    "segment": Command("segment", "segment images and volumes inside boxes", _SEGMENTING),
    "annotate": Command("annotate", "a page on which the mask follows the box", _SERVING),
    "serve": Command("serve", "3D Slicer and napari segment with LiteMedSAM", _SERVING),
    "doctor": Command("doctor", "versions, processor, weights, folders: for bug reports"),
    "compile": Command("compile", "compile ahead of time, for quick starts"),
    "weights": Command("weights", "get the published weights"),
    "convert": Command("convert", "PyTorch checkpoint to safetensors, and back"),
    "evaluate": Command("evaluate", "score masks against ground truth"),
    "compare": Command("compare", "two sets of masks side by side"),
    "measure": Command("measure", "volumes, diameters and intensities of masks"),
    "time": Command("time", "seconds per case of a container image"),
    "prepare": Command("prepare", "cases and training data from image files"),
    "pack": Command("pack", "training npz to ArrayRecord shards"),
    "finetune": Command("finetune", "train stage 2: the whole model on masks", _TRAINING, _SCORING),
    "adapt": Command("adapt", "learn from a few labelled cases of one's own", _TRAINING, _SCORING),
    "distill": Command("distill", "train stage 1: the encoder from MedSAM's", _TRAINING),
    "npz-to-npy": Command("npz_to_npy", "training npz to a folder of npy slices"),
    "split": Command("split", "divide cases for training and validation"),
    "check": Command("check", "say what is wrong with a folder of cases"),
    "export": Command("export", "masks (npz) to label files for a viewer"),
}

# What a plain installation leaves out, by the extra that brings it along.
_OPTIONAL = {
    "'litemedsam-jax[tools]'": "PIL SimpleITK cc3d highdicom matplotlib pydicom scipy "
    "surface_distance",
    "'litemedsam-jax[serve]'": "blosc2 starlette uvicorn",
    "'litemedsam-jax[train]'": "array_record grain optax orbax tensorboardX tqdm",
    "torch": "torch",
}

# Exit statuses by which shells tell that SIGINT (2), SIGPIPE (13) or SIGTERM (15) ended a program.
_INTERRUPTED, _NOBODY_READS, _TERMINATED = 128 + 2, 128 + 13, 128 + 15


def run_process(command: str | None = None, argv: Sequence[str] | None = None) -> NoReturn:
    """Runs one subcommand as all that this process is for, and ends it: what scripts call.

    Args:
        command: the subcommand (`infer.py` and its like name theirs); None: the first argument.
        argv: the arguments; None: the command line's.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = command or (arguments[0] if arguments else "")
    needs = COMMANDS[name].needs if name in COMMANDS else ProcessNeeds()
    process.apply(needs)
    process.end(needs, main(arguments, command))


def main(argv: Sequence[str] | None = None, command: str | None = None) -> int:
    """Runs one subcommand in this process, which may go on afterwards.

    Args:
        argv: the arguments; None: the command line's.
        command: the subcommand; None: the first argument.

    Returns:
        The exit status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    program = None
    if command is None:
        if not arguments or arguments[0] in ("-h", "--help"):
            return _print(_usage(), 0 if arguments else 2)
        if arguments[0] == "--version":
            from litemedsam_jax import __version__

            return _print(f"litemedsam {__version__}", 0)
        command = arguments.pop(0)
        program = f"litemedsam {command}"
        if command not in COMMANDS:
            print(f"litemedsam: there is no command '{command}'\n\n{_usage()}", file=sys.stderr)
            return 2
    try:
        try:
            return _run(command, program, arguments)
        finally:
            sys.stdout.flush()
    except (KeyboardInterrupt, Terminated) as stop:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends the clean-up too
        interrupted = isinstance(stop, KeyboardInterrupt)
        after_stop = COMMANDS[command].needs.after_stop
        message = f"litemedsam: {'interrupted' if interrupted else 'terminated'}"
        print("; ".join(filter(None, [message, after_stop])), file=sys.stderr, flush=True)
        return _INTERRUPTED if interrupted else _TERMINATED
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        return _NOBODY_READS


def _print(text: str, status: int) -> int:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        return _NOBODY_READS
    return status


def _run(command: str, program: str | None, arguments: list[str]) -> int:
    import argparse
    import importlib.util

    try:
        module = importlib.import_module(f"litemedsam_jax.commands.{COMMANDS[command].module}")
        parser = argparse.ArgumentParser(
            prog=program,
            description=getattr(module, "DESCRIPTION", COMMANDS[command].summary),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(parser)
        parsed = parser.parse_args(arguments)
        for package in COMMANDS[command].packages:
            if importlib.util.find_spec(package) is None:
                raise ModuleNotFoundError(name=package)
        return module.run(parsed)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        extras = [extra for extra, packages in _OPTIONAL.items() if package in packages.split()]
        if not extras:
            raise
        reason = f"needs the package {package}: pip install {extras[0]}"
        print(f"litemedsam {command}: {reason}", file=sys.stderr)
        return 2


def _nobody_reads() -> bool:
    """Whether standard output is a pipe that its reader has closed, as `head` does."""
    if sys.platform == "win32":
        return False
    try:
        poll, output = select.poll(), sys.stdout.fileno()
    except OSError:  # an output that is no file
        return False
    poll.register(output, select.POLLERR)
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False  # some other pipe, a fault to be reported
    # What is still to be written cannot be: else Python complains of it at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def _usage() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {entry.summary}" for name, entry in COMMANDS.items())
    return (
        "usage: litemedsam COMMAND [options]      (litemedsam COMMAND --help tells more; "
        f"--version)\n\n{rows}"
    )
