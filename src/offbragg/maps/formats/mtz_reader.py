"""Reading MTZ files, by gemmi: those of `offbragg.maps.formats.mtz`, and others with a sampling."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import IntArray
from offbragg.crystal.cell import as_cell, check_cells_agree
from offbragg.crystal.grid import HklGrid, as_sampling
from offbragg.errors import FormatError, InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.formats.header import from_json, from_lines, grid_of
from offbragg.maps.formats.mtz import APPENDED, COLUMNS, is_inside
from offbragg.maps.formats.options import (
    ImportOptions,
    check_is_file,
    choose_space_group,
    import_step,
    logger,
)
from offbragg.maps.formats.voxel_list import VoxelList, as_counts, box_around, place_voxels

_SIGMA_TYPES = "QM"
_LARGEST_INDEX = 2**24  # beyond, float32 has not every whole number


def read_mtz(path: Path, options: ImportOptions) -> DiffuseMap:
    """Read a file of `write_mtz` as it was; of any other, its reflections as voxels.

    In a file of another program the indices are those of ``sampling`` voxels a reciprocal-lattice
    unit, and the crystal's cell is the file's, its edges divided by that. ``key`` names the column
    of intensities; without it that is the first of type J, or I(+) of type K with its I(-). The
    column behind it is σ where its type says so. No equivalents are filled in.

    Raises
    ------
    MissingFileError, FormatError, InputError
        If it is no such file, or is not whole, or a column is not there.
    """
    check_is_file(path)
    try:
        mtz = gemmi.read_mtz_file(str(path))
    except (RuntimeError, OSError, ValueError) as error:
        raise FormatError(f"{path}: expected an MTZ file: {error}") from None
    try:
        header = from_lines(path, _history(mtz))
        return _read_own(path, mtz, header, options) if header else _read_other(path, mtz, options)
    except (FormatError, InputError) as error:
        if str(error).startswith(str(path)):
            raise
        raise FormatError(f"{path}: {error}") from None
    except UnicodeDecodeError:
        raise FormatError(f"{path}: expected text in ASCII or UTF-8, found other bytes") from None


def _history(mtz: gemmi.Mtz) -> list[str]:
    """Lines of history; none where another program's are in another alphabet."""
    try:
        return list(mtz.history)
    except UnicodeDecodeError:
        return []


def _read_own(
    path: Path, mtz: gemmi.Mtz, header: Mapping[str, Any], options: ImportOptions
) -> DiffuseMap:
    # The header's own cell: one given by the caller need not be that of the file.
    grid = grid_of(path, header, ImportOptions())
    n, cell = np.array(grid.sampling), as_cell(mtz.cell)
    check_cells_agree(as_cell([*np.array(cell[:3]) / n, *cell[3:]]), grid.cell, "history")
    if mtz.spacegroup is None or mtz.spacegroup.xhm() != "P 1":
        raise FormatError(f"{path}: space group: expected P 1, found {mtz.spacegroup_name}")
    labels = {column.label for column in mtz.columns}
    ending = "" if "I" in labels else "(+)"
    own = {x: label + ending for x, (label, _, _) in COLUMNS.items() if label + ending in labels}
    if "intensity" not in own:
        raise FormatError(f"{path}: expected a column I or I(+), found {' '.join(sorted(labels))}")
    node = _indices(path, mtz)
    if ending:
        voxels = _both_mates(path, mtz, node, own)
    else:
        voxels = _copied_to_mates(node, {x: _column(path, mtz, y) for x, y in own.items()}, grid)
    more: Any = {}
    if mtz.appended_text.startswith(APPENDED):
        more = from_json(path, "text behind the headers", mtz.appended_text[len(APPENDED) :])
    return DiffuseMap(
        grid=grid_of(path, header, options),
        space_group=options.space_group or str(header.get("space_group")),
        laue_group=header.get("laue_group"),
        statistics=more.get("statistics", {}),
        provenance=(*more.get("provenance", ()), import_step(path, {})),
        **place_voxels(grid, _with_counts(voxels)),
    )


