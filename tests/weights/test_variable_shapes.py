"""The contract in plain Python says what the network itself says."""

import dataclasses

import jax
import pytest

from litemedsam_jax.config import lite_medsam, medsam_vit_b, mobile_sam, tiny_for_tests
from litemedsam_jax.models.lite_medsam import init_variables
from litemedsam_jax.weights.tree import PARTS, flatten, part_of
from litemedsam_jax.weights.variable_shapes import DTYPE, variable_shapes


@pytest.mark.parametrize("make", [lite_medsam, mobile_sam, medsam_vit_b, tiny_for_tests])
def test_names_shapes_and_types_are_those_of_init(make):
    config = make()
    tree = flatten(jax.eval_shape(lambda: init_variables(config, jax.random.key(0))))
    assert variable_shapes(config) == {path: leaf.shape for path, leaf in tree.items()}
    assert {leaf.dtype for leaf in tree.values()} == {DTYPE}
    for part in PARTS:
        assert variable_shapes(config, [part]).keys() == {p for p in tree if part_of(p) == part}


@pytest.mark.parametrize(
    "change",
    [
        {"image_encoder": dataclasses.replace(lite_medsam().image_encoder, stages=())},
        {"image_encoder": dataclasses.replace(medsam_vit_b().image_encoder, patch_size=0)},
        {"image_encoder": dataclasses.replace(medsam_vit_b().image_encoder, depth="3")},
        {"mask_decoder": dataclasses.replace(lite_medsam().mask_decoder, attention_downsample=0)},
        {"mask_decoder": dataclasses.replace(lite_medsam().mask_decoder, dim=None)},
    ],
    ids=range(5),
)
def test_sizes_of_which_no_network_can_be_made(change):
    with pytest.raises(ValueError, match="no network can be made"):
        variable_shapes(dataclasses.replace(lite_medsam(), **change))


def test_a_depth_without_measure_ends():
    """The configuration comes from the file's metadata."""
    encoder = dataclasses.replace(medsam_vit_b().image_encoder, depth=10**12)
    config = dataclasses.replace(medsam_vit_b(), image_encoder=encoder)
    assert len(variable_shapes(config)) < 100_000
