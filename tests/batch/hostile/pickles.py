"""Cases that hold pickles, which would end the process."""

import os
import pickle

import numpy as np

from tests.batch.hostile.making import Random, good, npy, zipped


class _Trap:
    def __reduce__(self):
        return os._exit, (86,)


def pickled(rng: Random) -> bytes:
    trap = np.empty(2, object)
    trap[:] = [_Trap(), 1]
    key = ["imgs.npy", "boxes.npy", "gts.npy", "spacing.npy"][rng.integers(4)]
    bare = pickle.dumps(_Trap())
    if rng.random() < 0.2:
        return bare
    return zipped(good(rng) | {key: npy(trap, True) if rng.random() < 0.6 else bare})
