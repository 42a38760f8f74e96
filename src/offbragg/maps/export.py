"""Maps as files for other programs, by the suffix of the name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.formats.ccp4 import MISSING, write_ccp4
from offbragg.maps.formats.hkl_text import write_csv, write_hkl
from offbragg.maps.formats.mtz import write_mtz
from offbragg.maps.formats.numpy_archive import write_npz
from offbragg.maps.formats.vtk import write_vtk, write_vts
from offbragg.maps.io import replace_when_done


def export_map(diffuse_map: DiffuseMap, path: str | Path, *, missing: str | None = None) -> Path:
    """Write a map for other programs; the suffix of the name says how.

    ============================  =============================================================
    ``.mtz``                      reflections of a supercell, in P 1: H = h times sampling
    ``.ccp4`` ``.mrc`` ``.map``   volume in the shape of reciprocal space, 1 Å for 0.01 Å⁻¹
    ``.vts`` ``.vtk``             VTK, points at h a* + k b* + l c* [Å⁻¹]
    ``.npz``                      NumPy arrays; nothing is lost
    ``.hkl`` ``.txt`` ``.csv``    lines of h k l, intensity, sigma, count
    ============================  =============================================================

    `offbragg.import_map` reads all of them but VTK.

    Parameters
    ----------
    diffuse_map : DiffuseMap
    path : str or Path
        A file there is replaced.
    missing : {"zero", "mean"}, optional
        For CCP4 only: what takes the place of voxels that were not measured, zero (default) or the
        mean of their shell of 0.01 Å⁻¹ in 1/d.

    Returns
    -------
    Path
        The file, written whole or not at all.

    Raises
    ------
    InputError
        If the suffix is not known, or the map has what the format cannot hold.
    MissingFileError
        If the folder does not exist or cannot be written.
    """
    path = Path(path)
    write = writer_for(path, missing)
    with replace_when_done(path) as temporary:
        write(temporary, diffuse_map)
    return path


def writer_for(path: Path, missing: str | None = None) -> Callable[[Path, DiffuseMap], None]:
    """Return the function that writes files of a name's suffix.

    Raises
    ------
    InputError
        If there is none, or ``missing`` is not for it.
    """
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        expected = " ".join(_WRITERS)
        raise InputError(f"{path}: expected a name in one of {expected}, got {suffix or 'none'}")
    if missing is None:
        return _WRITERS[suffix]
    if _WRITERS[suffix] is not write_ccp4:
        raise InputError(f"{path}: missing is for .ccp4, .mrc and .map only, got {missing!r}")
    if missing not in MISSING:
        raise InputError(f"missing must be one of {', '.join(MISSING)}, got {missing!r}")
    return lambda temporary, diffuse_map: write_ccp4(temporary, diffuse_map, missing)


_WRITERS: dict[str, Callable[[Path, DiffuseMap], None]] = {
    ".mtz": write_mtz,
    ".ccp4": write_ccp4,
    ".mrc": write_ccp4,
    ".map": write_ccp4,
    ".vts": write_vts,
    ".vtk": write_vtk,
    ".npz": write_npz,
    ".hkl": write_hkl,
    ".txt": write_hkl,
    ".csv": write_csv,
}
