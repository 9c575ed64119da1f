"""Masks of npz cases back on the grid of the image they came from."""

from pathlib import Path

from litemedsam_jax.files import replacing
from litemedsam_jax.imaging import file_kinds
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.geometry import geometry_of
from litemedsam_jax.imaging.labels import as_labels, rename_labels
from litemedsam_jax.imaging.npz import read_npz

_GEOMETRY = ("spacing", "origin", "direction", "labels")


def export_case(segs: Path, case: Path | None, folder: Path, suffix: str = "nii.gz") -> Path:
    """Writes `segs` (or `gts`) of an npz as a label file.

    Args:
        segs: the npz with masks.
        case: the npz that was segmented, with geometry and `labels`; None: the masks' own.
        folder: where to write.
        suffix: of volumes, without the dot: `nii.gz`, `nrrd` or `mha`; 2D masks become PNG.

    Returns:
        The path of the label file.

    Raises:
        CaseError: one of the npz cannot be used. OSError.
    """
    masks = read_npz(segs, (), ("segs", "gts", *_GEOMETRY))
    key = "segs" if "segs" in masks else "gts"
    if key not in masks:
        raise CaseError("has neither segs nor gts", segs)
    labels = as_labels(masks[key], f"{segs}: {key}")
    about = read_npz(case, (), _GEOMETRY) if case else masks
    if "labels" in about:
        try:
            labels = rename_labels(labels, about["labels"])
        except CaseError as error:
            raise CaseError(error.reason, segs) from None
    name = file_kinds.stem_of(segs)
    if labels.ndim == 2:
        from litemedsam_jax.imaging import label_images

        path = folder / f"{name}.png"
        with replacing(path) as beside:
            beside.write_bytes(label_images.encode_labels(labels).tobytes())
        return path
    if labels.ndim != 3:
        raise CaseError(f"{key} has shape {labels.shape}; expected (H, W) or (D, H, W)", segs)
    from litemedsam_jax.imaging import volumes

    path = folder / f"{name}.{suffix}"
    volumes.write_volume(path, labels, geometry_of(about, labels.shape))
    return path
