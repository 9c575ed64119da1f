"""`litemedsam annotate`: a local page on which the mask follows the box."""

import argparse
import os
import threading
import webbrowser
from pathlib import Path
from urllib.parse import quote

from litemedsam_jax.commands import argument_types
from litemedsam_jax.commands.arguments import add_postprocess, mask_steps, os_message, refuse
from litemedsam_jax.commands.listening import check_listening, url
from litemedsam_jax.weights import default_weights

DESCRIPTION = """\
Opens images in the browser, to segment them by boxes: the mask follows while a box is dragged.

  litemedsam annotate demo/imgs

Images are npz cases, NIfTI, NRRD, MHA, DICOM series, PNG, JPEG and TIFF. The page is served to this
machine alone, at an address with a random token; nothing leaves the machine. Originals are never
written to: masks, boxes and the journal of every step go to --output. What was begun goes on where
it was left, also after a crash.

Exit status: 0 ended by the user; 2 nothing could start.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("inputs", type=Path, nargs="+", metavar="FOLDER|FILE", help="images, or folders of them")
    add("-o", "--output", type=Path, metavar="DIR", help="default: annotations beside the images")
    add(
        "--weights",
        type=Path,
        metavar="FILE",
        help=f"weights: .safetensors, or PyTorch's .pth (default: {default_weights.DESCRIPTION})",
    )
    add("--labels", type=Path, metavar="FILE", help="JSON list of labels: names, or value and name")
    add("--read-only", action="store_true", help="look and try, keep nothing")
    add(
        "--strategy",
        type=argument_types.strategy,
        default="reference",
        metavar="NAME",
        help="of masks that are kept, as for `segment`; while a box is dragged it is always "
        "'reference', the quickest (default: %(default)s)",
    )
    add_postprocess(parser)
    add("--host", default="127.0.0.1", help="an address of this machine; others need --token")
    add("--token", help="what the address must carry; 16 characters or more (default: random)")
    add("--port", type=int, default=0, help="default: any that is free")
    add("--no-browser", action="store_true", help="print the address, open nothing")


def run(args: argparse.Namespace) -> int:
    """Serves until it is interrupted; returns the exit status."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # spares JAX the search for accelerators
    from litemedsam_jax.annotation.project import read_label_names
    from litemedsam_jax.process import keep_memory
    from litemedsam_jax.serving import server
    from litemedsam_jax.serving.workspace import Workspace

    try:
        check_listening(args.host, args.token, "--token", all_addresses=False)
        mask_steps(args, by_slice=True)
        token = args.token or server.new_token()
        labels = read_label_names(args.labels) if args.labels else []
        workspace = Workspace(args.inputs, args.output, labels, args.read_only)
        if not args.read_only:
            workspace.output.mkdir(parents=True, exist_ok=True)
        listening = server.listen(args.host, args.port)
    except OSError as error:
        return refuse("annotate", ValueError(os_message(error)))
    except ValueError as error:
        return refuse("annotate", error)
    keep_memory()
    address = f"{url(args.host, listening.getsockname()[1])}/?token={quote(token)}"
    print(f"open {address}\nmasks go to {workspace.output}; Ctrl-C ends", flush=True)
    if not args.no_browser:
        threading.Timer(0.3, webbrowser.open, [address]).start()
    server.serve(
        workspace, args.weights, args.strategy, token, listening, postprocess=args.postprocess
    )
    return 0
