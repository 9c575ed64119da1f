"""The model configuration as JSON, as it lies in the metadata of a weights file."""

import dataclasses
import json
from typing import Any

from litemedsam_jax.config import (
    MaskDecoderConfig,
    ModelConfig,
    PromptEncoderConfig,
    StageConfig,
    TinyViTConfig,
    ViTConfig,
)

_MOST_FIELDS, _LARGEST = 100, 4096


def to_json(config: ModelConfig) -> str:
    """The configuration as one line of JSON."""
    fields = dataclasses.asdict(config)
    fields["image_encoder"]["type"] = type(config.image_encoder).__name__
    return json.dumps(fields)


def from_json(text: str) -> ModelConfig:
    """The inverse of `to_json`.

    Raises:
        ValueError: The text is no JSON, or lacks a field, or has one that is not known.
    """
    try:
        fields = json.loads(text)
        _check_sizes(fields)
        return ModelConfig(
            fields["name"],
            _encoder(dict(fields["image_encoder"])),
            PromptEncoderConfig(**fields["prompt_encoder"]),
            MaskDecoderConfig(**fields["mask_decoder"]),
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a model configuration ({error})") from error


def _check_sizes(fields: Any) -> None:
    """Refuses numbers that no network has: what is made from them would not end."""
    if isinstance(fields, dict):
        fields = list(fields.values())
    if isinstance(fields, list):
        if len(fields) > _MOST_FIELDS:
            raise ValueError("a model configuration of too many fields")
        for value in fields:
            _check_sizes(value)
    elif (isinstance(fields, int) and not 0 <= fields <= _LARGEST) or isinstance(fields, float):
        raise ValueError("a model configuration with a number that no network has")


def _encoder(fields: dict[str, Any]) -> TinyViTConfig | ViTConfig:
    kind = fields.pop("type")
    if kind == "TinyViTConfig":
        fields["stages"] = tuple(StageConfig(**stage) for stage in fields["stages"])
        return TinyViTConfig(**fields)
    if kind == "ViTConfig":
        fields["global_blocks"] = tuple(fields["global_blocks"])
        return ViTConfig(**fields)
    raise ValueError(f"an image encoder of the unknown type {kind!r}")
