"""Maps from other programs: LUNUS lattices (.lat) and NumPy archives (.npz)."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offbragg.conventions import CELL_REFUSE_FRACTION
from offbragg.crystal.cell import Cell, as_cell
from offbragg.crystal.grid import HklGrid
from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.provenance import hash_file, make_step

logger = logging.getLogger(__name__)

#: LUNUS's value for a voxel that was not measured.
LUNUS_MASK_TAG = -32768.0

_OFF_NODE = 0.05  # voxels that hkl = 0 may lie off a node: bounds are float32 of rounded numbers


@dataclass(frozen=True)
class ImportOptions:
    """What a file may leave open.

    Attributes
    ----------
    cell : Cell or six numbers, optional
        Unit cell [Å, degrees]; overrules the file's.
    space_group : str, optional
        Hermann–Mauguin symbol; overrules the file's. P 1 where neither says.
    key : str, optional
        Name of the array of intensities in an ``.npz``.
    origin : 3 numbers, optional
        hkl of element [0, 0, 0] of an ``.npz`` without axes.
    sampling : 3 int, optional
        Voxels per reciprocal-lattice unit of an ``.npz`` without axes (default 1, 1, 1).
    """

    cell: object = None
    space_group: str | None = None
    key: str | None = None
    origin: ArrayLike | None = None
    sampling: ArrayLike | None = None


def import_map(
    path: str | Path,
    cell: object = None,
    space_group: str | None = None,
    key: str | None = None,
    origin: ArrayLike | None = None,
    sampling: ArrayLike | None = None,
) -> DiffuseMap:
    """Read another program's map, by the suffix of its name: ``.lat`` or ``.npz``.

    Parameters are those of `read_lat` and `read_npz`.

    Raises
    ------
    MissingFileError
        If there is no such file.
    InputError
        If the suffix is not known, or a cell or other value that the file lacks is not given.
    FormatError
        If the file is not what its name says.
    """
    options = ImportOptions(cell, space_group, key, origin, sampling)
    suffix = Path(path).suffix.lower()
    if suffix not in _READERS:
        expected = " or ".join(_READERS)
        raise InputError(f"{path}: expected a file name that ends in {expected}, got {suffix!r}")
    return _READERS[suffix](path, options)


def read_lat(path: str | Path, cell: object = None, space_group: str | None = None) -> DiffuseMap:
    """Read a lattice of LUNUS.

    Three counts (integers of 4 bytes, of 8 in some versions), six bounds (float32: lowest and
    highest x, y, z, in units of 1/edge [Å⁻¹]) and the values (float32, x fastest), in the byte
    order of the machine that wrote them; −32768 is "not measured". Byte order and width of the
    counts follow from the size of the file. The highest bound is the last voxel in some versions
    and one beyond it in others: that is taken by which hkl = 0 falls on a voxel, or, where both
    do, the one that fits the cell better.

    Parameters
    ----------
    path : str or Path
    cell : Cell or six numbers
        Unit cell [Å, degrees]: the file has none. Sampling follows from it and the bounds.
    space_group : str, optional
        P 1 where it is not given.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If the size is not that of a lattice, or the bounds put no voxel on hkl = 0.
    InputError
        If there is no cell, or its edges do not fit the bounds.
    """
    path = Path(path)
    checked = _require_cell(path, cell, None)
    raw = _read_bytes(path)
    counts, order, start = _lattice_header(path, raw)
    bounds = np.frombuffer(raw, f"{order}f4", 6, start).astype(np.float64).reshape(3, 2)
    values = np.frombuffer(raw, f"{order}f4", -1, start + 24).astype(np.float32)
    values = np.ascontiguousarray(values.reshape(counts[::-1]).transpose(2, 1, 0))
    values[(values == LUNUS_MASK_TAG) | ~np.isfinite(values)] = np.nan
    axes, sampling = [], []
    for axis in range(3):
        names = ("ha", "kb", "lc")[axis]
        first, n = _lattice_axis(path, names, counts[axis], bounds[axis], checked[axis])
        axes.append((first + np.arange(counts[axis])) / n)
        sampling.append(n)
    grid = HklGrid(checked, axes[0], axes[1], axes[2], (sampling[0], sampling[1], sampling[2]))
    return DiffuseMap(
        grid=grid,
        intensity=values,
        space_group=_choose_space_group(path, space_group, None),
        provenance=(_import_step(path, {"cell": list(checked), "space_group": space_group}),),
    )


def _read_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingFileError(f"{path}: cannot be opened: {error.strerror}") from None


def _lattice_header(path: Path, raw: bytes) -> tuple[tuple[int, int, int], str, int]:
    """Counts, byte order and length of the counts [bytes] that agree with the file's size."""
    for kind in ("<u4", ">u4", "<u8", ">u8"):
        length = 3 * int(kind[2])
        if len(raw) < length + 24:
            break
        n_x, n_y, n_z = (int(n) for n in np.frombuffer(raw, kind, 3))
        if n_x * n_y * n_z > 0 and length + 24 + 4 * n_x * n_y * n_z == len(raw):
            return (n_x, n_y, n_z), kind[0], length
    raise FormatError(
        f"{path}: expected a LUNUS lattice (3 counts, 6 bounds, float32 values), found "
        f"{len(raw)} bytes that do not fit their counts"
    )


