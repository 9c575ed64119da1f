"""The contract in plain Python says what the network itself says."""

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
