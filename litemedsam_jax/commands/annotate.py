"""`litemedsam annotate`: a local page on which the mask follows the box."""

import argparse
import os
import sys
import threading
import webbrowser
from pathlib import Path
from urllib.parse import quote

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
        default="reference",
        metavar="NAME",
        help="of masks that are kept, as for `segment`; while a box is dragged it is always "
        "'reference', the quickest (default: %(default)s)",
    )
    add("--host", default="127.0.0.1", help="an address of this machine; others need --token")
    add("--token", help="what the address must carry; 16 characters or more (default: random)")
    add("--port", type=int, default=0, help="default: any that is free")
    add("--no-browser", action="store_true", help="print the address, open nothing")


def run(args: argparse.Namespace) -> int:
    """Serves until it is interrupted; returns the exit status."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # spares JAX the search for accelerators
    from litemedsam_jax.annotation.project import read_label_names
    from litemedsam_jax.inference.strategies import parse
    from litemedsam_jax.process import keep_memory
    from litemedsam_jax.serving import server
    from litemedsam_jax.serving.workspace import Workspace

    try:
        strategy = parse(args.strategy)
        token = _token(args.host, args.token)
        labels = read_label_names(args.labels) if args.labels else []
        workspace = Workspace(args.inputs, args.output, labels, args.read_only)
        if not args.read_only:
            workspace.output.mkdir(parents=True, exist_ok=True)
        listening = server.listen(args.host, args.port)
    except OSError as error:
        named = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"litemedsam annotate: {named}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"litemedsam annotate: {error}", file=sys.stderr)
        return 2
    keep_memory()
    host = f"[{args.host}]" if ":" in args.host else args.host
    address = f"http://{host}:{listening.getsockname()[1]}/?token={quote(token)}"
    print(f"open {address}\nmasks go to {workspace.output}; Ctrl-C ends", flush=True)
    if not args.no_browser:
        threading.Timer(0.3, webbrowser.open, [address]).start()
    server.serve(workspace, args.weights, strategy, token, listening)
    return 0


def _token(host: str, given: str | None) -> str:
    """The token; raises ValueError where the server would be too open."""
    import ipaddress

    from litemedsam_jax.serving import server

    if given is not None and (len(given) < 16 or not given.isascii() or not given.isprintable()):
        raise ValueError("--token must be 16 printable ASCII characters or more")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"--host {host}: expected an IP address of this machine") from None
    if address.is_unspecified:
        raise ValueError(f"--host {host}: name one address; all of them would be too open")
    if not address.is_loopback and given is None:
        raise ValueError(
            f"--host {host} is seen by other machines: say --token, and note that "
            "the connection is not encrypted"
        )
    return given or server.new_token()
