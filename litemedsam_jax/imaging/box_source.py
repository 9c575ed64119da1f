"""Which file holds an image's boxes, by names."""

import re
from pathlib import Path

from litemedsam_jax.imaging import file_kinds

# What people put at the end of an image's name and leave out of its mask's, or exchange.
_IMAGE_ENDINGS = ("_0000", "_image", "_img", "_images")
_MASK_ENDINGS = (
    "", "_mask", "_masks", "_label", "_labels", "_seg", "_gt", "_boxes", "_annotation",
    "_Annotation",
)  # fmt: skip
_MASK_WORDS = {
    "mask", "masks", "label", "labels", "labelmap", "seg", "segs", "segmentation", "gt",
    "annotation", "annotations",
}  # fmt: skip


def is_named_as_mask(path: Path) -> bool:
    """Whether a word of a file's name says that it holds labels: `ct_seg_liver.nii.gz`."""
    return not _MASK_WORDS.isdisjoint(re.split(r"[^a-z]+", file_kinds.stem_of(path).lower()))


def find_boxes(image: Path, source: Path) -> Path:
    """The file that holds an image's boxes: `source`, or the one in it that is named like it."""
    if not source.exists():
        raise FileNotFoundError(f"{source}: there is no such file or folder of boxes")
    if source.is_file() or file_kinds.kind_of(source) == "dicom":
        return source
    stem = file_kinds.stem_of(image)
    stems = [stem] + [stem.removesuffix(e) for e in _IMAGE_ENDINGS if stem.endswith(e)]
    wanted = {s + ending for s in stems for ending in _MASK_ENDINGS}
    known = (*file_kinds.VOLUME_SUFFIXES, *file_kinds.PICTURE_SUFFIXES)
    suffixes = (".mrk.json", ".json", ".csv", ".dcm", *known)
    fitting = sorted(
        file
        for file in source.iterdir()
        for suffix in suffixes
        if file.name.lower().endswith(suffix)
        and file.name[: -len(suffix)] in wanted
        and file.resolve() != image.resolve()
    )
    if len(fitting) != 1:
        names = ", ".join(file.name for file in fitting) or "none"
        raise ValueError(
            f"{image}: {source} should hold one file of boxes or labels for it, such as "
            f"{stem}.json or {stems[-1]}_mask.nii.gz; found {names}"
        )
    return fitting[0]


def without_boxes(images: list[Path], source: Path) -> list[Path]:
    """The images that are not themselves another image's boxes, where both lie in one folder."""
    used = set()
    for image in images:
        try:
            used.add(find_boxes(image, source).resolve())
        except ValueError:
            continue  # told when the image itself is read
    return [image for image in images if image.resolve() not in used]