def _lattice_axis(
    path: Path, names: str, count: int, bounds: NDArray[np.float64], edge: float
) -> tuple[int, int]:
    """Node of the first voxel and voxels per reciprocal-lattice unit; names: axis and edge."""
    low, high = float(bounds[0]), float(bounds[1])
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise FormatError(f"{path}: bounds of {names[0]}: expected low < high, found {low} {high}")
    readings = []
    for n_steps in (count - 1, count):
        node = low / (high - low) * n_steps
        if n_steps > 0 and abs(node - round(node)) < _OFF_NODE:
            per_unit = n_steps / ((high - low) * edge)
            sampling = max(1, round(per_unit))
            readings.append((abs(per_unit / sampling - 1), round(node), sampling))
    if not readings:
        raise FormatError(
            f"{path}: bounds of {names[0]}: expected hkl = 0 on a voxel, found {low} to {high} in "
            f"{count} voxels"
        )
    misfit, node, sampling = min(readings)
    if misfit > CELL_REFUSE_FRACTION:
        raise InputError(
            f"{path}: cell {names[1]}: expected about {(count - 1) / (high - low):.2f} Å divided "
            f"by the sampling, from the file's bounds, got {edge:.3f}"
        )
    return node, sampling


def read_npz(
    path: str | Path,
    cell: object = None,
    space_group: str | None = None,
    key: str | None = None,
    origin: ArrayLike | None = None,
    sampling: ArrayLike | None = None,
) -> DiffuseMap:
    """Read a map from a NumPy archive.

    ===================================  ======================================================
    ``intensity``                        (n_h, n_k, n_l); or the array named by ``key``, or the
                                         only array of three dimensions
    ``sigma count half_1 half_2``        optional, same shape
    ``h k l``                            axes, in reciprocal-lattice units; or
    ``hkl_range``                        first and last hkl, (2,) for all axes or (3, 2); or
                                         the argument ``origin``
    ``cell`` ``space_group``             six numbers [Å, degrees]; text
    ===================================  ======================================================

    Parameters
    ----------
    path : str or Path
    cell : Cell or six numbers, optional
        Overrules the file's; required where it has none.
    space_group : str, optional
        Overrules the file's; P 1 where neither says.
    key : str, optional
        Name of the array of intensities.
    origin : 3 numbers, optional
        hkl of element [0, 0, 0], for a file without axes.
    sampling : 3 int, optional
        Voxels per reciprocal-lattice unit, with ``origin`` (default 1, 1, 1).

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it is no such archive, or its arrays do not fit together.
    InputError
        If a cell, ``key`` or ``origin`` is needed and not given.
    """
    return _read_npz(path, ImportOptions(cell, space_group, key, origin, sampling))


def _read_npz(path: str | Path, options: ImportOptions) -> DiffuseMap:
    path = Path(path)
    arrays = _load_archive(path)
    name = _intensity_name(path, arrays, options.key)
    cell = _require_cell(path, options.cell, arrays.get("cell"))
    try:
        grid = _archive_grid(path, arrays, arrays[name].shape, cell, options)
        return DiffuseMap(
            grid=grid,
            intensity=_as_floats(arrays[name]),
            space_group=_choose_space_group(path, options.space_group, arrays.get("space_group")),
            sigma=_optional_floats(arrays, "sigma"),
            count=arrays.get("count"),
            half_1=_optional_floats(arrays, "half_1"),
            half_2=_optional_floats(arrays, "half_2"),
            provenance=(_import_step(path, {"key": name, "space_group": options.space_group}),),
        )
    except InputError as error:
        if str(error).startswith(str(path)):
            raise
        raise FormatError(f"{path}: {error}") from None