def _read_other(path: Path, mtz: gemmi.Mtz, options: ImportOptions) -> DiffuseMap:
    if mtz.batches:
        raise FormatError(f"{path}: expected merged reflections, found {len(mtz.batches)} batches")
    if options.sampling is None:
        logger.warning("%s: no sampling given, 1 1 1 is used", path)
    sampling = as_sampling(1 if options.sampling is None else options.sampling)
    columns = _find_columns(path, mtz, options.key)
    cell = as_cell(mtz.cell)
    crystal = as_cell([*np.array(cell[:3]) / np.array(sampling), *cell[3:]])
    node = _indices(path, mtz)
    if columns["intensity"].endswith("(+)"):
        voxels = _both_mates(path, mtz, node, columns)
    else:
        voxels = VoxelList(node, {x: _column(path, mtz, y) for x, y in columns.items()})
    chosen = as_cell(crystal if options.cell is None else options.cell)
    grid = box_around(chosen, voxels.node, sampling)
    stored = None if mtz.spacegroup is None else mtz.spacegroup.xhm()
    return DiffuseMap(
        grid=grid,
        space_group=choose_space_group(path, options.space_group, stored),
        provenance=(import_step(path, {"columns": columns, "sampling": list(sampling)}),),
        **place_voxels(grid, voxels),
    )


def _find_columns(path: Path, mtz: gemmi.Mtz, key: str | None) -> dict[str, str]:
    """Labels of the intensities and of their σ, those of mates h where they are apart."""
    labels = [column.label for column in mtz.columns]
    types = [column.type for column in mtz.columns]
    if key is not None:
        chosen = labels.index(key) if key in labels else -1
    else:
        kinds = [x for x in ("J", "K") if x in types]
        chosen = types.index(kinds[0]) if kinds else -1
    if chosen < 0:
        found = " ".join(f"{x}:{t}" for x, t in zip(labels, types, strict=True))
        wanted = f"a column {key}" if key is not None else "a column of intensities (type J or K)"
        raise InputError(f"{path}: expected {wanted}, found {found}")
    columns = {"intensity": labels[chosen]}
    # Pairs come as I(+) SIGI(+) I(-) SIGI(-), or each kind by itself.
    for n in (chosen + 1, chosen + 2):
        if n < len(labels) and types[n] in _SIGMA_TYPES and not labels[n].endswith("(-)"):
            return columns | {"sigma": labels[n]}
    return columns


def _both_mates(
    path: Path, mtz: gemmi.Mtz, node: IntArray, columns: Mapping[str, str]
) -> VoxelList:
    """Rows of I(+) at hkl and of I(-) at −h −k −l, where any of their columns has a number."""
    nodes, parts = [], []
    for sign in (1, -1):
        ends = "(+)" if sign > 0 else "(-)"
        values = {x: _column(path, mtz, y.removesuffix("(+)") + ends) for x, y in columns.items()}
        there = np.any([~np.isnan(v) for v in values.values()], axis=0)
        nodes.append(sign * node[there])
        parts.append({x: v[there] for x, v in values.items()})
    return VoxelList(
        np.concatenate(nodes), {x: np.concatenate([part[x] for part in parts]) for x in columns}
    )


def _copied_to_mates(
    node: IntArray, columns: Mapping[str, NDArray[np.float32]], grid: HklGrid
) -> VoxelList:
    """Each row at hkl and at −h −k −l, where these are in the grid."""
    other = np.any(node != 0, axis=1)
    both = np.concatenate([node, -node[other]])
    inside = is_inside(grid, both)
    return VoxelList(
        both[inside], {x: np.concatenate([v, v[other]])[inside] for x, v in columns.items()}
    )


def _with_counts(voxels: VoxelList) -> VoxelList:
    columns = dict(voxels.columns)
    if "count" in columns:
        columns["count"] = as_counts("column N", columns["count"])
    return VoxelList(voxels.node, columns)


def _indices(path: Path, mtz: gemmi.Mtz) -> IntArray:
    hkl = np.stack([_column(path, mtz, x) for x in "HKL"], axis=1)
    if not np.all(np.abs(hkl) < _LARGEST_INDEX) or np.any(hkl != np.rint(hkl)):
        raise FormatError(f"{path}: H K L: expected whole numbers, found others")
    node: IntArray = hkl.astype(np.int64)
    return node


def _column(path: Path, mtz: gemmi.Mtz, label: str) -> NDArray[np.float32]:
    column = mtz.column_with_label(label)
    if column is None:
        raise FormatError(f"{path}: expected a column {label}, found none")
    return np.array(column.array, dtype=np.float32)
