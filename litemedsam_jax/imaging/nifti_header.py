"""NIfTI headers: what they say, compared with what can be; where they place the voxels.

nibabel interprets the fields. Source: https://nifti.nimh.nih.gov.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from litemedsam_jax.imaging.geometry import Geometry

RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
# Axes this far from orthogonal are rounding of the header: voxels of the grid's corner that lie
# closer than this part of a voxel to where straight axes put them.
_STRAIGHT = 0.5
_MILLIMETRES = {1: 1000.0, 3: 0.001}  # of NIfTI's codes for metres and micrometres
_FARTHEST = 1e7  # mm; no scanner is so large
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # between NIfTI's RAS and DICOM's LPS


def parse_header(raw: bytes, path: Path) -> Any:
    """A file's first 540 bytes as nibabel's header; raises ValueError if they are none."""
    single = path.suffix.lower() not in (".hdr", ".img")
    for order in ("<", ">"):
        sizeof = int(np.frombuffer(raw[:4], f"{order}i4")[0]) if len(raw) >= 4 else 0
        if sizeof == 348 and raw[344:347] in (b"n+1", b"ni1") and len(raw) >= 348:
            known = nibabel.Nifti1Header if single else nibabel.nifti1.Nifti1PairHeader
            return known(raw[:348], order, check=False)
        if sizeof == 540 and raw[4:7] in (b"n+2", b"ni2") and len(raw) >= 540:
            known = nibabel.Nifti2Header if single else nibabel.nifti2.Nifti2PairHeader
            return known(raw[:540], order, check=False)
        if sizeof == 348 and not single:
            raise ValueError(
                f"{path}: is an Analyze file, which does not say which side is left; convert it "
                "to NIfTI with the program that wrote it"
            )
    raise ValueError(
        f"{path}: cannot be read as a volume (it does not begin with a NIfTI header: damaged, or "
        "another kind of file under this name)"
    )


def volume_size(header: Any, path: Path) -> tuple[tuple[int, int, int], bool]:
    """Voxels along x, y, z; whether the file itself is two-dimensional."""
    rank, *sides = header["dim"].tolist()
    if not 1 <= rank <= 7 or min(sides[:rank]) < 1:
        raise ValueError(
            f"{path}: its header is damaged ({rank} axes of {_times(sides)} voxels); export it "
            "again from where it came"
        )
    sides = sides[:rank]
    while len(sides) > 3 and sides[-1] == 1:
        sides.pop()
    if len(sides) > 3:
        last = ", 0" * (len(sides) - 4)
        raise ValueError(
            f"{path}: is {len(sides)}D, {_times(sides)} voxels; expected one 3D volume. Write the "
            'time point or channel you mean to a file of its own: python -c "import nibabel as n; '
            f"n.save(n.load('{path.name}').slicer[:, :, :, 0{last}], 'volume.nii.gz')\""
        )
    x, y, z = sides + [1] * (3 - len(sides))
    return (x, y, z), len(sides) < 3


def values_type(header: Any, path: Path) -> np.dtype:
    """Of a voxel, in the file's byte order; raises ValueError on what is no value."""
    try:
        dtype = header.get_data_dtype()
    except (nibabel.spatialimages.HeaderDataError, KeyError):
        dtype = np.dtype("V1")
    if dtype.kind == "c":
        raise ValueError(f"{path}: holds complex numbers; write their magnitude to a file first")
    if dtype == RGB or (dtype.kind in "iuf" and dtype.itemsize <= 8):
        return dtype
    raise ValueError(
        f"{path}: holds values of NIfTI's type {int(header['datatype'])}; expected whole numbers, "
        "float32, float64 or RGB of 8 bits"
    )


def values_start(header: Any, path: Path) -> int:
    """Where the values begin; NIfTI says that too small a number stands for the header's end."""
    start = float(header["vox_offset"])
    if not math.isfinite(start) or start < 0 or start != int(start) or start > 2**40:
        raise ValueError(
            f"{path}: its header is damaged (values begin at byte {start:g}); export it again from "
            "where it came"
        )
    least = {348: 352, 540: 544}[header.sizeof_hdr]
    return max(int(start), 0 if path.suffix.lower() in (".hdr", ".img") else least)


