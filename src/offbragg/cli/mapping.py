"""Commands on images and maps: map, merge, stats, compare, import."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from offbragg.cli.console import BarProgress, Outcome
from offbragg.cli.options import Common, Output, generator
from offbragg.cli.scaling import with_scaling
from offbragg.cli.tables import map_summary, shell_tables
from offbragg.errors import InputError
from offbragg.maps.comparison import compare as compare_maps
from offbragg.maps.friedel_split import split_friedel
from offbragg.maps.importers import import_map as read_foreign
from offbragg.maps.io import read_map, write_map
from offbragg.maps.statistics import statistics
from offbragg.maps.symmetrize import merge as merge_maps
from offbragg.reduction.experiment import read_crystal, read_experiments
from offbragg.reduction.growing_geometry import await_image_geometry
from offbragg.reduction.image_reader import read_image_geometry
from offbragg.reduction.options import MapOptions
from offbragg.reduction.reduce import reduce_images


def map_images(
    *expt: Path,
    output: Output,
    options: Annotated[MapOptions, Parameter(name="*")],
    crystal: Path | None = None,
    common: Common | None = None,
) -> Outcome:
    """Average the pixels of rotation images in voxels of reciprocal space.

    Parameters
    ----------
    expt
        DIALS experiment lists, or geometry of XDS: XPARM.XDS, GXPARM.XDS, INTEGRATE.HKL, with the
        XDS.INP beside it. With --crystal, images: an NXmx or Eiger master file, one image, or a
        template with # for the digits.
    output
        Map file to write.
    crystal
        Experiment list or geometry of XDS that has the crystal, where geometry comes from the
        headers of images.
    """
    if not expt:
        raise InputError("map needs at least one .expt file, XPARM.XDS, or images with --crystal")
    if crystal is None:
        experiments = [e for path in expt for e in read_experiments(path, options.images)]
    elif options.images is not None:
        raise InputError("--images is for experiment lists; with --crystal the images are given")
    else:
        source = read_crystal(crystal)
        geometries = [
            read_image_geometry(path)
            if options.follow is None
            else await_image_geometry(path, options.follow)
            for path in expt
        ]
        experiments = [geometry.with_crystal(source) for geometry in geometries]
    rng = generator(options.seed)
    with BarProgress() as progress:
        observed, scaled = reduce_images(experiments, options, rng, progress, output.parent)
    write_map(output, observed)
    return with_scaling(map_summary(observed, output), scaled)


def merge(
    *maps: Path,
    output: Output,
    laue_group: str | None = None,
    friedel: Literal["merged", "apart", "split"] = "merged",
    common: Common | None = None,
) -> Outcome:
    """Average equivalent voxels, of one map or several, and fill the sphere with the means.

    Parameters
    ----------
    maps
        Map files.
    output
        Map file to write.
    laue_group
        Laue group or space group; the map's own if not given.
    friedel
        I(h) and I(-h): averaged (merged), kept apart as different (apart), or their mean and,
        beside it in FILE_difference.h5, their difference I(h) - I(-h) (split).
    """
    if not maps:
        raise InputError("merge needs at least one map file")
    sources = [read_map(path) for path in maps]
    outputs = {"map": output}
    if friedel == "split":
        merged = merge_maps(sources, laue_group, "apart")
        split = split_friedel(merged.map)
        written = split.mean
        outputs["difference"] = output.with_name(f"{output.stem}_difference{output.suffix}")
        write_map(outputs["difference"], split.difference)
    else:
        merged = merge_maps(sources, laue_group, friedel)
        written = merged.map
    write_map(output, written)
    return Outcome(
        {
            "laue_group": written.laue_group,
            "friedel": friedel,
            "statistics": merged.statistics,
        },
        outputs,
        "",
        shell_tables(merged.statistics, f"before merging by {merged.map.laue_group}, overall last"),
    )


def stats(map_file: Path, /, *, n_shells: int = 10, common: Common | None = None) -> Outcome:
    """Tell how well a map agrees with itself, by resolution.

    Parameters
    ----------
    map_file
        Map file.
    n_shells
        Rows of the table.
    """
    if n_shells < 1:
        raise InputError(f"--n-shells must be >= 1, got {n_shells}")
    table = statistics(read_map(map_file), n_shells)
    note = str(table["about"].get("note", ""))
    return Outcome(table, {}, note, shell_tables(table, "overall last"))


def compare(
    a: Path,
    b: Path,
    /,
    *,
    d_max: float | None = None,
    d_min: float | None = None,
    anisotropic: bool = True,
    n_shells: int = 10,
    common: Common | None = None,
) -> Outcome:
    """Compare two maps at the hkl that both have.

    Parameters
    ----------
    a
        Map file.
    b
        Map file.
    d_max
        Low-resolution limit [Å].
    d_min
        High-resolution limit [Å].
    anisotropic
        Take each map's mean in shells of 0.01 Å⁻¹ off first.
    n_shells
        Rows of the table.
    """
    table = compare_maps(read_map(a), read_map(b), d_max, d_min, anisotropic, n_shells)
    names = [f.name for f in dataclasses.fields(table.overall)]
    rows = [dataclasses.astuple(row) for row in (*table.shells, table.overall)]
    return Outcome(dataclasses.asdict(table), {}, "", [("overall last", names, rows)])


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
