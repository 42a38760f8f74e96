"""Lists of voxels as text (.hkl, .txt, .csv): h k l, intensity, and what else there is."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.grid import as_sampling
from offbragg.errors import FormatError, InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.formats.header import describe, from_lines, grid_of, to_json
from offbragg.maps.formats.options import (
    ImportOptions,
    check_is_file,
    choose_space_group,
    import_step,
    require_cell,
)
from offbragg.maps.formats.voxel_list import (
    ARRAYS,
    VoxelList,
    as_counts,
    box_around,
    list_voxels,
    place_voxels,
)

_OFF_NODE = 2e-3  # of an index: a third is written 0.333 at least
_LARGEST_SAMPLING = 30
_MOST_UNNAMED = 6  # columns: h k l I sigma count
_SYNONYMS = {"i": "intensity", "sig": "sigma", "sigi": "sigma", "n": "count"}


def write_hkl(path: Path, diffuse_map: DiffuseMap, separator: str = " ") -> None:
    """Write the voxels that have a value, one a line, in as many digits as tell them apart.

    Lines that begin with ``#`` tell the cell and the rest of the grid. With commas, the names of
    the columns are a line of their own, as spreadsheets and pandas take it.
    """
    voxels = list_voxels(diffuse_map)
    sampling = np.array(diffuse_map.grid.sampling)
    floats = [x.dtype for x in voxels.columns.values() if x.dtype.kind == "f"]
    kind = np.result_type(*floats)
    names = ["h", "k", "l", *voxels.columns]
    formats = ["%.10g"] * 3 + [_number_format(x) for x in voxels.columns.values()]
    table = np.column_stack([voxels.node / sampling, *voxels.columns.values()])
    lines = [
        "# Diffuse map of offbragg: indices in reciprocal-lattice units",
        "# cell " + " ".join(repr(x) for x in diffuse_map.cell),
        f"# space group {diffuse_map.space_group}",
        f"# offbragg|{to_json(describe(diffuse_map) | {'dtype': str(kind)})}|",
        ("" if separator == "," else "# ") + separator.join(names),
    ]
    with path.open("w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
        np.savetxt(file, table, fmt=separator.join(formats))


def write_csv(path: Path, diffuse_map: DiffuseMap) -> None:
    """Write as `write_hkl`, with commas."""
    write_hkl(path, diffuse_map, ",")


def _number_format(values: NDArray[Any]) -> str:
    if values.dtype.kind in "iu":
        return "%d"
    return "%.9g" if values.dtype.itemsize == 4 else "%.17g"


def read_hkl(path: Path, options: ImportOptions) -> DiffuseMap:
    """Read a list of voxels, blanks or commas between.

    Without a header of this program the columns are h k l I, then perhaps σ, then perhaps counts of
    pixels, in this order or by their names in a line above; indices may be fractions, the sampling
    that they are of is found where it is not given, and the cell must be given.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it is no such list.
    InputError
        If a cell is needed and not given.
    """
    check_is_file(path)
    top = _read_top(path)
    table = _load(path, top)
    header = from_lines(path, top.comments)
    columns = _name_columns(path, top, table)
    try:
        if header is not None:
            grid = grid_of(path, header, options)
            node = _nodes(columns, grid.sampling)
        else:
            cell = require_cell(path, options.cell, None)
            sampling = _sampling(columns, options.sampling)
            node = _nodes(columns, sampling)
            grid = box_around(cell, node, sampling)
        stored = header or {}
        kind = np.dtype(np.float64 if stored.get("dtype") == "float64" else np.float32)
        arrays = {name: columns[name].astype(kind) for name in ARRAYS if name in columns}
        if "count" in columns:
            arrays["count"] = as_counts("count", columns["count"])
        return DiffuseMap(
            grid=grid,
            space_group=choose_space_group(path, options.space_group, stored.get("space_group")),
            laue_group=stored.get("laue_group"),
            provenance=(import_step(path, {"sampling": list(grid.sampling)}),),
            **place_voxels(grid, VoxelList(node, arrays)),
        )
    except InputError as error:
        if str(error).startswith(str(path)):
            raise
        raise FormatError(f"{path}: {error}") from None


@dataclass(frozen=True)
class _Top:
    """What stands before the numbers.

    Attributes
    ----------
    comments : tuple of str
        Lines that begin with #.
    names : tuple of str
        Words of the last line, which may be names of columns.
    is_named : bool
        Whether that is no comment.
    n_lines : int
        Lines to skip.
    separator : str or None
        What parts numbers; None: blanks.
    """

    comments: tuple[str, ...]
    names: tuple[str, ...]
    is_named: bool
    n_lines: int
    separator: str | None


def _read_top(path: Path) -> _Top:
    comments: list[str] = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file):
                if line.startswith("#"):
                    comments.append(line.strip("# \t\r\n"))
                elif line.strip():
                    separator = "," if "," in line else None
                    words = tuple(x.strip().strip('"') for x in line.split(separator))
                    if _is_number(words[0]):
                        last = comments[-1].replace(",", " ") if comments else ""
                        return _Top(tuple(comments), tuple(last.split()), False, number, separator)
                    return _Top(tuple(comments), words, True, number + 1, separator)
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: expected a list of h k l I: {error}") from None
    raise FormatError(f"{path}: expected rows of numbers, found none")


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _load(path: Path, top: _Top) -> FloatArray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # no rows: said below
            table = np.loadtxt(
                path, delimiter=top.separator, skiprows=top.n_lines, ndmin=2, encoding="utf-8-sig"
            )
    except (OSError, ValueError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise FormatError(f"{path}: expected rows of numbers: {reason}") from None
    return table


def _name_columns(path: Path, top: _Top, table: FloatArray) -> dict[str, FloatArray]:
    """Columns by name: those of the line above the numbers, or h k l I sigma count."""
    known = ["h", "k", "l", *ARRAYS]
    names = [_SYNONYMS.get(name.lower(), name.lower()) for name in top.names]
    fits = set(known[:4]) <= set(names) and len(set(names)) == len(names) == table.shape[1]
    if not fits and not top.is_named:  # a comment like any other
        names = known[:_MOST_UNNAMED][: table.shape[1]]
        fits = 4 <= len(names) == table.shape[1]
    if not fits:
        raise FormatError(
            f"{path}: expected columns h k l I, then perhaps sigma and count, found "
            f"{table.shape[1]} columns {' '.join(top.names)}"
        )
    return {name: table[:, n] for n, name in enumerate(names) if name in known}


def _sampling(columns: Mapping[str, FloatArray], given: ArrayLike | None) -> tuple[int, int, int]:
    """Voxels per reciprocal-lattice unit: those given, or the fewest that all indices fit."""
    found = []
    wanted = (None, None, None) if given is None else as_sampling(given)
    for name, n in zip("hkl", wanted, strict=True):
        values = columns[name]
        trials = range(1, _LARGEST_SAMPLING + 1) if n is None else [n]
        fits = [x for x in trials if np.all(np.abs(values - np.rint(values * x) / x) < _OFF_NODE)]
        if not fits:
            expected = f"up to {_LARGEST_SAMPLING}" if n is None else str(n)
            raise InputError(f"{name}: expected multiples of 1/n for n = {expected}, found others")
        found.append(fits[0])
    return found[0], found[1], found[2]


def _nodes(columns: Mapping[str, FloatArray], sampling: tuple[int, int, int]) -> IntArray:
    hkl = np.stack([columns[x] for x in "hkl"], axis=1)
    scaled = hkl * np.array(sampling)
    if not np.all(np.abs(scaled - np.rint(scaled)) < _OFF_NODE * np.array(sampling)):
        raise InputError("h k l: expected multiples of 1/sampling, found others")
    node: IntArray = np.rint(scaled).astype(np.int64)
    return node
