"""Training npz to the folder of npy slices that the reference trains from."""

from pathlib import Path

import numpy as np

from litemedsam_jax.files import replacing
from litemedsam_jax.imaging import file_kinds
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.labels import as_labels
from litemedsam_jax.imaging.npz import read_npz


def npz_to_npy(source: Path, folder: Path, dtype: str = "uint8", skip_empty: bool = False) -> int:
    """Writes `imgs/<name>.npy` and `gts/<name>.npy`; of a volume, `<name>-000.npy` a slice.

    Source: the reference's `npz_to_npy.py`.

    Args:
        source: npz with imgs (H, W), (H, W, 3), (D, H, W) or (D, H, W, 3), and gts.
        folder: where to write.
        dtype: `uint8` keeps grey and colour as they are; `float64` writes the reference's layout,
            RGB scaled to 0-1 slice by slice, 24 times the size.
        skip_empty: leave out slices without labels.

    Returns:
        The number of slices.

    Raises:
        CaseError: arrays that do not fit, labels with fractions. OSError.
    """
    arrays = read_npz(source, ("imgs", "gts"))
    imgs, gts = arrays["imgs"], as_labels(arrays["gts"], f"{source}: gts")
    grid = imgs.shape[: gts.ndim]
    if gts.ndim not in (2, 3) or grid != gts.shape or imgs.shape[gts.ndim :] not in ((), (3,)):
        raise CaseError(
            f"{source}: imgs has shape {imgs.shape} and gts {gts.shape}; expected (H, W[, 3]) and "
            "(H, W), or (D, H, W[, 3]) and (D, H, W)"
        )
    name = file_kinds.stem_of(source)
    if gts.ndim == 2:
        return _write(folder, name, imgs, gts, dtype, skip_empty)
    return sum(
        _write(folder, f"{name}-{z:03d}", img, gt, dtype, skip_empty)
        for z, (img, gt) in enumerate(zip(imgs, gts, strict=True))
    )


def _write(
    folder: Path, name: str, img: np.ndarray, gt: np.ndarray, dtype: str, skip_empty: bool
) -> int:
    if skip_empty and not gt.any():
        return 0
    if dtype == "float64":
        img = np.repeat(img[..., None], 3, axis=2) if img.ndim == 2 else img
        low, high = float(img.min()), float(img.max())
        img = (img - low) / max(high - low, 1e-8)
    elif img.dtype != np.uint8:
        if img.dtype.kind not in "iu" or img.min() < 0 or img.max() > 255:
            raise CaseError(f"{name}: imgs holds {img.dtype}; expected whole numbers 0 to 255")
        img = img.astype(np.uint8)
    gt = as_labels(gt)  # the smallest type of each slice
    for kind, array in (("imgs", img), ("gts", gt)):
        with replacing(folder / kind / f"{name}.npy") as beside:
            np.save(beside, array, allow_pickle=False)
    return 1
