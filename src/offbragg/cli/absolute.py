"""The command absolute: a map in electron units."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cyclopts import Parameter

from offbragg.cli.console import BarProgress, Outcome
from offbragg.cli.options import Common, Output
from offbragg.cli.structures import StructureOptions, load_structure
from offbragg.cli.tables import map_summary
from offbragg.maps.absolute import CellContents, absolute_scale, to_absolute
from offbragg.maps.io import read_map, write_map


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AbsoluteOptions:
    """What the integral runs over, and what is in the cell.

    Attributes
    ----------
    wavelength : float or None
        Of the beam [Å], for the recoil of Compton scattering.
    d_max : float or None
        Low-resolution limit of the integral [Å]; the beam must not be inside.
    d_min : float or None
        High-resolution limit of the integral [Å].
    solvent : bool
        Fill the rest of the cell with water.
    compton : bool
        Subtract the Compton scattering.
    """

    wavelength: float | None = None
    d_max: float | None = None
    d_min: float | None = None
    solvent: bool = True
    compton: bool = True


def absolute(
    map_file: Path,
    structure: Path,
    /,
    *,
    output: Output,
    total: Path,
    options: AbsoluteOptions | None = None,
    atoms: StructureOptions | None = None,
    common: Common | None = None,
) -> Outcome:
    """Bring a map to e² per unit cell, by the integral of all that the crystal scatters.

    Parameters
    ----------
    map_file
        Map to scale.
    structure
        PDB or mmCIF file of what is in the cell, hydrogens included.
    output
        Map file to write.
    total
        Map of the same images with Bragg peaks (map --bragg keep), background subtracted.
    """
    choice = options or AbsoluteOptions()
    wavelength = choice.wavelength
    read = load_structure(structure, atoms or StructureOptions())
    contents = CellContents.of(read, solvent=choice.solvent)
    with BarProgress() as progress:
        progress.start("absolute scale", 3)
        scale = absolute_scale(
            read_map(total), contents, wavelength=wavelength, d_max=choice.d_max, d_min=choice.d_min
        )
        progress.step()
        scaled = to_absolute(
            read_map(map_file),
            scale,
            contents,
            wavelength=wavelength,
            subtract_compton=choice.compton,
        )
        progress.step()
        write_map(output, scaled)
        progress.step()
    figures = {
        "scale": scale.scale,
        "scale_error": scale.error,
        "q_min": scale.q_min,
        "q_max": scale.q_max,
        "contents": contents.numbers,
    }
    outcome = map_summary(scaled, output, {"absolute": figures})
    text = (
        f"Scale {scale.scale:.4g} ± {scale.error:.2g} e² per unit of the map, by the total "
        f"scattering from q = {scale.q_min:.2f} to {scale.q_max:.2f} Å⁻¹."
    )
    return Outcome(outcome.result, outcome.outputs, text, outcome.tables)
