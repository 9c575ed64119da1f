"""Whether embeddings of one file's encoder serve another."""

import numpy as np
import pytest

from litemedsam_jax.weights import safetensors_file
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.same_encoder import check_same_encoder
from litemedsam_jax.weights.tree import flatten
from tests.support.small_network import random_variables, small_model


@pytest.mark.parametrize("part, same", [("mask_decoder", True), ("image_encoder", False)])
def test_decoders_may_differ_and_encoders_may_not(tmp_path, part, same):
    variables = flatten(random_variables(small_model()))
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    safetensors_file.save(paths[0], variables, small_model())
    name = next(path for path in variables if path.startswith(f"params/{part}/"))
    changed = {**variables, name: np.asarray(variables[name]) + 1}
    safetensors_file.save(paths[1], changed, small_model())
    if same:
        check_same_encoder(paths[1], paths[0])
    else:
        with pytest.raises(CheckpointError, match=r"b\.safetensors: its image encoder is another"):
            check_same_encoder(paths[1], paths[0])
