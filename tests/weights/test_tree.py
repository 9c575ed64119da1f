"""Nested and flat variables."""

from litemedsam_jax.weights.tree import flatten, unflatten


def test_flatten_there_and_back():
    tree = {"params": {"a": {"kernel": 1, "bias": 2}, "b": 3}, "buffers": {"c": 4}}
    flat = flatten(tree)
    assert flat == {"params/a/kernel": 1, "params/a/bias": 2, "params/b": 3, "buffers/c": 4}
    assert unflatten(flat) == tree
