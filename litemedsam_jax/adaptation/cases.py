"""Images with their labels, of any kind of file, as cases to learn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from litemedsam_jax.evaluation.metrics import score_case
from litemedsam_jax.imaging import file_kinds, zoom_windows
from litemedsam_jax.imaging.box_source import find_boxes, without_boxes
from litemedsam_jax.imaging.boxes import boxes_of_labels
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.image_case import FileOptions, read_image_case
from litemedsam_jax.imaging.labels import as_labels
from litemedsam_jax.imaging.npz import read_npz
from litemedsam_jax.inference.strategies import BEST
from litemedsam_jax.preparation.training_set import Entry, visible_labels
from litemedsam_jax.training.catalog import Catalog, Skipped


@dataclass(frozen=True)
class LabelledCase:
    """One image or volume, its true labels, and the box of each.

    Attributes:
        name: of the case.
        modality: by its name; "other" where that says nothing.
        image: (H, W), (H, W, 3), (D, H, W) or (D, H, W, 3) uint8.
        gts: (H, W) or (D, H, W) labels.
        spacing: (3,) x, y, z in mm, or None.
        boxes: (N, 4) or (N, 6) tight, inclusive, in the order of the labels.
        labels: (N,).
    """

    name: str
    modality: str
    image: np.ndarray
    gts: np.ndarray
    spacing: np.ndarray | None
    boxes: np.ndarray
    labels: np.ndarray

    @property
    def is_volume(self) -> bool:
        """Whether it has slices."""
        return self.gts.ndim == 3

    def score(self, segs: np.ndarray) -> "Score":
        """Of masks, labelled as the truth."""
        scores = score_case(self.gts, segs, self.spacing, corrected=True)
        return Score(scores.dsc, scores.nsd)


class Score(NamedTuple):
    """Of a case, means over its labels, from 0 to 1; NSD at 2 mm, in images 2 pixels."""

    dsc: float
    nsd: float


def read_cases(images: Path, labels: Path, skip_unlabelled: bool = False) -> list[LabelledCase]:
    """Reads every case of a folder.

    Args:
        images: a folder of npz (`imgs`), volumes, DICOM series or 2D images; or one such file.
        labels: the same of label maps, named as the images (npz: the same name, with `gts`).
        skip_unlabelled: leave images without labels out, instead of refusing them.

    Raises:
        CaseError: a file cannot be used, has no labels, or labels of another size.
        FileNotFoundError: there is no such folder, or nothing in it.
    """
    paths = file_kinds.cases_in(images)
    if not any(map(_is_npz, paths)):
        paths = without_boxes(paths, labels)
    if skip_unlabelled:
        paths = [path for path in paths if _has_labels(path, labels)]
    if not paths:
        raise FileNotFoundError(f"{images}: holds no images")
    return [_read_npz_case(p, labels) if _is_npz(p) else _read_file(p, labels) for p in paths]


def catalog_of(cases: Sequence[LabelledCase]) -> Catalog:
    """What of cases has a visible object, for training: slices, images, images' windows."""
    source = _CaseSource(cases)
    places = tuple((0, row) for row in range(len(source.entries)))
    return Catalog((source,), places, source.skipped)


def _has_labels(path: Path, labels: Path) -> bool:
    if _is_npz(path):
        return (labels / path.name).is_file()
    try:
        return find_boxes(path, labels).is_file()
    except (ValueError, OSError):
        return False


def _is_npz(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


def _read_npz_case(path: Path, labels: Path) -> LabelledCase:
    truth = labels if labels.is_file() else labels / path.name
    if not truth.is_file():
        raise CaseError(f"has no labels: there is no {truth}", path)
    arrays = read_npz(path, ("imgs",), ("spacing",))
    labels_of = read_npz(truth, (), ("gts", "segs"))  # segs: of `litemedsam annotate`
    if not labels_of:
        raise CaseError("holds neither gts nor segs", truth)
    gts = as_labels(labels_of["gts" if "gts" in labels_of else "segs"], "gts")
    return _case(path.stem, path, arrays["imgs"], gts, arrays.get("spacing"))


def _read_file(path: Path, labels: Path) -> LabelledCase:
    truth = find_boxes(path, labels)
    image = read_image_case(path, FileOptions(labels))
    if image.geometry is None:
        from litemedsam_jax.imaging.label_images import read_mask

        gts = read_mask(truth)
    else:
        from litemedsam_jax.imaging import volumes

        layers = volumes.read_label_layers(truth)
        if len(layers) > 1:
            raise CaseError("its segments overlap; learning needs one label a voxel", truth)
        gts = volumes.place_labels(layers[0], image.geometry, truth)
        gts = gts[0] if image.case.image.shape[: gts.ndim] != gts.shape and len(gts) == 1 else gts
    return _case(image.case.name, path, image.case.image, gts, image.case.spacing)


def _case(
    name: str, path: Path, image: np.ndarray, gts: np.ndarray, spacing: np.ndarray | None
) -> LabelledCase:
    if image.shape[: gts.ndim] != gts.shape or image.shape[gts.ndim :] not in ((), (3,)):
        raise CaseError(f"its image is {image.shape} and its labels {gts.shape}", path)
    if image.dtype != np.uint8:
        raise CaseError(f"its values are {image.dtype}, not uint8: `litemedsam prepare`", path)
    boxes, labels = boxes_of_labels(gts)
    if not len(boxes):
        raise CaseError("its labels are empty; there is nothing to learn from it", path)
    return LabelledCase(name, file_kinds.modality_of(name), image, gts, spacing, boxes, labels)


class _CaseSource:
    """A catalog's source of cases in memory: slices, images, and images' enlarged windows."""

    def __init__(self, cases: Sequence[LabelledCase]):
        self._cases = cases
        self.entries: list[Entry] = []
        self._places: list[tuple[int, _Part]] = []
        background = lost = 0
        for number, case in enumerate(cases):
            spacing = None if case.spacing is None else tuple(map(float, case.spacing))
            for part in _parts(case):
                gts = case.gts[part.place]
                labels = visible_labels(gts)
                background += not gts.any()
                lost += bool(gts.any() and not labels)
                if labels:
                    name = f"{case.name}{part.suffix}"
                    entry = Entry(name, case.name, case.modality, labels, part.position, spacing)
                    self.entries.append(entry)
                    self._places.append((number, part))
        self.skipped = Skipped(background, lost)

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W) or (H, W, 3) and labels (H, W) of an entry."""
        number, part = self._places[index]
        case = self._cases[number]
        return case.image[part.place], case.gts[part.place]


class _Part(NamedTuple):
    """What of a case is one sample's image."""

    suffix: str  # of the case's name
    place: int | tuple[slice, slice]  # in its arrays
    position: int | None  # of a slice


def _parts(case: LabelledCase) -> list[_Part]:
    """A volume's slices; an image, and what `best` encodes again, enlarged, for small objects."""
    if case.is_volume:
        return [_Part(f"-{z:03d}", z, z) for z in range(len(case.gts))]
    height, width = case.gts.shape
    windows = zoom_windows.cover(case.boxes, height, width, BEST.max_windows)
    enlarged = [
        _Part(f" (window {number})", (window.rows, window.columns), None)
        for number, window in enumerate(windows, start=1)
    ]
    return [_Part("", (slice(None), slice(None)), None), *enlarged]
