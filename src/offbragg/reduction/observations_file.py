"""Observations on disk: HDF5, a dataset a column, written wedge by wedge as they come."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from offbragg.crystal.cell import as_cell
from offbragg.crystal.grid import HklGrid
from offbragg.errors import FormatError, MissingFileError
from offbragg.maps.io import replace_when_done
from offbragg.maps.provenance import plain
from offbragg.reduction.observations import COLUMNS, Observations, Wedges

FORMAT = "offbragg observations 3"
_CHUNK = 1 << 16
_WEDGE_COLUMNS = ("sweep", "angle", "half", "first_image", "last_image", "turn")

Append = Callable[[Mapping[str, NDArray[Any]]], None]


@contextmanager
def create_observations(
    path: str | Path,
    grid: HklGrid,
    space_group: str,
    wedges: Wedges,
    provenance: Callable[[], Sequence[Mapping[str, Any]]] = tuple,
) -> Iterator[Append]:
    """Create a file and give a function that appends columns to it, as `take_observations` makes.

    Memory does not grow with what is appended. The file appears when the block ends without an
    error; only then is ``provenance`` asked what was done.
    """
    with replace_when_done(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["space_group"] = space_group
        file.attrs["unit_cell"] = list(grid.cell)
        file.attrs["sampling"] = grid.sampling
        if grid.d_min is not None:
            file.attrs["d_min"] = grid.d_min
        for name in ("h", "k", "l"):
            file[f"grid/{name}"] = getattr(grid, name)
        for name in _WEDGE_COLUMNS:
            file[f"wedges/{name}"] = getattr(wedges, name)
        columns = {
            name: file.create_dataset(
                f"observations/{name}", (0,), dtype, maxshape=(None,), chunks=(_CHUNK,)
            )
            for name, dtype in COLUMNS.items()
        }

        def append(found: Mapping[str, NDArray[Any]]) -> None:
            for name, dataset in columns.items():
                n = len(dataset)
                dataset.resize((n + len(found[name]),))
                dataset[n:] = found[name]

        yield append
        file.attrs["provenance"] = json.dumps(plain(list(provenance())))


def read_observations(path: str | Path) -> Observations:
    """Read a file of observations.

    Raises
    ------
    MissingFileError
        If there is no such file.
    FormatError
        If it is none, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            found = str(file.attrs.get("format", "another kind of file"))
            if found != FORMAT:
                raise FormatError(f"{path}: expected {FORMAT!r}, found {found!r}")
            d_min = file.attrs.get("d_min")
            h, k, l = (file[f"grid/{name}"][()] for name in ("h", "k", "l"))  # noqa: E741
            n_h, n_k, n_l = (int(n) for n in file.attrs["sampling"])
            limit = None if d_min is None else float(d_min)
            grid = HklGrid(as_cell(file.attrs["unit_cell"]), h, k, l, (n_h, n_k, n_l), limit)
            wedges = Wedges(*(file[f"wedges/{name}"][()] for name in _WEDGE_COLUMNS))
            columns = {name: file[f"observations/{name}"][()] for name in COLUMNS}
            group = str(file.attrs["space_group"])
            provenance = tuple(json.loads(str(file.attrs["provenance"])))
    except FormatError:
        raise
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise FormatError(f"{path}: expected a file of observations, {error}") from None
    lengths = {len(column) for column in columns.values()}
    if len(lengths) != 1 or np.any(columns["voxel"] >= grid.size):
        raise FormatError(f"{path}: expected columns of one length with voxels of its grid")
    return Observations(grid, group, wedges, columns, provenance)
