"""PyTorch, eager: the reference's own network out of the tests' oracle wheel.

Flags: --plotting also imports what the reference's script does; --reference encodes per box and
slice, as it does (else every slice is encoded once). Boxes are decoded one by one in either case:
batches of 8 were not faster where that was tried.
"""

import sys

import torch
import torch.nn.functional as F
from algorithm import input_shape
from worker import REPOSITORY, main

from tests import oracle

if "--plotting" in sys.argv:
    import matplotlib.pyplot as plt  # noqa: F401
    import pandas as pd  # noqa: F401


class Backend:
    def __init__(self, threads):
        torch.set_num_threads(threads)
        checkpoint = REPOSITORY / "work_dir" / "LiteMedSAM" / "lite_medsam.pth"
        self.model = oracle.lite_medsam(checkpoint)

    @torch.no_grad()
    def encode(self, image):
        return self.model.image_encoder(torch.from_numpy(image))

    @torch.no_grad()
    def decode(self, embedding, boxes):
        return torch.cat([self._decode(embedding, box) for box in torch.from_numpy(boxes).split(1)])

    def _decode(self, embedding, boxes):
        prompts = self.model.prompt_encoder
        sparse, dense = prompts(points=None, boxes=boxes[:, None], masks=None)
        logits, _ = self.model.mask_decoder(
            image_embeddings=embedding,
            image_pe=prompts.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return logits[:, 0]

    @torch.no_grad()
    def enlarge(self, logits, height, width):
        inner = logits[tuple(map(slice, input_shape(height, width)))][None, None]
        large = F.interpolate(inner, (height, width), mode="bilinear", align_corners=False)
        return (torch.sigmoid(large)[0, 0] > 0.5).numpy()


if __name__ == "__main__":
    main(Backend, together="--reference" not in sys.argv)
