"""The configuration in a file's metadata."""

import pytest

from litemedsam_jax.config import lite_medsam, medsam_vit_b, mobile_sam, tiny_for_tests
from litemedsam_jax.weights import config_json


@pytest.mark.parametrize("make", [lite_medsam, mobile_sam, medsam_vit_b, tiny_for_tests])
def test_configuration_as_json(make):
    config = make()
    assert config_json.from_json(config_json.to_json(config)) == config


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": "x", "image_encoder": {"type": "y"}}'])
def test_no_configuration(text):
    with pytest.raises(ValueError):
        config_json.from_json(text)
