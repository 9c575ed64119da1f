"""Which image belongs to which mask, and which cases train."""

from dataclasses import dataclass
from pathlib import Path

from litemedsam_jax.imaging import file_kinds


@dataclass(frozen=True)
class Source:
    """One case as found: its image, and its mask file (or one mask file per object)."""

    case: str
    image: Path
    masks: tuple[Path, ...]


def find_sources(
    images: Path, masks: Path, image_suffix: str, mask_suffix: str, *, per_object: bool = False
) -> tuple[list[Source], dict[str, str]]:
    """Pairs `<case><mask suffix>` with `<case><image suffix>`, sorted; and what has no image.

    Two files (or a DICOM folder and a file) are a pair of their own, whatever their names. An image
    suffix of "" means a DICOM folder named as the case. per_object: the masks of a case are the
    files of the folder `<case>`, or the files `<case>_*<mask suffix>`. Raises FileNotFoundError,
    ValueError.
    """
    for path in (images, masks):
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is no such file or folder")
    if masks.is_file():
        if images.is_dir() and file_kinds.kind_of(images) != "dicom":
            raise ValueError(
                f"{masks} is one mask, but {images} a folder without DICOM images; give one image, "
                "or the folder of a DICOM series"
            )
        return [Source(file_kinds.stem_of(images), images, (masks,))], {}
    if images.is_file():
        raise ValueError(f"{images} is one image, but {masks} a folder; give one mask as well")
    if images.resolve() == masks.resolve() and image_suffix == mask_suffix:
        raise ValueError(
            f"{images}: images and masks lie in one folder; tell them apart by -img_name_suffix "
            "and -gt_name_suffix"
        )
    if per_object:
        found = _objects(images, masks, image_suffix, mask_suffix)
    else:
        found = {
            _case(path, mask_suffix): (path,)
            for path in sorted(masks.iterdir())
            if path.name.endswith(mask_suffix) and path.name != mask_suffix
        }
    if not found:
        raise ValueError(
            f"{masks}: holds no mask with the ending '{mask_suffix}' (-gt_name_suffix)"
        )
    return _with_images(images, image_suffix, found)


def _with_images(
    images: Path, suffix: str, masks: dict[str, tuple[Path, ...]]
) -> tuple[list[Source], dict[str, str]]:
    """The masks that have an image, and what the others lack; ValueError if none has."""
    sources, missing = [], {}
    for case, files in masks.items():
        image = images / f"{case}{suffix}"
        if image in files:
            continue  # an image whose name also ends like a mask's
        if image.exists():
            sources.append(Source(case, image, files))
        else:
            missing[case] = f"{image}: there is no such image for {files[0].name}"
    if missing and not sources:
        there = ", ".join(sorted(path.name for path in images.iterdir())[:3]) or "nothing"
        reason = next(iter(missing.values()))
        raise ValueError(
            f"{reason}, nor for any other mask ({len(missing)}); {images} holds {there}, ... "
            "(-img_name_suffix says how images end)"
        )
    return sources, missing


def _objects(
    images: Path, masks: Path, image_suffix: str, mask_suffix: str
) -> dict[str, tuple[Path, ...]]:
    cases = [
        _case(p, image_suffix) for p in sorted(images.iterdir()) if p.name.endswith(image_suffix)
    ]
    found = {}
    for case in cases:
        folder = masks / case
        files = sorted(folder.iterdir()) if folder.is_dir() else sorted(masks.glob(f"{case}_*"))
        chosen = tuple(f for f in files if f.name.endswith(mask_suffix) and f.is_file())
        if chosen:
            found[case] = chosen
    return found


def _case(path: Path, suffix: str) -> str:
    return path.name.removesuffix(suffix) if suffix else path.name
