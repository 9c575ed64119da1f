"""Which image belongs to which mask."""

from dataclasses import dataclass, field
from pathlib import Path

from litemedsam_jax.imaging import file_kinds
from litemedsam_jax.imaging.errors import CaseError


@dataclass(frozen=True)
class Source:
    """One case as found: its image, and its mask file (or one mask file per object)."""

    case: str
    image: Path
    masks: tuple[Path, ...]


@dataclass(frozen=True)
class Sources:
    """What two folders hold.

    Attributes:
        cases: images with masks, sorted by name.
        without_image: a sentence for each mask (or case) that has no image.
        without_mask: names of the images that have no mask.
    """

    cases: list[Source]
    without_image: dict[str, str] = field(default_factory=dict)
    without_mask: tuple[str, ...] = ()


def find_sources(
    images: Path, masks: Path, image_suffix: str, mask_suffix: str, *, per_object: bool = False
) -> Sources:
    """Pairs `<case><mask suffix>` with `<case><image suffix>`.

    Two files (or a DICOM folder and a file) are a pair of their own, whatever their names.

    Args:
        images: folder of images, or one image.
        masks: folder of masks, or one mask.
        image_suffix: how images end; "": a DICOM folder named as the case.
        mask_suffix: how masks end.
        per_object: the masks of a case are the files of the folder `<case>`, or else the files
            `<case>_*<mask suffix>`; a file belongs to the longest case name that begins its own.

    Raises:
        CaseError: there is nothing to pair. FileNotFoundError: a path does not exist.
    """
    for path in (images, masks):
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is no such file or folder")
    if masks.is_file():
        if images.is_dir() and file_kinds.kind_of(images) != "dicom":
            raise CaseError(
                f"{masks} is one mask, but {images} a folder without DICOM images; give one image, "
                "or the folder of a DICOM series"
            )
        return Sources([Source(file_kinds.stem_of(images), images, (masks,))])
    if images.is_file():
        raise CaseError(f"{images} is one image, but {masks} a folder; give one mask as well")
    if images.resolve() == masks.resolve() and image_suffix == mask_suffix:
        raise CaseError(
            f"{images}: images and masks lie in one folder; tell them apart by -img_name_suffix "
            "and -gt_name_suffix"
        )
    cases = [_case(path, image_suffix) for path in _ending(images, image_suffix)]
    if per_object:
        masks_by_case, orphans = _objects(cases, masks, mask_suffix)
    else:
        masks_by_case = {_case(path, mask_suffix): (path,) for path in _ending(masks, mask_suffix)}
        orphans = []
    if not masks_by_case and not orphans:
        raise CaseError(f"{masks}: holds no mask with the ending '{mask_suffix}' (-gt_name_suffix)")
    return _with_images(images, image_suffix, masks_by_case, orphans)


def _with_images(
    images: Path, suffix: str, masks: dict[str, tuple[Path, ...]], orphans: list[Path]
) -> Sources:
    """The masks that have an image, and what the others lack; CaseError if none has."""
    cases = []
    missing = {path.name: f"{path}: no image in {images} begins its name" for path in orphans}
    for case, files in masks.items():
        image = images / f"{case}{suffix}"
        if image in files:
            continue  # an image whose name also ends like a mask's
        if image.exists():
            cases.append(Source(case, image, files))
        else:
            missing[case] = f"{image}: there is no such image for {files[0].name}"
    if missing and not cases:
        there = ", ".join(sorted(path.name for path in images.iterdir())[:3]) or "nothing"
        reason = next(iter(missing.values()))
        raise CaseError(
            f"{reason}, nor for any other mask ({len(missing)}); {images} holds {there}, ... "
            "(-img_name_suffix says how images end)"
        )
    used = {source.image for source in cases} | {path for files in masks.values() for path in files}
    alone = tuple(path.name for path in _ending(images, suffix) if path not in used)
    return Sources(cases, missing, alone)


def _objects(
    cases: list[str], masks: Path, suffix: str
) -> tuple[dict[str, tuple[Path, ...]], list[Path]]:
    """Mask files by case, and those of no case."""
    by_length = sorted(cases, key=len, reverse=True)
    masks_by_case: dict[str, list[Path]] = {}
    orphans: list[Path] = []
    for path in sorted({*_ending(masks, suffix), *_folders(masks)}):
        if path.is_dir():
            orphans += [path] * (path.name not in cases)
            continue
        owner = next((case for case in by_length if path.name.startswith(f"{case}_")), None)
        if owner is None:
            orphans.append(path)
        elif not (masks / owner).is_dir():
            masks_by_case.setdefault(owner, []).append(path)
    for case in cases:
        if (masks / case).is_dir():
            files = [path for path in _ending(masks / case, suffix) if path.is_file()]
            if files:
                masks_by_case[case] = files
    return {case: tuple(masks_by_case[case]) for case in sorted(masks_by_case)}, orphans


def _folders(folder: Path) -> list[Path]:
    return [path for path in _ending(folder, "") if path.is_dir()]


def _ending(folder: Path, suffix: str) -> list[Path]:
    """What a folder holds with that ending, sorted; hidden files (macOS's `._x` too) left out."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.endswith(suffix) and path.name != suffix and not path.name.startswith(".")
    )


def _case(path: Path, suffix: str) -> str:
    return path.name.removesuffix(suffix) if suffix else path.name
