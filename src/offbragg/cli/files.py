"""Commands between the map file and files of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from offbragg.cli.console import Outcome
from offbragg.cli.options import Common, Output
from offbragg.cli.tables import map_figures, map_summary
from offbragg.maps.export import export_map as write_foreign
from offbragg.maps.export import writer_for
from offbragg.maps.importers import import_map as read_foreign
from offbragg.maps.io import read_map, write_map


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
    """Turn a map of another program, or an exported one, into a map file.

    LUNUS .lat, mdx2 .nxs, NumPy .npz and .npy (eryx), .mtz, exported .ccp4, lists of h k l I.

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
        Name of the array (.npz), group (.nxs) or column (.mtz) of intensities.
    origin
        hkl of the first element, for an array without axes.
    sampling
        Voxels per reciprocal-lattice unit, where the file does not say.
    """
    imported = read_foreign(file, cell, space_group, key, origin, sampling)
    write_map(output, imported)
    return map_summary(imported, output)


def export(
    map_file: Path,
    output: Annotated[Path, Parameter(name="OUTPUT")],
    /,
    *,
    missing: Literal["zero", "mean"] | None = None,
    common: Common | None = None,
) -> Outcome:
    """Write a map for other programs; the ending of the name says how.

    .mtz: gemmi, reciprocalspaceship, CCP4. .ccp4 .mrc .map: ChimeraX, PyMOL, Coot. .vts .vtk:
    ParaView. .npz: NumPy. .hkl .txt .csv: lines of h k l I. docs/files.md tells what each holds.

    Parameters
    ----------
    map_file
        Map file.
    output
        File to write.
    missing
        In place of voxels not measured, in volumes: zero (if not given) or their shell's mean.
    """
    writer_for(output, missing)
    diffuse_map = read_map(map_file)
    write_foreign(diffuse_map, output, missing=missing)
    figures = map_figures(diffuse_map)
    shown = ("shape", "sampling", "space_group", "laue_group", "n_measured", "arrays")
    result = {name: figures[name] for name in shown} | {"bytes": output.stat().st_size}
    rows = [(name.replace("_", " "), str(value)) for name, value in result.items()]
    return Outcome(result, {"export": output}, "", [("", ("map", ""), rows)])
