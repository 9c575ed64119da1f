"""What `litemedsam annotate` and `litemedsam serve` share: where they may listen, and for whom."""

import ipaddress


def check_listening(host: str, secret: str | None, option: str, *, all_addresses: bool) -> None:
    """Refuses an address or a secret with which the server would be too open.

    Args:
        host: Where it is to listen.
        secret: What clients must send; None: nothing that the user chose.
        option: Which sets the secret, for messages: `--token`.
        all_addresses: Whether it may listen on all of them.

    Raises:
        ValueError: A sentence that names the option.
    """
    if secret is not None and not (len(secret) >= 16 and secret.isascii() and secret.isprintable()):
        raise ValueError(f"{option} must be 16 printable ASCII characters or more")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"--host {host}: expected an IP address of this machine") from None
    if address.is_unspecified and not all_addresses:
        raise ValueError(f"--host {host}: name one address; all of them would be too open")
    if not address.is_loopback and secret is None:
        raise ValueError(
            f"--host {host} is reached by other machines: say {option}, and note that the "
            "connection is not encrypted"
        )


def url(host: str, port: int) -> str:
    """The address of a server, without a path."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
