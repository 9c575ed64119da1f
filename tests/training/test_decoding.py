"""The decoder with changing parameters: the network's own masks, any number of boxes."""

import numpy as np

from litemedsam_jax.models.lite_medsam import LiteMedSAMNetwork
from litemedsam_jax.training.decoding import Decoder, decoder_variables
from tests.support.small_network import random_variables, small_model


def test_it_decodes_as_the_whole_network_does():
    model = small_model()
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(16, 16, 16)).astype(np.float16)
    boxes = rng.uniform(0, 63, (6, 4)).astype(np.float32)  # two calls, the second one padded
    decode, network = Decoder(model), LiteMedSAMNetwork(model)
    for seed in (0, 1):
        variables = random_variables(model, seed)
        assert "image_encoder" not in decoder_variables(variables)["params"]
        logits, iou = decode(decoder_variables(variables), embedding, boxes)
        expected = network.apply(
            variables, embedding[None].astype(np.float32), boxes[None], method="decode"
        )
        np.testing.assert_allclose(logits, expected[0][0, :, 0], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(iou, expected[1][0, :, 0], rtol=1e-4, atol=1e-4)
