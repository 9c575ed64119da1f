"""Jaxlib's inner interface, in the form that the installed version has."""

from litemedsam_jax.engine import jaxlib_runtime


def test_each_known_interface_has_its_adapter():
    old, new = jaxlib_runtime.result_handler(467), jaxlib_runtime.result_handler(505)
    assert old is not new
    assert jaxlib_runtime.result_handler(488) is old
    assert jaxlib_runtime.result_handler(489) is new


def test_the_installed_interface_is_one_that_was_tried():
    """Fails with a new jaxlib: then try it, and raise the bound here and in pyproject.toml."""
    assert jaxlib_runtime.INTERFACE in (467, 505)
