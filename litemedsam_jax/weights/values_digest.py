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
    """Computes the digest in a thread, while the caller goes on, and checks the values."""

    def __init__(self, variables: Mapping[str, np.ndarray], stated: str | None, source: str):
        """Starts the thread.

        Args:
            variables: Flat.
            stated: The digest that they should have; None: any will do.
            source: The file, for the message.
        """
        self._variables, self._stated, self._source = variables, stated, source
        self._digest = ""
        self._not_finite: list[str] = []
        self._failure: Exception | None = None
        self._thread = Thread(target=self._compute, daemon=True)
        self._thread.start()

    def _compute(self) -> None:
        try:
            self._digest = values_digest(self._variables)
            if self._digest == PUBLISHED:
                return  # known to be finite; looking takes 25 ms of a cold start
            for name, array in self._variables.items():
                # A minimum and a maximum are NaN where any value is.
                if array.size and not np.isfinite([array.min(), array.max()]).all():
                    self._not_finite.append(name)
        except Exception as error:  # MemoryError: the caller's, not the thread's
            self._failure = error

    def __call__(self) -> str:
        """Waits for the digest and returns it.

        Raises:
            CheckpointError: It is not the one that was stated, or values are not finite.
        """
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        if self._stated is not None and self._digest != self._stated:
            raise CheckpointError(
                f"{self._source}: its values are not those that were written (their SHA-256 "
                "differs from the one in its metadata): damaged, or changed by another program. "
                "Fetch or convert it again."
            )
        if self._not_finite:
            raise CheckpointError(
                f"{self._source}: NaN or infinity in {len(self._not_finite)} variables, such as "
                f"{self._not_finite[0]}: from a training that diverged, or cast to a type that "
                "does not hold its values."
            )
        return self._digest
