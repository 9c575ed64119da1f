"""`litemedsam serve`: 3D Slicer, napari and MITK segment with LiteMedSAM."""

import argparse
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from litemedsam_jax.commands import argument_types
from litemedsam_jax.commands.arguments import add_postprocess, os_message, refuse
from litemedsam_jax.commands.listening import check_listening, url
from litemedsam_jax.weights import default_weights

if TYPE_CHECKING:
    from litemedsam_jax.serving.remote.served_weights import ServedWeights
    from litemedsam_jax.serving.remote.server import Options

DESCRIPTION = """\
Serves LiteMedSAM to 3D Slicer (SlicerNNInteractive, Remote), napari (napari-nninteractive) and
MITK: it speaks the nnInteractive remote protocol, on this machine's CPU.

  litemedsam serve                  then enter http://127.0.0.1:1527 as the server's URL there

A box drawn on one slice becomes the mask of its object through the volume; with the program's
Auto-zoom off, of that slice alone. docs/slicer.md and docs/napari.md show the rest. Only this
machine's programs reach it, unless --host and --api-key say otherwise.

Exit status: 0 ended by the user; 2 nothing could start.
"""
_KEY_VARIABLE = "NN_INTERACTIVE_API_KEY"  # the clients read the same one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="an address of this machine; others need --api-key")
    add("--port", type=int, default=1527, help="default: %(default)s")
    add(
        "--api-key",
        metavar="KEY",
        help="what clients must send; 16 characters or more (default: the environment's "
        f"{_KEY_VARIABLE}, else none)",
    )
    add(
        "--weights",
        type=Path,
        metavar="FILE",
        help=f"weights: .safetensors, or PyTorch's .pth (default: {default_weights.DESCRIPTION})",
    )
    add("--also", type=Path, action="append", default=[], metavar="FILE",
        help="weights of `litemedsam adapt` to serve too, by the server's URL with the file's name "
        "after it: my.safetensors at http://127.0.0.1:1527/my; may be repeated")  # fmt: skip
    add("--modality", default="auto", metavar="NAME",
        help="CT is windowed, others clipped to percentiles (default: guessed for each image from "
        "its values)")  # fmt: skip
    add("--window", type=float, nargs=2, default=(40.0, 400.0), metavar=("LEVEL", "WIDTH"),
        help="of CT, in HU (default: 40 400)")  # fmt: skip
    add("--fill-nan", type=float, metavar="VALUE", help="stands for NaN and infinities in images")
    add("--strategy", type=argument_types.strategy, default="reference", metavar="NAME",
        help="of boxes in three dimensions, as for `segment` (default: %(default)s)")  # fmt: skip
    add_postprocess(parser)
    add("--no-autozoom", action="store_true",
        help="a box on one slice is for that slice, where programs do not say")  # fmt: skip
    add("--max-sessions", type=int, default=4, metavar="N", help="default: %(default)s")
    add("--idle-timeout-seconds", type=float, default=3600, metavar="S",
        help="after which an unused session is ended (default: %(default)g)")  # fmt: skip
    add("--liveness-timeout-seconds", type=float, default=60, metavar="S",
        help="after which the session of a program that is silent is ended "
        "(default: %(default)g)")  # fmt: skip
    add("--answer-seconds", type=float, default=45, metavar="S",
        help="after which a mask is answered as far as it is; programs wait for 60 "
        "(default: %(default)g)")  # fmt: skip
    add("--memory", type=float, default=4, metavar="GIB",
        help="that images of all sessions may take (default: %(default)g)")  # fmt: skip
    add("--cache", type=float, default=0.5, metavar="GIB",
        help="of encoded slices, 4 MiB each (default: %(default)g)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Serves until it is interrupted; returns the exit status."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # spares JAX the search for accelerators
    from litemedsam_jax.process import keep_memory
    from litemedsam_jax.serving.remote import server

    try:
        options = _options(args)
        listening = server.listen(args.host, args.port)
    except OSError as error:
        return refuse("serve", ValueError(os_message(error)))
    except ValueError as error:
        return refuse("serve", error)
    keep_memory()
    address = url(args.host, listening.getsockname()[1])
    try:
        weights = _weights(args, options.cache_bytes)
    except (OSError, ValueError) as error:
        listening.close()
        return refuse("serve", error)
    for name, one in weights.items():
        if name or one.note:
            options.log(f"{address}/{name}: {one.note or 'other weights'}")
    options.log(f"serving {address} (Ctrl-C ends)")
    server.serve(weights, options, listening)
    return 0


def _weights(args: argparse.Namespace, cache_bytes: int) -> "dict[str, ServedWeights]":
    """What `--weights` and `--also` name; raises OSError, ValueError."""
    from litemedsam_jax.serving.embedding_cache import EmbeddingCache
    from litemedsam_jax.serving.remote import server
    from litemedsam_jax.serving.remote.served_weights import DEFAULT, ServedWeights
    from litemedsam_jax.weights.adapted_steps import steps_for
    from litemedsam_jax.weights.same_encoder import check_same_encoder

    files = {DEFAULT: args.weights}
    for path in args.also:
        if path.stem in files or not re.fullmatch(r"\w[\w.-]*", path.stem, re.ASCII):
            raise ValueError(
                f"--also {path}: its name is a part of the server's URL; expected one of its own, "
                "of letters, digits, '_', '-' and '.'"
            )
        check_same_encoder(path, args.weights)
        files[path.stem] = path
    embeddings: EmbeddingCache = EmbeddingCache(cache_bytes)
    served = {}
    for name, path in files.items():
        masks = steps_for(path, args.strategy.name, args.postprocess, by_slice=True)
        model = server.open_model(path, embeddings)
        served[name] = ServedWeights(model, masks.steps, masks.line)
    return served


def _options(args: argparse.Namespace) -> "Options":
    """What was asked for; raises ValueError."""
    from litemedsam_jax.imaging.intensity import IntensityOptions
    from litemedsam_jax.serving.remote.server import Options

    counts = ("max_sessions", "idle_timeout_seconds", "liveness_timeout_seconds", "answer_seconds",
              "memory", "cache")  # fmt: skip
    for name in counts:
        if not getattr(args, name) > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be more than 0")
    level, width = args.window
    key = args.api_key or os.environ.get(_KEY_VARIABLE) or None
    check_listening(args.host, key, "--api-key", all_addresses=True)
    return Options(
        key=key,
        host=args.host,
        most_sessions=args.max_sessions,
        idle_seconds=args.idle_timeout_seconds,
        liveness_seconds=args.liveness_timeout_seconds,
        memory_bytes=int(args.memory * (1 << 30)),
        cache_bytes=int(args.cache * (1 << 30)),
        answer_seconds=args.answer_seconds,
        strategy=args.strategy,
        intensity=IntensityOptions(args.modality, level, width, fill_nan=args.fill_nan),
        autozoom=not args.no_autozoom,
        log=_log,
    )


def _log(line: str) -> None:
    with suppress(OSError):  # nobody reads any more; the server goes on
        print(line, flush=True)
