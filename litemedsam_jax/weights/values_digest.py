"""A digest of all variables: tells changed values, and keys what is made of them."""

import hashlib
from collections.abc import Mapping
from threading import Thread

import numpy as np

from litemedsam_jax.weights.errors import CheckpointError

# Of the published LiteMedSAM, which lies about in files that carry no digest.
PUBLISHED = "7eb396f67d5a8cb129a6e8ee4040b45a9087f1d023d11e90c64f8fe9528a5069"


def values_digest(variables: Mapping[str, np.ndarray]) -> str:
    """Returns the SHA-256, in hex, of names, types, shapes and values of flat variables.

    The order of the variables does not matter, nor how they lie in memory. For large arrays
    hashlib lets other threads run.
    """
    digest = hashlib.sha256()
    for name in sorted(variables):
        array = np.ascontiguousarray(variables[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


class DigestCheck:
    """Computes the digest in a thread, while the caller goes on, and compares it."""

    def __init__(self, variables: Mapping[str, np.ndarray], stated: str | None, source: str):
        """Starts the thread.

        Args:
            variables: Flat.
            stated: The digest that they should have; None: any will do.
            source: The file, for the message.
        """
        self._variables, self._stated, self._source = variables, stated, source
        self._digest = ""
        self._thread = Thread(target=self._compute, daemon=True)
        self._thread.start()

    def _compute(self) -> None:
        self._digest = values_digest(self._variables)

    def __call__(self) -> str:
        """Waits for the digest and returns it.

        Raises:
            CheckpointError: It is not the one that was stated.
        """
        self._thread.join()
        if self._stated is not None and self._digest != self._stated:
            raise CheckpointError(
                f"{self._source}: its values are not those that were written (their SHA-256 "
                "differs from the one in its metadata): damaged, or changed by another program. "
                "Fetch or convert it again."
            )
        return self._digest
