"""Commands that draw figures: plot sections, profile, shells, model, correlations, halos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from offbragg.cli.console import BarProgress, Outcome
from offbragg.cli.figure_options import FigureOptions, PlaneOptions
from offbragg.cli.options import Common, Output
from offbragg.cli.result_files import (
    distance_table,
    fit_tables,
    read_json,
    residues_in,
    residues_of_matrix,
)
from offbragg.cli.structures import StructureOptions, load_structure
from offbragg.errors import InputError
from offbragg.maps.comparison import compare
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.io import read_map
from offbragg.maps.node_halos import node_halos
from offbragg.maps.radial import radial_profile
from offbragg.maps.statistics import statistics
from offbragg.plotting import (
    comparison_columns,
    draw_agreement,
    draw_distance_correlations,
    draw_halos,
    draw_model,
    draw_profiles,
    draw_residue_correlations,
    draw_sections,
    draw_self_agreement,
)
from offbragg.plotting.canvas import check_suffix
from offbragg.plotting.units import common_unit, intensity_unit

plot = App(name="plot", help="Draw maps, models and statistics, ready for journals.")


def _read(files: Sequence[Path], figure: FigureOptions, output: Path) -> dict[str, DiffuseMap]:
    """Maps by their names in the figure, after what can be told without reading them."""
    check_suffix(output)
    names = figure.names(files)
    if not files:
        raise InputError("plot needs at least one map file")
    return {name: read_map(path) for name, path in zip(names, files, strict=True)}


@plot.command
def sections(
    *maps: Path,
    output: Output,
    options: PlaneOptions | None = None,
    figure: FigureOptions | None = None,
    common: Common | None = None,
) -> Outcome:
    """Draw the same plane of maps side by side, in true angle and length.

    Parameters
    ----------
    maps
        Map files.
    output
        Figure to write: .pdf, .png or .svg.
    """
    chosen, look = options or PlaneOptions(), figure or FigureOptions()
    read = _read(maps, look, output)
    chosen.check_level(read)
    with BarProgress() as progress:
        return look.draw(
            output,
            lambda width: draw_sections(read, chosen, width=width, progress=progress),
            min(len(read), 2),
        )


@plot.command
def profile(
    *maps: Path,
    output: Output,
    sigma: bool = True,
    variation: Annotated[bool, Parameter(negative="")] = False,
    log: Annotated[bool, Parameter(negative="")] = False,
    figure: FigureOptions | None = None,
    common: Common | None = None,
) -> Outcome:
    """Draw the mean intensity of maps by resolution.

    Parameters
    ----------
    maps
        Map files.
    output
        Figure to write: .pdf, .png or .svg.
    sigma
        Draw the standard error of a voxel as a band, where a map has it.
    variation
        Draw the root mean square of the anisotropic part too.
    log
        Logarithmic intensities.
    """
    look = figure or FigureOptions()
    read = _read(maps, look, output)
    with BarProgress() as progress:
        return look.draw(
            output,
            lambda width: draw_profiles(
                read, sigma=sigma, variation=variation, log=log, width=width, progress=progress
            ),
        )


@plot.command
def shells(
    file: Path,
    other: Path | None = None,
    /,
    *,
    output: Output,
    n_shells: int = 10,
    figure: FigureOptions | None = None,
    common: Common | None = None,
) -> Outcome:
    """Draw correlations by shell of resolution.

    Of a map CC½; with another map that too, and the CC between the two; of the parameters.json of
    a fit CC and R of working and held-out voxels.

    Parameters
    ----------
    file
        Map file, or parameters.json of a fit.
    other
        Another map.
    output
        Figure to write: .pdf, .png or .svg.
    n_shells
        Shells of equal volume; a merged map has its own.
    """
    look = figure or FigureOptions()
    if n_shells < 1:
        raise InputError(f"--n-shells must be >= 1, got {n_shells}")
    if file.suffix.lower() == ".json":
        if other is not None:
            raise InputError(f"{file}: a fit stands alone, got {other} beside it")
        check_suffix(output)
        tables = fit_tables(file)
        return look.draw(output, lambda width: draw_agreement(tables, width=width), 2)
    files = [file] if other is None else [file, other]
    read = _read(files, look, output)
    with BarProgress() as progress:
        progress.start("statistics", len(files) + 2 * (other is not None))
        tables, between = {}, {}
        for name, diffuse_map in read.items():
            tables[name] = statistics(diffuse_map, n_shells)["shells"]
            progress.step()
        if other is not None:
            found = []
            for part in (False, True):
                first, second = read.values()
                found.append(compare(first, second, anisotropic=part, n_shells=n_shells))
                progress.step()
            between[" and ".join(read)] = comparison_columns(*found)
    return look.draw(
        output, lambda width: draw_self_agreement(tables, between=between, width=width)
    )


@plot.command
def model(
    map_file: Path,
    model_map: Path,
    /,
    *,
    output: Output,
    options: PlaneOptions | None = None,
    n_shells: int = 10,
    figure: FigureOptions | None = None,
    common: Common | None = None,
) -> Outcome:
    """Draw a map, a model of it and their difference, and CC and R by shell of resolution.

    Parameters
    ----------
    map_file
        Measured map.
    model_map
        Model of it, such as the model.h5 of a fit, brought to its scale.
    output
        Figure to write: .pdf, .png or .svg.
    n_shells
        Shells of equal volume.
    """
    chosen, look = options or PlaneOptions(), figure or FigureOptions()
    read = _read([map_file, model_map], look, output)
    chosen.check_level(read)
    observed, computed = read.values()
    with BarProgress() as progress:
        return look.draw(
            output,
            lambda width: draw_model(
                observed,
                computed,
                chosen,
                n_shells=n_shells,
                titles=look.titles or None,
                width=width,
                progress=progress,
            ),
            2,
        )


@plot.command
def correlations(
    file: Path,
    /,
    *,
    output: Output,
    structure: Path | None = None,
    atoms: StructureOptions | None = None,
    figure: FigureOptions | None = None,
    common: Common | None = None,
) -> Outcome:
    """Draw how residues move together, or the correlation of atoms by their distance.

    Parameters
    ----------
    file
        inferred.json of infer, parameters.json of fit, table of covariance in .json, or a
        covariance of atoms in .npy.
    output
        Figure to write: .pdf, .png or .svg.
    structure
        PDB or mmCIF file of the atoms of a covariance in .npy.
    """
    look = figure or FigureOptions()
    check_suffix(output)
    if file.suffix.lower() == ".npy":
        read = None if structure is None else load_structure(structure, atoms or StructureOptions())
        found = residues_of_matrix(file, read)
        return look.draw(output, lambda width: draw_residue_correlations(found, width=width))
    if structure is not None:
        raise InputError(f"--structure is for a covariance in .npy, got {file}")
    whole = read_json(file)
    table = distance_table(whole)
    if table is not None:
        (name,) = look.names([file])
        return look.draw(
            output, lambda width: draw_distance_correlations({name: table}, width=width)
        )
    found = residues_in(file, whole)
    return look.draw(output, lambda width: draw_residue_correlations(found, width=width))


@plot.command
def halos(
    *maps: Path,
    output: Output,
    anisotropic: bool = False,
    d_max: float | None = None,
    d_min: float | None = None,
    n_shells: int = 3,
    bin_width: float | None = None,
    figure: FigureOptions | None = None,
    common: Common | None = None,
) -> Outcome:
    """Draw the mean intensity around Bragg nodes against the distance from the nearest.

    Parameters
    ----------
    maps
        Map files.
    output
        Figure to write: .pdf, .png or .svg.
    anisotropic
        Take the mean in shells of 0.01 Å⁻¹ off first.
    d_max
        Low-resolution limit [Å].
    d_min
        High-resolution limit [Å].
    n_shells
        Shells of equal volume, a line each.
    bin_width
        Of bins of distance [Å⁻¹, with 2π]; each distance that the sampling gives is a point if not
        given.
    """
    look = figure or FigureOptions()
    read = _read(maps, look, output)
    found = {}
    with BarProgress() as progress:
        for name, diffuse_map in read.items():
            means = radial_profile(diffuse_map, progress=progress) if anisotropic else None
            found[name] = node_halos(
                diffuse_map, d_max, d_min, n_shells, width=bin_width, profile=means,
                progress=progress,
            )  # fmt: skip
    unit = common_unit(map(intensity_unit, read.values()))
    return look.draw(
        output, lambda width: draw_halos(found, unit, anisotropic=anisotropic, width=width)
    )
