"""Cases shared out among processes, each with a model of its own."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from litemedsam_jax.batch.one_case import BatchOptions, CaseResult, Segmenter

_INTERRUPTED = 130  # the exit status after Ctrl-C, by custom


def run_in_processes(options: BatchOptions, paths: list[Path]) -> Iterator[tuple[Path, CaseResult]]:
    """Yields each case's path and result, as they are done.

    A process that dies fails its cases; what no case survives (wrong weights, a missing package)
    and what stops the caller (Ctrl-C) ends all processes first.
    """
    # Spawned, not forked: XLA's threads do not survive a fork.
    pool = ProcessPoolExecutor(
        min(options.workers, len(paths)), get_context("spawn"), _start, (options,)
    )
    try:
        with _interrupts_held_back():  # by the processes too, until they can answer
            futures = {pool.submit(_run, path): path for path in paths}
        for future in as_completed(futures):
            try:
                result = future.result()
            except BrokenExecutor:
                result = CaseResult(
                    error="a process ended before its time, for want of memory perhaps; run the "
                    "rest with --skip-existing and fewer workers"
                )
            yield futures[future], result
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_segmenter: Segmenter  # of a worker process
_busy = False


def _start(options: BatchOptions) -> None:
    global _segmenter
    signal.signal(signal.SIGINT, _interrupt)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _segmenter = Segmenter(options)


def _interrupt(*_: Any) -> None:
    """Ctrl-C reaches every process of a terminal. The first one tells of it, these just end."""
    if _busy:
        raise KeyboardInterrupt  # so that no half file stays
    os._exit(_INTERRUPTED)


def _run(path: Path) -> CaseResult:
    global _busy
    _busy = True
    try:
        return _segmenter.run(path)
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)  # at once: XLA's threads do not like a slow farewell
    finally:
        _busy = False
