"""Image files (NIfTI, DICOM, PNG, ...) in a batch: read as cases, masks written in their kind."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from litemedsam_jax.imaging import image_case
from litemedsam_jax.imaging.case import Case, CaseError, check_case


@dataclass(frozen=True)
class OpenFile:
    """An image file that was read: as found, and as the case that is segmented."""

    found: image_case.FileCase
    case: Case


def open_file(path: Path, options: image_case.FileOptions | None) -> OpenFile:
    """Reads an image file and its boxes; raises CaseError."""
    if options is None:
        raise CaseError(
            "an image file needs boxes: --boxes FILE or DIR (JSON, CSV or a mask to take them from)"
        )
    try:
        found = image_case.read_case_from_file(path, options)
    except ValueError as error:
        raise CaseError(str(error)) from error
    except ModuleNotFoundError as error:
        raise CaseError(
            f"{path.name} needs the package {error.name}: pip install 'litemedsam-jax[tools]'"
        ) from error
    case = check_case(found.name, found.imgs, found.spacing, boxes=found.boxes)
    notes = (*found.notes, *case.warnings)
    return OpenFile(
        found, Case(case.name, case.image, case.boxes, spacing=case.spacing, warnings=notes)
    )


def write_masks(file: OpenFile, segs: np.ndarray, folder: Path, dicom_seg: bool) -> None:
    """Writes the masks in the input's kind, and as DICOM SEG if asked; raises CaseError."""
    try:
        image_case.write_labels_like(file.found, segs, folder)
        if dicom_seg and file.found.path.is_dir():
            from litemedsam_jax.imaging import dicom
            from litemedsam_jax.imaging.labels import rename_labels

            labels = rename_labels(segs, file.found.labels)
            dicom.write_dicom_seg(file.found.path, labels, folder / f"{file.found.name}.dcm")
    except ValueError as error:
        raise CaseError(str(error)) from error


def draw(path: Path, file: OpenFile, segs: np.ndarray) -> None:
    """Writes the overlay, turned as a radiologist expects it."""
    from litemedsam_jax.drawing.animation import write_case

    boxes = file.case.boxes if file.case.boxes is not None else file.found.boxes
    names = [f"{box}: label {label}" for box, label in enumerate(file.found.labels, start=1)]
    geometry = file.found.geometry
    direction = None if geometry is None else geometry.direction
    image = file.case.image
    write_case(path, image, boxes, segs, file.case.spacing, names=names, direction=direction)
