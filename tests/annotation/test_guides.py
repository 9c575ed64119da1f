"""Which boxes of a label guide the propagation of one of them."""

from litemedsam_jax.annotation.document import Document
from litemedsam_jax.annotation.guides import guides
from litemedsam_jax.annotation.layers import Layer


def layer(number, z, box, label=1, adds=True):
    return Layer(number, "box", label, adds, {}, box=box, slice=z)


def test_boxes_of_the_same_object_on_other_slices():
    document = Document((20, 64, 64))
    document.layers = [
        own := layer(1, 8, (10, 10, 29, 29)),
        layer(2, 8, (40, 40, 50, 50)),  # on its slice
        far := layer(3, 15, (12, 8, 33, 27)),
        layer(4, 15, (0, 0, 40, 12)),  # shares less of it
        layer(5, 12, (40, 40, 50, 50)),  # another object of the label
        layer(6, 11, (10, 10, 29, 29), label=2),
        layer(7, 11, (10, 10, 29, 29), adds=False),
        near := layer(8, 3, (18, 18, 21, 21)),
        Layer(9, "paint", 1, True, {}),
    ]
    assert guides(document, own) == [near, far]
    document.ranges[1] = (5, 16)
    assert guides(document, own) == [far]
