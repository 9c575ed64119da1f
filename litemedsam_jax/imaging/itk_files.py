"""MHA/MHD and NRRD files as SimpleITK reads them, with sentences where it has none."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from litemedsam_jax.imaging.meta_image import check_meta_image


def read_image(path: Path) -> sitk.Image:
    """Reads an image by SimpleITK.

    Raises:
        ValueError: It cannot be read; the message says why.
    """
    if path.suffix.lower() in (".mha", ".mhd"):
        check_meta_image(path)
    warned = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        told = reason(error)
        if "expected" in told and ("got only" in told or "received" in told):
            raise ValueError(f"{path}: is truncated ({told}); copy it again") from None
        raise ValueError(f"{path}: cannot be read as a volume ({told})") from None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(warned)


def reason(error: RuntimeError) -> str:
    """The sentence of an ITK exception; the rest is its source lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].split("ERROR:")[-1].strip() if lines else "unknown reason"


def has_segments(image: sitk.Image) -> bool:
    """Whether an image carries 3D Slicer's description of segments."""
    return any(key.startswith("Segment0_") for key in image.GetMetaDataKeys())


def segment_layers(image: sitk.Image, path: Path) -> list[np.ndarray]:
    """The label maps of a segmentation of one or several layers, each (D, H, W).

    Segments keep their values where no two layers share one; else all are numbered 1, 2, ... in
    the file's order. Without a description of segments each layer is one.

    Raises:
        ValueError: The file is no 3D label map.
    """
    layers = sitk.GetArrayFromImage(image)
    if image.GetDimension() != 3 or layers.dtype.kind not in "iu":
        raise ValueError(f"{path}: is no 3D segmentation of whole numbers; export it as labels")
    layers = layers.reshape(*image.GetSize()[::-1], -1)
    described = _described_segments({k: image.GetMetaData(k) for k in image.GetMetaDataKeys()})
    if not described:
        described = [
            (layer, int(value))
            for layer in range(layers.shape[-1])
            for value in np.unique(layers[..., layer])
            if value > 0
        ]
    values = [value for _, value in described]
    numbers = values if len(set(values)) == len(values) else list(range(1, len(values) + 1))
    if not values:
        numbers = []
    wide = np.uint8 if max(numbers, default=0) < 256 else np.uint16
    maps = [np.zeros(layers.shape[:-1], wide) for _ in range(layers.shape[-1])]
    for (layer, value), number in zip(described, numbers, strict=True):
        if not 0 <= layer < len(maps):
            raise ValueError(
                f"{path}: a segment lies in layer {layer} of {len(maps)}; it is damaged"
            )
        maps[layer][layers[..., layer] == value] = number
    return maps


def _described_segments(words: Mapping[str, str]) -> list[tuple[int, int]]:
    """The layer and value of each segment, in the file's order."""
    segments: list[tuple[int, int]] = []
    while f"Segment{len(segments)}_ID" in words or f"Segment{len(segments)}_LabelValue" in words:
        name = f"Segment{len(segments)}"
        layer, value = words.get(f"{name}_Layer", "0"), words.get(f"{name}_LabelValue", "1")
        if not (layer.strip().isdecimal() and value.strip().isdecimal()):
            return []
        segments.append((int(layer), int(value)))
    return segments