def _load_archive(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an archive; objects (pickles) are refused."""
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.lib.npyio.NpzFile):
            with archive:
                return {name: archive[name] for name in archive}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or ["not readable"])[0]
        raise FormatError(f"{path}: expected a NumPy archive of plain arrays: {reason}") from None
    raise FormatError(f"{path}: expected an archive of arrays, found one array")


def _intensity_name(path: Path, arrays: Mapping[str, NDArray[Any]], key: str | None) -> str:
    cubes = [n for n, x in arrays.items() if x.ndim == 3 and x.dtype.kind in "iuf"]
    found = " ".join(f"{n}{x.shape}" for n, x in arrays.items()) or "nothing"
    if key is not None:
        if key not in cubes:
            raise InputError(f"{path}: key {key!r}: expected a 3D array of numbers, found {found}")
        return key
    if "intensity" in cubes:
        return "intensity"
    if len(cubes) == 1:
        return cubes[0]
    raise InputError(f"{path}: expected one 3D array of numbers, or its key, found {found}")


def _archive_grid(
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    shape: tuple[int, ...],
    cell: Cell,
    options: ImportOptions,
) -> HklGrid:
    if options.origin is None and all(x in arrays for x in "hkl"):
        h, k, l = (arrays[x] for x in "hkl")  # noqa: E741
        return HklGrid(cell, h, k, l)
    if options.origin is None and "hkl_range" in arrays:
        return _grid_from_range(path, arrays["hkl_range"], shape, cell)
    if options.origin is None:
        raise InputError(
            f"{path}: expected axes h k l or hkl_range in the file, or origin (the hkl of its "
            "first element), found none"
        )
    first = np.asarray(options.origin, dtype=np.float64)
    steps = np.asarray((1, 1, 1) if options.sampling is None else options.sampling)
    if first.shape != (3,) or steps.shape != (3,) or np.any(steps < 1):
        raise InputError(
            f"{path}: origin and sampling must be 3 numbers each, got {options.origin!r} and "
            f"{options.sampling!r}"
        )
    axes = [a + np.arange(n) / s for a, n, s in zip(first, shape, steps, strict=True)]
    n_h, n_k, n_l = (int(x) for x in steps)
    return HklGrid(cell, axes[0], axes[1], axes[2], (n_h, n_k, n_l))


def _grid_from_range(
    path: Path, hkl_range: NDArray[Any], shape: tuple[int, ...], cell: Cell
) -> HklGrid:
    """Axes between first and last hkl, as many steps as the array has."""
    if hkl_range.shape not in ((2,), (3, 2)) or hkl_range.dtype.kind not in "iuf":
        raise FormatError(
            f"{path}: hkl_range: expected numbers of shape (2,) or (3, 2), found {hkl_range.shape}"
        )
    limits = np.broadcast_to(hkl_range, (3, 2))
    axes = [np.linspace(low, high, n) for (low, high), n in zip(limits, shape, strict=True)]
    return HklGrid(cell, axes[0], axes[1], axes[2])


def _as_floats(values: NDArray[Any]) -> NDArray[np.floating]:
    """float32, or float64 where the file has it."""
    return values.astype(np.float64 if values.dtype.itemsize == 8 else np.float32)


def _optional_floats(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.floating] | None:
    return _as_floats(arrays[name]) if name in arrays else None


def _require_cell(path: Path, given: object, stored: NDArray[Any] | None) -> Cell:
    if given is None and stored is None:
        raise InputError(
            f"{path}: expected a cell (a b c alpha beta gamma), found none in the file"
        )
    if given is not None:
        return as_cell(given)
    try:
        return as_cell(stored)
    except InputError as error:
        raise FormatError(f"{path}: {error}") from None


def _choose_space_group(path: Path, given: str | None, stored: NDArray[Any] | None) -> str:
    if given is not None:
        return given
    if stored is not None:
        return str(stored)
    logger.warning("%s: no space group given, P 1 is used", path)
    return "P 1"


def _import_step(path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    return make_step("import", options, inputs=[{"name": path.name, "sha256": hash_file(path)}])


_READERS: dict[str, Callable[[str | Path, ImportOptions], DiffuseMap]] = {
    ".lat": lambda path, options: read_lat(path, options.cell, options.space_group),
    ".npz": _read_npz,
}
