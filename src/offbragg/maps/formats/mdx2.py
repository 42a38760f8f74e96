"""Files of mdx2 (.nxs): maps on a grid, and tables of merged voxels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from offbragg.crystal.cell import Cell
from offbragg.crystal.grid import HklGrid
from offbragg.errors import FormatError, InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.formats.numpy_archive import as_floats
from offbragg.maps.formats.options import (
    ImportOptions,
    choose_space_group,
    import_step,
    require_cell,
)
from offbragg.maps.formats.voxel_list import ARRAYS, VoxelList, as_counts, box_around, place_voxels
from offbragg.maps.map_file import MapFileReader, reading

_CELL_HINT = " (mdx2 keeps it in entry/crystal of its geometry.nxs)"
_TABLE = "entry/hkl_table"


def read_mdx2(path: Path, options: ImportOptions) -> DiffuseMap:
    """Read the map that ``mdx2.map`` writes, or the table that ``mdx2.merge`` writes.

    Such files have no cell, which must be given, unless ``entry/crystal`` is there. ``key`` names
    the group of a map (``intensity``), or the table's column of intensities. A table has each
    set of equivalents once: `offbragg.merge` fills in the others.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it is no such file, or is damaged.
    InputError
        If a cell is needed and not given.
    """
    stored_cell = stored_group = None
    with reading(path) as reader:
        if "offbragg_format_version" in reader.file.attrs:
            raise FormatError(f"{path}: expected a map of mdx2, found a map file of this program")
        reader.item("entry", h5py.Group)
        if "crystal" in reader.file["entry"]:
            stored_cell = reader.numbers("entry/crystal/unit_cell", 1)
            stored_group = reader.read_text("entry/crystal/space_group", required=False) or None
        is_table = "hkl_table" in reader.file["entry"]
        arrays = (_table if is_table else _grid_data)(reader, options.key)
    cell = require_cell(path, options.cell, stored_cell, _CELL_HINT)
    space_group = choose_space_group(path, options.space_group, stored_group)
    step = import_step(path, {"key": options.key, "cell": list(cell)})
    try:
        grid, values = (_place_table if is_table else _place_grid)(arrays, cell)
        return DiffuseMap(grid=grid, space_group=space_group, provenance=(step,), **values)
    except InputError as error:
        raise FormatError(f"{path}: {error}") from None


def _grid_data(reader: MapFileReader, key: str | None) -> dict[str, Any]:
    """Axes and intensities of a group that has axes h, k, l: the one named, or the first."""
    entry = reader.file["entry"]
    found = [name for name in ("intensity", *entry) if _has_axes(entry.get(name))]
    name = f"entry/{key or (found[0] if found else 'intensity')}"
    reader.item(name, h5py.Group)
    arrays = {x: reader.numbers(f"{name}/{x}", 1) for x in "hkl"}
    return arrays | {"intensity": _floats(reader, f"{name}/signal", 3)}


def _has_axes(group: Any) -> bool:
    return isinstance(group, h5py.Group) and all(x in group for x in (*"hkl", "signal"))


def _table(reader: MapFileReader, key: str | None) -> dict[str, Any]:
    """Columns of a table."""
    arrays = {x: reader.numbers(f"{_TABLE}/{x}", 1) for x in ("ndiv", "h", "k", "l")}
    arrays["intensity"] = _floats(reader, f"{_TABLE}/{key or 'intensity'}", 1)
    group = reader.file[_TABLE]
    if "intensity_error" in group:
        arrays["sigma"] = _floats(reader, f"{_TABLE}/intensity_error", 1)
    if "count" in group:
        arrays["count"] = as_counts("count", reader.numbers(f"{_TABLE}/count", 1))
    if len({len(x) for name, x in arrays.items() if name != "ndiv"}) != 1:
        raise reader.error(_TABLE, "expected columns of one length, found several")
    return arrays


def _floats(reader: MapFileReader, name: str, n_dimensions: int) -> Any:
    reader.numbers(name, n_dimensions)
    return as_floats(reader.item(name, h5py.Dataset)[()])


def _place_grid(arrays: dict[str, Any], cell: Cell) -> tuple[HklGrid, dict[str, Any]]:
    return HklGrid(cell, arrays["h"], arrays["k"], arrays["l"]), {"intensity": arrays["intensity"]}


def _place_table(arrays: dict[str, Any], cell: Cell) -> tuple[HklGrid, dict[str, Any]]:
    n_div = arrays["ndiv"]
    if n_div.shape != (3,) or np.any(n_div != np.rint(n_div)) or np.any(n_div < 1):
        raise InputError(f"{_TABLE}/ndiv: expected three whole numbers >= 1, found {n_div}")
    n_h, n_k, n_l = (int(x) for x in n_div)
    node = np.rint(np.stack([arrays[x] for x in "hkl"], axis=1) * n_div).astype(np.int64)
    grid = box_around(cell, node, (n_h, n_k, n_l))
    columns = {x: arrays[x] for x in ARRAYS if x in arrays}
    return grid, place_voxels(grid, VoxelList(node, columns))
