"""What of a model decodes: it trains on embeddings of a frozen image encoder."""

from typing import Any


def decoder_variables(variables: dict[str, Any]) -> dict[str, Any]:
    """The collections of a whole model, nested, without its image encoder."""
    parts = {
        name: {part: tree for part, tree in collection.items() if part != "image_encoder"}
        for name, collection in variables.items()
    }
    return {name: tree for name, tree in parts.items() if tree}
