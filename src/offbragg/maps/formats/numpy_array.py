"""Single NumPy arrays (.npy), such as eryx saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offbragg.crystal.cell import Cell
from offbragg.crystal.grid import HklGrid
from offbragg.errors import FormatError, InputError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.formats.numpy_archive import DAMAGE, as_floats, grid_from_origin
from offbragg.maps.formats.options import (
    ImportOptions,
    check_is_file,
    choose_space_group,
    import_step,
    require_cell,
)


def read_npy(path: Path, options: ImportOptions) -> DiffuseMap:
    """Read intensities of axes h, k, l; ``cell`` and ``origin``, the hkl of [0, 0, 0], are needed.

    For eryx's ``hsampling = (low, high, n)`` and so on, the origin is the three ``low`` and the
    sampling the three ``n``. Flattened arrays (l fastest), which eryx's models return, are taken
    where they fit a grid from the origin to minus the origin.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it is no such array.
    InputError
        If a cell or origin is not given, or a flattened array does not fit it.
    """
    check_is_file(path)
    values = _load(path)
    cell = require_cell(path, options.cell, None)
    if options.origin is None:
        raise InputError(f"{path}: expected origin (the hkl of its first element), got none")
    if values.ndim == 1:
        values = values.reshape(_centred_shape(path, values.size, cell, options))
    grid = grid_from_origin(path, values.shape, cell, options)
    return DiffuseMap(
        grid=grid,
        intensity=as_floats(values),
        space_group=choose_space_group(path, options.space_group, None),
        provenance=(
            import_step(path, {"origin": options.origin, "sampling": list(grid.sampling)}),
        ),
    )


def _load(path: Path) -> NDArray[Any]:
    try:
        with path.open("rb") as file:
            values = np.lib.format.read_array(file, allow_pickle=False)
    except DAMAGE as error:
        reason = (str(error).splitlines() or ["not readable"])[0]
        raise FormatError(f"{path}: expected a NumPy array of numbers: {reason}") from None
    if values.ndim not in (1, 3) or values.size == 0 or values.dtype.kind not in "iuf":
        raise FormatError(
            f"{path}: expected real numbers in three dimensions, or one, found {values.dtype} of "
            f"shape {values.shape}"
        )
    return np.asarray(values)


def _centred_shape(
    path: Path, size: int, cell: Cell, options: ImportOptions
) -> tuple[int, int, int]:
    """Numbers of voxels from the origin to minus the origin."""
    corner: HklGrid = grid_from_origin(path, (1, 1, 1), cell, options)
    n_h, n_k, n_l = (int(n) for n in 1 - 2 * corner.first_index)
    if min(n_h, n_k, n_l) < 1 or n_h * n_k * n_l != size:
        raise InputError(
            f"{path}: expected {n_h} x {n_k} x {n_l} values, from the origin to minus the origin, "
            f"or an array of three dimensions, found {size} in one"
        )
    return n_h, n_k, n_l
