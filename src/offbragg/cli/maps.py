"""Commands on maps: merge, stats, compare."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from offbragg.cli.console import BarProgress, Outcome
from offbragg.cli.options import Common, Output
from offbragg.cli.tables import shell_tables
from offbragg.errors import InputError
from offbragg.maps.comparison import compare as compare_maps
from offbragg.maps.friedel_split import split_friedel
from offbragg.maps.io import read_map, write_map
from offbragg.maps.statistics import statistics
from offbragg.maps.symmetrize import merge as merge_maps


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
    outputs = {"map": output}
    with BarProgress() as progress:
        sources = []
        progress.start("reading", len(maps))
        for path in maps:
            sources.append(read_map(path))
            progress.step()
        apart = "apart" if friedel == "split" else friedel
        merged = merge_maps(sources, laue_group, apart, progress)
        written = merged.map
        progress.start("writing", 1)
        if friedel == "split":
            split = split_friedel(merged.map)
            written = split.mean
            outputs["difference"] = output.with_name(f"{output.stem}_difference{output.suffix}")
            write_map(outputs["difference"], split.difference)
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
    with BarProgress() as progress:
        progress.start("reading", 1)
        table = statistics(read_map(map_file), n_shells, progress)
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
    with BarProgress() as progress:
        progress.start("reading", 2)
        first = read_map(a)
        progress.step()
        second = read_map(b)
        table = compare_maps(first, second, d_max, d_min, anisotropic, n_shells, progress=progress)
    names = [f.name for f in dataclasses.fields(table.overall)]
    rows = [dataclasses.astuple(row) for row in (*table.shells, table.overall)]
    return Outcome(dataclasses.asdict(table), {}, "", [("overall last", names, rows)])
