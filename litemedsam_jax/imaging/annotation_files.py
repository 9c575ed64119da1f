"""Boxes in the JSON of annotation programs: labelme, 3D Slicer, COCO (CVAT, Label Studio, ...).

Sources: https://github.com/wkentaro/labelme, Slicer's markups schema v1.0.3
(https://github.com/Slicer/Slicer/tree/main/Modules/Loadable/Markups/Resources/Schema), and
https://cocodataset.org/#format-data.
"""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.file_kinds import stem_of
from litemedsam_jax.imaging.geometry import Geometry

_ROUNDING = 1e-3  # of a voxel: what files lose in decimals


def boxes_of_annotations(
    content: Any,
    case: str,
    geometry: Geometry | None,
    shape: tuple[int, ...] | None = None,
) -> np.ndarray | None:
    """The boxes of a case from an annotation program's file.

    Args:
        content: the JSON.
        case: whose boxes they are: the image's name without suffix.
        geometry: of the volume; None for 2D images.
        shape: of the image, (H, W), which a file must be about; None: it is not compared.

    Returns:
        (N, 4) or (N, 6), inclusive voxel indices; None: the file is of no such program.

    Raises:
        CaseError: the file holds something that is no box, or boxes of other images.
    """
    if not isinstance(content, Mapping):
        return None
    if isinstance(content.get("shapes"), list):
        return _labelme(content, case, shape)
    if isinstance(content.get("markups"), list):
        return _slicer(content["markups"], geometry)
    if isinstance(content.get("annotations"), list) and isinstance(content.get("images"), list):
        return _coco(content, case, shape)
    return None


def names_of_case(names: Sequence[str], case: str) -> list[str]:
    """Those of the names that mean a case: its own, or else a file's (`x.png`, `imgs/x.nii.gz`)."""
    if case in names:
        return [case]
    return [name for name in names if stem_of(_file_name(name)) == case]


def _labelme(content: Mapping, case: str, shape: tuple[int, ...] | None) -> np.ndarray:
    about = content.get("imagePath")
    if isinstance(about, str) and about and not names_of_case([about], case):
        raise CaseError(f"labelme's file is about {_file_name(about)}, not about {case}")
    _check_size(content.get("imageWidth"), content.get("imageHeight"), shape)
    shapes = content["shapes"]
    kinds = [shape.get("shape_type") if isinstance(shape, Mapping) else None for shape in shapes]
    if others := sorted({str(kind) for kind in kinds if kind != "rectangle"}):
        raise CaseError(
            f"labelme's file holds shapes of the kind {', '.join(others)}; expected rectangles "
            "alone (delete the others, or save their mask and give that)"
        )
    corners = _numbers([shape.get("points") for shape in shapes], (2, 2), "a rectangle's points")
    return _inclusive(corners.min(axis=1), corners.max(axis=1))


def _coco(content: Mapping, case: str, shape: tuple[int, ...] | None) -> np.ndarray:
    images = [image for image in content["images"] if isinstance(image, Mapping)]
    names = [str(image.get("file_name")) for image in images]
    matches = names_of_case(names, case)
    if len(matches) != 1:
        known = ", ".join(names[:3]) or "none"
        raise CaseError(f"COCO's file holds {len(matches)} images of {case} (it has: {known}, ...)")
    image = images[names.index(matches[0])]
    _check_size(image.get("width"), image.get("height"), shape)
    number = image.get("id")
    rows = [
        one.get("bbox")
        for one in content["annotations"]
        if isinstance(one, Mapping) and one.get("image_id") == number
    ]
    boxes = _numbers(rows, (4,), "a bbox (x, y, width, height)")
    if (boxes[:, 2:] <= 0).any():
        raise CaseError("COCO's file holds a bbox without width or height")
    return _inclusive(boxes[:, :2], boxes[:, :2] + boxes[:, 2:])


def _check_size(width: Any, height: Any, shape: tuple[int, ...] | None) -> None:
    """Refuses boxes that were drawn on the image in another size."""
    if shape is None or not (isinstance(width, int) and isinstance(height, int)):
        return
    if (height, width) != shape[:2]:
        raise CaseError(
            f"the boxes were drawn on an image of {width}x{height} pixels, this one has "
            f"{shape[1]}x{shape[0]}; draw them on this image, or give that one"
        )


def _slicer(markups: Sequence, geometry: Geometry | None) -> np.ndarray:
    if geometry is None:
        raise CaseError("3D Slicer's markups are boxes of volumes; the image is 2D")
    boxes = []
    for markup in markups:
        kind = markup.get("type") if isinstance(markup, Mapping) else None
        if kind != "ROI":
            raise CaseError(
                f"3D Slicer's file holds markups of the type {kind}; expected ROI alone"
            )
        system = markup.get("coordinateSystem", "LPS")
        if system not in ("LPS", "RAS"):
            raise CaseError(f"coordinateSystem is {system}; expected LPS or RAS")
        centre = _numbers([markup.get("center")], (3,), "an ROI's center")[0]
        size = _numbers([markup.get("size")], (3,), "an ROI's size")[0]
        axes = markup.get("orientation", [-1, 0, 0, 0, -1, 0, 0, 0, 1])
        turn = _numbers([axes], (9,), "an ROI's orientation")[0].reshape(3, 3)
        signs = np.array(list(np.ndindex(2, 2, 2))) - 0.5
        corners = centre + (signs * size) @ turn.T
        if system == "RAS":
            corners = corners * (-1.0, -1.0, 1.0)
        indices = geometry.to_index(corners)
        boxes.append(_inclusive_centres(indices.min(axis=0), indices.max(axis=0)))
    if not boxes:
        raise CaseError("3D Slicer's file holds no ROI")
    return np.array(boxes)


def _inclusive(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Extents (N, 2) between the edges of pixels, which are whole numbers, as indices (N, 4)."""
    first = np.floor(low + _ROUNDING)
    last = np.maximum(np.ceil(high - _ROUNDING) - 1, first)
    return np.concatenate([first, last], axis=1)


def _inclusive_centres(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Indices (3,) of the first and last voxel whose centres lie within; at least one."""
    first, last = np.ceil(low - _ROUNDING), np.floor(high + _ROUNDING)
    middle = np.rint((low + high) / 2)
    thin = last < first
    return np.concatenate([np.where(thin, middle, first), np.where(thin, middle, last)])


def _numbers(rows: Sequence, shape: tuple[int, ...], name: str) -> np.ndarray:
    try:
        values = np.array(rows, np.float64)
    except (TypeError, ValueError, OverflowError):
        values = np.zeros(0)
    if not len(rows) or values.shape != (len(rows), *shape) or not np.isfinite(values).all():
        count = " x ".join(map(str, shape))
        raise CaseError(
            f"{name}: expected {count} numbers" if len(rows) else f"it holds no box ({name})"
        )
    return values


def _file_name(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).name
