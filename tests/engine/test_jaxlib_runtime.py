"""Jaxlib's inner interface, in the form that the installed version has."""

from litemedsam_jax.engine import jaxlib_runtime


def test_each_known_interface_has_its_adapter():
    old, *new = map(jaxlib_runtime.result_handler, sorted(jaxlib_runtime.TRIED))
    assert old is not new[0]
    assert set(new) == {new[0]}
    assert jaxlib_runtime.result_handler(488) is old
    assert jaxlib_runtime.result_handler(489) is new[0]


def test_the_installed_interface_is_one_that_was_tried():
    """Fails with a new jaxlib: then try it, and raise the bound here and in pyproject.toml."""
    assert jaxlib_runtime.INTERFACE in jaxlib_runtime.TRIED
