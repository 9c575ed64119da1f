"""Writing a case's masks, boxes and names beside each other, each file whole or not at all."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from litemedsam_jax.annotation.diameters import drawn_part, measure, unit_of
from litemedsam_jax.annotation.document import Document
from litemedsam_jax.files import replacing
from litemedsam_jax.imaging.file_kinds import stem_of
from litemedsam_jax.imaging.geometry import geometry_arrays
from litemedsam_jax.imaging.label_files import output_name
from litemedsam_jax.imaging.npz import write_npz
from litemedsam_jax.imaging.opened_image import OpenedImage

# As `litemedsam measure` calls them.
_COLUMNS = (
    "label", "name", "voxels", "volume_ml", "first_slice", "last_slice", "longest_axial",
    "perpendicular_axial", "axial_slice", "largest_3d", "unit",
)  # fmt: skip


def save(image: OpenedImage, document: Document, folder: Path) -> list[Path]:
    """Writes labels in the image's kind and on its exact grid, boxes and names.

    Returns:
        The files written: NAME.nii.gz (or the image's own kind; PNG for 2D images, npz with `segs`
        for npz, also NAME.dcm, a DICOM SEG object, for a DICOM series), NAME.boxes.json, which
        `litemedsam segment --boxes` takes, NAME.measurements.csv and NAME.labels.json.

    Raises:
        ValueError: A file would replace the image itself, or cannot hold these labels.
        OSError: It cannot be written.
    """
    stem = stem_of(image.path)
    written = save_labels(image, document, folder)
    written.append(_write_json(folder / f"{stem}.boxes.json", boxes_json(image, document)))
    written.append(_write_measurements(image, document, folder / f"{stem}.measurements.csv"))
    names = [label.to_json() for label in document.labels.values()]
    written.append(_write_json(folder / f"{stem}.labels.json", names))
    return written


def save_labels(image: OpenedImage, document: Document, folder: Path) -> list[Path]:
    """Writes the label map alone; see `save`."""
    path = folder / output_name(image.path)
    if path.resolve() == image.path.resolve():
        raise ValueError(f"{path}: the masks would replace the image; give another --output")
    labels = document.voxels
    if image.kind == "npz":
        arrays = {"segs": labels[0] if image.flat else labels}
        if image.spacing is not None:
            arrays["spacing"] = np.array(image.spacing)
        write_npz(path, **arrays)
    elif image.geometry is None:
        from litemedsam_jax.imaging import label_images

        with replacing(path) as beside:
            beside.write_bytes(label_images.encode_labels(labels[0]).tobytes())
    else:
        from litemedsam_jax.imaging import volumes

        volumes.write_volume(path, labels, image.geometry)
    written = [path]
    if image.kind == "dicom" and labels.any():
        from litemedsam_jax.imaging import dicom_seg

        names = {label.value: label.name for label in document.labels.values()}
        segmentation = folder / f"{stem_of(image.path)}.dcm"
        if segmentation.resolve() == image.path.resolve():
            raise ValueError(f"{segmentation}: would replace the image; give another --output")
        dicom_seg.write_dicom_seg(image.path, labels, segmentation, names)
        written.append(segmentation)
    return written


def save_case(image: OpenedImage, document: Document, folder: Path) -> Path:
    """Writes a case of the challenge's format: what the network sees, the boxes, and the masks.

    Returns:
        The file, cases/NAME.npz with `imgs`, `boxes`, `gts` and, for volumes, the grid.

    Raises:
        ValueError: There is no box that adds. OSError: It cannot be written.
    """
    rows, _ = boxes_of(image, document)
    if not rows:
        raise ValueError("a case of the challenge's format needs a box; draw one first")
    imgs, labels = image.network_image(), document.voxels
    if image.flat:
        imgs, labels = imgs[0], labels[0]
    arrays = {"imgs": imgs, "boxes": np.array(rows), "gts": labels}
    if image.geometry is not None and not image.flat:
        arrays.update(geometry_arrays(image.geometry))
    elif image.spacing is not None:
        arrays["spacing"] = np.array(image.spacing)
    path = folder / "cases" / f"{stem_of(image.path)}.npz"
    if path.resolve() == image.path.resolve():
        raise ValueError(f"{path}: would replace the image; give another --output")
    write_npz(path, **arrays)
    return path


def _write_measurements(image: OpenedImage, document: Document, path: Path) -> Path:
    measured = {one.label: one for one in measure(image, *drawn_part(document))}
    rows: list[dict[str, object]] = []
    for label in document.labels.values():
        row: dict[str, object] = {"label": label.value, "name": label.name, "voxels": 0}
        if one := measured.get(label.value):
            row |= {
                "voxels": one.voxels,
                "volume_ml": "" if one.ml is None or image.flat else f"{one.ml:.6g}",
                "first_slice": one.box[2],
                "last_slice": one.box[5],
                "longest_axial": f"{one.axial.longest.mm:.6g}",
                "perpendicular_axial": f"{one.axial.perpendicular.mm:.6g}",
                "axial_slice": one.axial.index,
                "largest_3d": f"{one.largest.mm:.6g}",
                "unit": unit_of(image),
            }
        rows.append(row)
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def boxes_json(image: OpenedImage, document: Document) -> Mapping[str, object]:
    """The boxes of the document as `litemedsam segment --boxes` reads them, in voxels.

    `labels` says which label each box belongs to. Boxes that take away are not among them: the
    command knows none.
    """
    rows, labels = boxes_of(image, document)
    return {"units": "voxel", "boxes": rows, "labels": labels}


def boxes_of(image: OpenedImage, document: Document) -> tuple[list[list[float]], list[int]]:
    """The boxes that add, as rows of 4 (2D images) or 6 numbers, and their labels."""
    rows, labels = [], []
    for layer in document.layers:
        if layer.box is None or not layer.adds or layer.slice is None:
            continue
        x_min, y_min, x_max, y_max = layer.box
        first, last = layer.slice, layer.slice
        if layer.kind == "propagation" and layer.masks:
            first, last = min(layer.masks), max(layer.masks)
        row = [x_min, y_min, x_max, y_max]
        rows.append(row if image.flat else [x_min, y_min, first, x_max, y_max, last])
        labels.append(layer.label)
    return rows, labels


def _write_json(path: Path, content: object) -> Path:
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    return path
