"""NumPy archives (.npz): a map whole, or arrays of another program."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offbragg.crystal.cell import Cell
from offbragg.crystal.grid import HklGrid, as_sampling
from offbragg.errors import FormatError, InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.formats.header import from_json, to_json
from offbragg.maps.formats.options import (
    ImportOptions,
    check_is_file,
    choose_space_group,
    import_step,
    require_cell,
)
from offbragg.maps.formats.voxel_list import ARRAYS

#: What NumPy and zipfile raise at a damaged file.
DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    TypeError,
    SyntaxError,
    OverflowError,
    struct.error,
    tokenize.TokenError,
    zlib.error,
    zipfile.BadZipFile,
)


def write_npz(path: Path, diffuse_map: DiffuseMap) -> None:
    """Write a map whole, in the precision that it has; `read_npz` gives it back.

    The arrays are those that `read_npz` takes; ``laue_group`` and ``d_min`` are there where the map
    has them.
    """
    grid = diffuse_map.grid
    arrays: dict[str, Any] = {
        name: values for name in ARRAYS if (values := getattr(diffuse_map, name)) is not None
    }
    if diffuse_map.laue_group is not None:
        arrays["laue_group"] = diffuse_map.laue_group
    if grid.d_min is not None:
        arrays["d_min"] = grid.d_min
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            h=grid.h,
            k=grid.k,
            l=grid.l,
            sampling=np.array(grid.sampling),
            cell=np.array(grid.cell),
            space_group=diffuse_map.space_group,
            statistics=to_json(diffuse_map.statistics),
            provenance=to_json(diffuse_map.provenance),
            **arrays,
        )


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
    ``laue_group`` ``d_min``             text; number [Å]; optional, as the next
    ``sampling``                         3 integers, with the axes
    ``statistics`` ``provenance``        JSON
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
    options = ImportOptions(cell, space_group, key, origin, sampling)
    return read_archive(Path(path), options)


def read_archive(path: Path, options: ImportOptions) -> DiffuseMap:
    """Read a map from an archive, as `read_npz`."""
    arrays = _load_archive(path)
    name = _intensity_name(path, arrays, options.key)
    cell = require_cell(path, options.cell, arrays.get("cell"))
    try:
        grid = _archive_grid(path, arrays, arrays[name].shape, cell, options)
        return DiffuseMap(
            grid=grid,
            intensity=as_floats(arrays[name]),
            space_group=choose_space_group(path, options.space_group, arrays.get("space_group")),
            sigma=_optional_floats(arrays, "sigma"),
            count=arrays.get("count"),
            half_1=_optional_floats(arrays, "half_1"),
            half_2=_optional_floats(arrays, "half_2"),
            laue_group=str(arrays["laue_group"]) if "laue_group" in arrays else None,
            statistics=_optional_json(path, arrays, "statistics", {}),
            provenance=(
                *_optional_json(path, arrays, "provenance", []),
                import_step(path, {"key": name, "space_group": options.space_group}),
            ),
        )
    except InputError as error:
        if str(error).startswith(str(path)):
            raise
        raise FormatError(f"{path}: {error}") from None


def _load_archive(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an archive; objects (pickles) are refused."""
    check_is_file(path)
    try:
        # NumPy leaves files open that it opens itself and finds damaged.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.lib.npyio.NpzFile):
                return {name: archive[name] for name in archive}
    except DAMAGE as error:
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
        n_h, n_k, n_l = _checked_sampling(path, arrays.get("sampling"))
        return HklGrid(cell, h, k, l, (n_h, n_k, n_l), _d_min(path, arrays))
    if options.origin is None and "hkl_range" in arrays:
        return _grid_from_range(path, arrays["hkl_range"], shape, cell)
    if options.origin is None:
        raise InputError(
            f"{path}: expected axes h k l or hkl_range in the file, or origin (the hkl of its "
            "first element), found none"
        )
    return grid_from_origin(path, shape, cell, options)


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


def grid_from_origin(
    path: Path, shape: tuple[int, ...], cell: Cell, options: ImportOptions
) -> HklGrid:
    """Grid of an array without axes, from the hkl of its first element and the sampling.

    Raises
    ------
    InputError
        If the origin is not three numbers, or no place of that sampling.
    """
    first = np.asarray(options.origin, dtype=np.float64)
    if first.shape != (3,):
        raise InputError(f"{path}: origin must be three numbers, got {options.origin!r}")
    sampling = as_sampling(1 if options.sampling is None else options.sampling)
    axes = [a + np.arange(n) / s for a, n, s in zip(first, shape, sampling, strict=True)]
    return HklGrid(cell, axes[0], axes[1], axes[2], sampling)


def _checked_sampling(path: Path, stored: NDArray[Any] | None) -> tuple[int, ...]:
    if stored is None:
        return 0, 0, 0
    if stored.shape != (3,) or stored.dtype.kind not in "iu":
        raise FormatError(f"{path}: sampling: expected 3 integers, found {stored!r}")
    return tuple(int(x) for x in stored)


def _d_min(path: Path, arrays: Mapping[str, NDArray[Any]]) -> float | None:
    if "d_min" not in arrays:
        return None
    if arrays["d_min"].shape != () or arrays["d_min"].dtype.kind not in "iuf":
        raise FormatError(f"{path}: d_min: expected a number, found {arrays['d_min']!r}")
    return float(arrays["d_min"])


def _optional_json(path: Path, arrays: Mapping[str, NDArray[Any]], name: str, default: Any) -> Any:
    """A mapping or list from JSON."""
    if name not in arrays:
        return default
    value = from_json(path, name, str(arrays[name]))
    if not isinstance(value, type(default)):
        raise FormatError(f"{path}: {name}: expected a JSON {type(default).__name__}")
    return value


def as_floats(values: NDArray[Any]) -> NDArray[np.floating]:
    """float32, or float64 where the file has it."""
    return values.astype(np.float64 if values.dtype.itemsize == 8 else np.float32)


def _optional_floats(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.floating] | None:
    return as_floats(arrays[name]) if name in arrays else None
