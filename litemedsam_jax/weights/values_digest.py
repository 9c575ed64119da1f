"""A digest of all variables: tells changed values, and keys what is made of them."""

import hashlib
from collections.abc import Mapping
from functools import partial

import numpy as np

from litemedsam_jax.once import in_background
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
    """Computes the digest in a thread, while the caller goes on, and checks the values.

    Attributes:
        stated: The digest that the values should have, which is not yet known to be theirs; or
            None.
    """

    def __init__(
        self,
        variables: Mapping[str, np.ndarray],
        stated: str | None,
        source: str,
        otherwise: str = "",
    ):
        """Starts the thread.

        Args:
            variables: Flat.
            stated: The digest that they should have; None: any will do.
            source: The file, for the message.
            otherwise: The message where they have another; by default that they were changed.
        """
        self.stated = stated
        otherwise = otherwise or (
            f"{source}: its values are not those that were written (their SHA-256 differs from the "
            "one in its metadata): damaged, or changed by another program. Fetch or convert it "
            "again."
        )
        self._digest = in_background(partial(_checked_digest, variables, stated, source, otherwise))

    def __call__(self) -> str:
        """Waits for the digest and returns it.

        Raises:
            CheckpointError: It is not the one that was stated, or values are not finite.
        """
        return self._digest()


def _checked_digest(
    variables: Mapping[str, np.ndarray], stated: str | None, source: str, otherwise: str
) -> str:
    digest = values_digest(variables)
    if stated is not None and digest != stated:
        raise CheckpointError(otherwise)
    if digest == PUBLISHED:
        return digest  # known to be finite; looking takes 25 ms of a cold start
    # A minimum and a maximum are NaN where any value is.
    not_finite = [
        name
        for name, array in variables.items()
        if array.size and not np.isfinite([array.min(), array.max()]).all()
    ]
    if not_finite:
        raise CheckpointError(
            f"{source}: NaN or infinity in {len(not_finite)} variables, such as {not_finite[0]}: "
            "from a training that diverged, or cast to a type that does not hold its values."
        )
    return digest
