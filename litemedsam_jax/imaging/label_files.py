"""Masks as label files of their image's kind, on its grid."""

from pathlib import Path

import numpy as np

from litemedsam_jax.files import replacing
from litemedsam_jax.imaging import file_kinds
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.image_case import ImageCase
from litemedsam_jax.imaging.labels import rename_labels


def output_name(path: str | Path) -> str:
    """What an input's labels are called: its own name and kind; PNG for 2D images, NIfTI for DICOM.

    Formats of two files (.mhd, .nhdr) become their one-file kin.
    """
    kind, suffix = file_kinds.kind_of(path), file_kinds.suffix_of(path)
    if kind == "image_2d":
        return f"{file_kinds.stem_of(path)}.png"
    one_file = {".nhdr": ".nrrd", ".mhd": ".mha", ".dcm": ".nii.gz", "": ".nii.gz"}
    one_file |= {".hdr": ".nii.gz", ".img": ".nii.gz"}
    return file_kinds.stem_of(path) + one_file.get(suffix, suffix)


def write_labels(
    image: ImageCase, segs: np.ndarray, folder: str | Path, dicom_seg: bool = False
) -> Path:
    """Writes masks on the image's exact grid, in its kind.

    Args:
        image: What was segmented.
        segs: (H, W) or (D, H, W); mask k (of box k) becomes `image.labels[k - 1]`.
        folder: Where to; the file's name follows from the image's.
        dicom_seg: Also write a DICOM SEG object of a DICOM series.

    Returns:
        The path of the label file.

    Raises:
        CaseError: That would replace the image itself, or the masks cannot be written so.
    """
    try:
        return _write(image, rename_labels(segs, image.labels), Path(folder), dicom_seg)
    except ValueError as error:
        raise CaseError(str(error)) from error


def _write(image: ImageCase, labels: np.ndarray, folder: Path, dicom_seg: bool) -> Path:
    path = folder / output_name(image.path)
    if path.resolve() == image.path.resolve():
        raise ValueError(f"{path}: the masks would replace the image; give another output folder")
    if image.geometry is None:
        from litemedsam_jax.imaging import label_images

        with replacing(path) as beside:
            beside.write_bytes(label_images.encode_labels(labels).tobytes())
        return path
    from litemedsam_jax.imaging import volumes

    if labels.ndim == 2:  # of a volume's one slice
        labels = labels[None]
    if dicom_seg and file_kinds.kind_of(image.path) == "dicom":
        from litemedsam_jax.imaging import dicom_seg as segmentations

        seg = folder / f"{image.case.name}.dcm"
        if seg.resolve() == image.path.resolve():
            raise ValueError(f"{seg}: the masks would replace the image; give another folder")
        segmentations.write_dicom_seg(image.path, labels, seg)
    # Last: where it is, the case is done.
    volumes.write_volume(path, labels, image.geometry)
    return path