def place(
    header: Any, size: tuple[int, int, int], flat: bool, path: Path
) -> tuple[Geometry, tuple[str, ...]]:
    """The grid, by the sform if its code is above 0, else by the qform; what is odd about it."""
    scale = _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    grids: dict[str, Geometry] = {}
    faults: dict[str, str] = {}
    for form in ("sform", "qform"):
        if int(header[f"{form}_code"]) > 0:
            try:
                with np.errstate(all="ignore"):
                    affine = getattr(header, f"get_{form}")()
                grids[form] = _grid(affine, scale, size, flat)
            except nibabel.spatialimages.HeaderDataError:  # programs differ on what that means
                faults[form] = "has negative voxel sizes beside it"
            except ValueError as error:
                faults[form] = str(error)
    if grids:
        names = list(grids)
        notes = [f"its {form} {fault}; the {names[0]} counts" for form, fault in faults.items()]
        first, *others = grids.values()
        if others and not first.same_as(others[0]):
            apart = np.abs(first.corners() - others[0].corners()).max()
            notes.append(
                f"its sform and its qform differ by up to {apart:.3g} mm; the sform counts for "
                "millimetres and for placing masks, and the output has both"
            )
            first = replace(first, other=others[0])
        return first, tuple(notes)
    if faults:
        told = ", and ".join(f"its {form} {fault}" for form, fault in faults.items())
        advice = (
            "Export it again, or take that out of its header (nibabel: image.set_sform(None), "
            "image.set_qform(None)): its voxel sizes then count alone"
        )
        if any("sheared" in fault for fault in faults.values()):
            advice = (
                "Resample it onto straight axes first (nibabel.processing.resample_to_output, or "
                "3D Slicer's Resample)"
            )
        raise ValueError(f"{path}: {told}, so it does not say where its voxels lie. {advice}")
    return _unplaced(header, size, flat, scale)


def _unplaced(
    header: Any, size: tuple[int, int, int], flat: bool, scale: float
) -> tuple[Geometry, tuple[str, ...]]:
    """A header with neither form: the axes start at 0, straight, as in ITK."""
    sides = np.abs(header["pixdim"][1:4].astype(np.float64)) * scale
    usable = (sides > 0) & (sides < _FARTHEST)
    notes = () if usable.all() else ("its header gives no voxel size; taken as 1 mm",)
    x, y, z = np.where(usable, sides, 1.0).tolist()
    return Geometry(
        size, (x, y, z), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel().tolist()), flat
    ), notes


def _grid(affine: np.ndarray, scale: float, size: tuple[int, int, int], flat: bool) -> Geometry:
    """The grid of an affine in RAS, in units of `scale` mm; ValueError: what is wrong with it."""
    if not np.isfinite(affine).all():
        raise ValueError("holds NaN or infinity")
    if np.abs(affine).max() > _FARTHEST:
        raise ValueError(f"holds {np.abs(affine).max():.2g} mm")
    lps = _LPS @ np.diag([scale, scale, scale, 1]) @ affine
    axes = lps[:3, :3]
    if size[2] == 1 and not axes[:, 2].any():  # a 2D image's header need not say
        normal = np.cross(axes[:, 0], axes[:, 1])
        axes[:, 2] = normal / max(float(np.linalg.norm(normal)), 1e-9)
    spacing = np.linalg.norm(axes, axis=0)
    if spacing.min() < 1e-6:
        raise ValueError("gives voxels of 0 mm")
    left, _, right = np.linalg.svd(axes / spacing)
    direction = left @ right  # the nearest straight axes
    x, y, z = spacing.tolist()
    grid = Geometry(
        size, (x, y, z), tuple(lps[:3, 3].tolist()), tuple(direction.ravel().tolist()), flat
    )
    far = np.array(list(np.ndindex(2, 2, 2))) * (np.array(size) - 1)
    if np.abs(far @ axes.T + lps[:3, 3] - grid.corners()).max() > _STRAIGHT * spacing.min():
        angles = np.degrees(np.arccos(np.clip((axes / spacing).T @ (axes / spacing), -1, 1)))
        worst = np.abs(angles[np.triu_indices(3, 1)] - 90).max()
        raise ValueError(f"is sheared (its axes are {worst:.2g} degrees from right angles)")
    return grid


def header_like(geometry: Geometry) -> Any:
    """The header that the grid was read from, or a new one in scanner coordinates."""
    if geometry.nifti is not None:
        known = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}[len(geometry.nifti)]
        header = known(geometry.nifti, check=False).as_byteswapped("<")
        header["magic"] = known().structarr["magic"]  # of a pair's header
        _repair(header, geometry)
        return header
    header = nibabel.Nifti1Header()
    header.set_data_shape(geometry.size[: 2 if geometry.flat else 3])
    axes = np.reshape(geometry.direction, (3, 3)) * np.asarray(geometry.spacing)
    affine = _LPS @ np.vstack([np.column_stack([axes, geometry.origin]), [0, 0, 0, 1]])
    header.set_qform(affine, "scanner")
    header.set_sform(affine, "scanner")
    header.set_xyzt_units("mm")
    return header


def _repair(header: Any, geometry: Geometry) -> None:
    """What no viewer could use is not repeated: voxels of 0 mm, a form with NaN."""
    sides = header["pixdim"][1:4]
    broken = ~np.isfinite(sides) | (sides <= 0)
    header["pixdim"][1:4] = np.where(broken, np.abs(geometry.spacing), sides)
    if not np.isfinite(header.get_sform()).all():
        header["sform_code"] = 0
        for row in ("srow_x", "srow_y", "srow_z"):
            header[row] = 0


def _times(sides: Any) -> str:
    return "x".join(map(str, sides))
