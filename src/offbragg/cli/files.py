"""Commands between the map file and files of other programs."""

from __future__ import annotations

from pathlib import Path

from offbragg.cli.console import Outcome
from offbragg.cli.options import Common, Output
from offbragg.cli.tables import map_summary
from offbragg.maps.importers import import_map as read_foreign
from offbragg.maps.io import write_map


def import_map(
    file: Path,
    /,
    *,
    output: Output,
    cell: tuple[float, float, float, float, float, float] | None = None,
    space_group: str | None = None,
    key: str | None = None,
    origin: tuple[float, float, float] | None = None,
    sampling: tuple[int, int, int] | None = None,
    common: Common | None = None,
) -> Outcome:
    """Turn a map of another program into a map file: LUNUS .lat, NumPy .npz.

    Parameters
    ----------
    file
        File of the other program.
    output
        Map file to write.
    cell
        Unit cell a b c alpha beta gamma, where the file has none.
    space_group
        Space group, where the file has none.
    key
        Name of the array in an .npz file.
    origin
        hkl of the first element, for an .npz file without axes.
    sampling
        Voxels per reciprocal-lattice unit, for an .npz file without axes.
    """
    imported = read_foreign(file, cell, space_group, key, origin, sampling)
    write_map(output, imported)
    return map_summary(imported, output)
