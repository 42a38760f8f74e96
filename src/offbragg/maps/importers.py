"""Maps from files of other programs, by the suffix of the name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from numpy.typing import ArrayLike

from offbragg.errors import InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.formats.ccp4 import read_ccp4
from offbragg.maps.formats.hkl_text import read_hkl
from offbragg.maps.formats.lunus import read_lat
from offbragg.maps.formats.mdx2 import read_mdx2
from offbragg.maps.formats.mtz_reader import read_mtz
from offbragg.maps.formats.numpy_archive import read_archive
from offbragg.maps.formats.numpy_array import read_npy
from offbragg.maps.formats.options import ImportOptions


def import_map(
    path: str | Path,
    cell: object = None,
    space_group: str | None = None,
    key: str | None = None,
    origin: ArrayLike | None = None,
    sampling: ArrayLike | None = None,
) -> DiffuseMap:
    """Read a map from another program's file; the suffix of the name says how.

    ============================  =============================================================
    ``.lat``                      lattices of LUNUS; ``cell`` is needed
    ``.npz``                      arrays by name, with axes or ``origin``
    ``.npy``                      one array, such as eryx saves; ``cell`` and ``origin`` are needed
    ``.nxs`` ``.h5``              maps and merged tables of mdx2; ``cell`` is needed
    ``.mtz``                      exported maps; others with ``sampling``
    ``.ccp4`` ``.mrc`` ``.map``   exported maps
    ``.hkl`` ``.txt`` ``.csv``    exported maps; others, h k l I σ n, with ``cell``
    ============================  =============================================================

    What `offbragg.maps.export.export_map` wrote needs no more than its name.

    Parameters
    ----------
    path : str or Path
    cell : Cell or six numbers, optional
        Unit cell of the crystal [Å, degrees]; overrules the file's.
    space_group : str, optional
        Hermann–Mauguin symbol; overrules the file's. P 1 where neither says.
    key : str, optional
        Name of the array (``.npz``), group (``.nxs``) or column (``.mtz``) of intensities.
    origin : 3 numbers, optional
        hkl of element [0, 0, 0] of an array without axes.
    sampling : 3 int, optional
        Voxels per reciprocal-lattice unit, where the file does not say (default 1, 1, 1).

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If the suffix is not known, or a cell or other value that the file lacks is not given.
    FormatError
        If the file is not what its name says.
    """
    path = Path(path)
    options = ImportOptions(cell, space_group, key, origin, sampling)
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        expected = " ".join(_READERS)
        raise InputError(f"{path}: expected a name in one of {expected}, got {suffix or 'none'}")
    return _READERS[suffix](path, options)


_READERS: dict[str, Callable[[Path, ImportOptions], DiffuseMap]] = {
    ".lat": lambda path, options: read_lat(path, options.cell, options.space_group),
    ".npz": read_archive,
    ".npy": read_npy,
    ".nxs": read_mdx2,
    ".h5": read_mdx2,
    ".mtz": read_mtz,
    ".ccp4": read_ccp4,
    ".mrc": read_ccp4,
    ".map": read_ccp4,
    ".hkl": read_hkl,
    ".txt": read_hkl,
    ".csv": read_hkl,
}
