"""CCP4/MRC volumes of reciprocal space, by gemmi.

The volume has the shape of reciprocal space: its cell has the angles of the reciprocal cell and
edges of as many steps as there are voxels, 1 Å of a viewer being 0.01 Å⁻¹ (in 1/d, without 2π), and
hkl = 0 is the origin. With a* along x the viewer's frame is turned against that of coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import FloatArray
from offbragg.crystal.cell import Cell
from offbragg.errors import FormatError, InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.formats.header import describe, from_lines, grid_of, to_lines
from offbragg.maps.formats.options import ImportOptions, check_is_file, import_step
from offbragg.maps.formats.voxel_list import as_float32
from offbragg.maps.shells import isotropic_shells, shell_mean

#: What takes the place of voxels that were not measured.
MISSING = ("zero", "mean")

#: Å of the viewer for 1 Å⁻¹.
SCALE = 100.0

_START_WORDS = (5, 6, 7)  # of the header: node of the first column, row and section
_N_LABELS_WORD, _LABELS_WORD = 56, 57
_N_LABELS, _LABEL = 10, 80


def write_ccp4(path: Path, diffuse_map: DiffuseMap, missing: str = "zero") -> None:
    """Write the intensities; CCP4 has no value for "not measured".

    Parameters
    ----------
    path : Path
    diffuse_map : DiffuseMap
    missing : {"zero", "mean"}
        zero: a zero with a minus sign, which no program tells from 0 but `read_ccp4`, and measured
        zeros without. mean: the mean of the voxel's shell of 0.01 Å⁻¹ in 1/d, so that holes do not
        show; 0 in shells where nothing is measured.

    Raises
    ------
    InputError
        If ``missing`` is neither, or a value does not fit float32.
    """
    if missing not in MISSING:
        raise InputError(f"missing must be one of {', '.join(MISSING)}, got {missing!r}")
    grid = diffuse_map.grid
    values = as_float32("intensity", diffuse_map.intensity) + np.float32(0)  # no −0
    hole = ~np.isfinite(values)
    if np.any(hole):
        values[hole] = -0.0 if missing == "zero" else _shell_means(diffuse_map)[hole]
    a, b, c, *angles = gemmi.UnitCell(*grid.cell).reciprocal().parameters
    n_h, n_k, n_l = grid.sampling
    step = Cell(SCALE * a / n_h, SCALE * b / n_k, SCALE * c / n_l, *angles)
    header = describe(diffuse_map) | {"missing": missing if np.any(hole) else None}
    for name in ("first", "shape"):  # CCP4 has them
        del header[name]
    labels = [
        "Diffuse map of offbragg, axes h k l",
        f"1 A of the viewer = {1 / SCALE:g} 1/A (1/d, without 2 pi), hkl = 0 at the origin",
        *to_lines(header),
    ]
    write_volume(path, values, step, grid.first_index.tolist(), labels)


def write_volume(
    path: Path,
    values: NDArray[np.floating],
    step: Cell,
    first: Sequence[int],
    labels: Sequence[str] = (),
) -> None:
    """Write values (n_x, n_y, n_z) as CCP4/MRC in P 1, float32, the whole box being the cell.

    Parameters
    ----------
    path : Path
    values : ndarray, shape (n_x, n_y, n_z)
    step : Cell
        Edges [Å] of one voxel, and the angles.
    first : 3 int
        Place of the first value, in steps from the origin.
    labels : sequence of str
        At most ten, of at most 80 characters each.
    """
    a, b, c, *angles = step
    n_x, n_y, n_z = values.shape
    ccp4 = gemmi.Ccp4Map()
    ccp4.grid = gemmi.FloatGrid(
        np.asarray(values, dtype=np.float32),
        gemmi.UnitCell(n_x * a, n_y * b, n_z * c, *angles),
        gemmi.SpaceGroup("P 1"),
    )
    ccp4.update_ccp4_header()
    for word, start in zip(_START_WORDS, first, strict=True):
        ccp4.set_header_i32(word, start)
    if labels:
        ccp4.set_header_i32(_N_LABELS_WORD, len(labels))
        padded = "".join(label.ljust(_LABEL) for label in labels)
        ccp4.set_header_str(_LABELS_WORD, padded.ljust(_N_LABELS * _LABEL))
    ccp4.write_ccp4_map(str(path))


def _shell_means(diffuse_map: DiffuseMap) -> FloatArray:
    """Mean of each voxel's shell; 0 where that is empty, or beyond the map's limit."""
    measured, shell = diffuse_map.measured, isotropic_shells(diffuse_map.grid.inv_d())
    values = np.asarray(diffuse_map.intensity[measured], dtype=np.float64)
    means = shell_mean(values, shell[measured], int(shell.max()) + 1)
    return np.where(diffuse_map.grid.within(), np.nan_to_num(means)[shell], 0.0)


def read_ccp4(path: Path, options: ImportOptions) -> DiffuseMap:
    """Read a volume that `write_ccp4` wrote: intensities and grid.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it is another kind of file, or a volume of another program, or was written with
        ``missing="mean"`` in place of voxels that were not measured.
    """
    check_is_file(path)
    try:
        ccp4 = gemmi.read_ccp4_map(str(path), setup=False)
        labels = ccp4.header_str(_LABELS_WORD, _N_LABELS * _LABEL)
    except UnicodeDecodeError:
        raise FormatError(f"{path}: labels: expected ASCII, found other bytes") from None
    except (RuntimeError, OSError, ValueError) as error:
        raise FormatError(f"{path}: expected a CCP4 or MRC volume: {error}") from None
    lines = [labels[n : n + _LABEL] for n in range(0, len(labels), _LABEL)]
    header = from_lines(path, lines)
    if header is None or ccp4.axis_positions() != [0, 1, 2]:
        raise FormatError(
            f"{path}: labels: expected those of a map that this program wrote, found "
            f"{lines[0].strip()[:40]!r}"
        )
    if header.get("missing") == "mean":
        raise FormatError(
            f"{path}: voxels that were not measured hold means (missing = mean): they cannot be "
            "told from measured ones"
        )
    values = np.array(ccp4.grid, dtype=np.float32)
    first = [ccp4.header_i32(word) for word in _START_WORDS]
    grid = grid_of(path, header | {"first": first, "shape": list(values.shape)}, options)
    if header.get("missing") == "zero":
        values[(values == 0) & np.signbit(values)] = np.nan
    return DiffuseMap(
        grid=grid,
        intensity=values,
        space_group=options.space_group or str(header.get("space_group")),
        laue_group=header.get("laue_group"),
        provenance=(import_step(path, {}),),
    )
