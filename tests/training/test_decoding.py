"""What of a model trains on embeddings."""

from litemedsam_jax.training.decoding import decoder_variables
from litemedsam_jax.weights.tree import flatten
from tests.support.small_network import random_variables, small_model


def test_all_but_the_image_encoder_is_left():
    variables = random_variables(small_model())
    kept = flatten(decoder_variables(variables))
    assert "image_encoder" not in decoder_variables(variables)["params"]
    assert kept.keys() == {name for name in flatten(variables) if "/image_encoder/" not in name}
