"""The command scale: unmerged observations to a map, by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from offbragg.cli.console import BarProgress, Outcome
from offbragg.cli.options import Common, Output
from offbragg.cli.tables import map_summary, with_scaling
from offbragg.maps.io import write_map
from offbragg.reduction.observations_file import read_observations
from offbragg.reduction.same_indexing import index_alike
from offbragg.reduction.scaled_map import scale_to_map
from offbragg.reduction.standard_scaling import ScalingOptions


def scale(
    observations: Path,
    /,
    *,
    output: Output,
    options: Annotated[ScalingOptions | None, Parameter(name="*")] = None,
    common: Common | None = None,
) -> Outcome:
    """Scale unmerged observations so that equivalents agree, and average them in voxels.

    Parameters
    ----------
    observations
        File that map --scaling standard --observations FILE has kept.
    output
        Map file to write.
    """
    with BarProgress() as progress:
        alike, _ = index_alike(read_observations(observations))
        scaled = scale_to_map(alike, options, progress)
    write_map(output, scaled.map)
    return with_scaling(map_summary(scaled.map, output), scaled)
