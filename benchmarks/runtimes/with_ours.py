"""This project, for the warm rows; its cold runs are predict.sh itself."""

import os
import sys

import numpy as np
from worker import PICTURE, REPOSITORY, serve

from litemedsam_jax.imaging.input_frame import Frame, to_input
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.process import keep_memory

if __name__ == "__main__":
    os.chdir(REPOSITORY)
    keep_memory()  # as infer.py does for volumes, and from its second case on
    with np.load(PICTURE) as case:
        image = case["imgs"]

    precision = "bfloat16" if "--bfloat16" in sys.argv else "float32"

    class Backend:
        def __init__(self):
            self.engine = LiteMedSAM.from_pretrained(device="cpu", precision=precision).engine
            self.encode = self.engine.encode

        def decode(self, embedding, boxes):
            return self.engine.decode(embedding, boxes)[0]

    serve(Backend(), to_input(image, Frame(*image.shape[:2])))
