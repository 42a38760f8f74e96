"""Commands on what correlations look like in real space: delta-pdf."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from offbragg.cli.console import Outcome
from offbragg.cli.options import Common, Output
from offbragg.maps.io import read_map
from offbragg.maps.patterson import DeltaPdfOptions, compute_delta_pdf
from offbragg.maps.real_space_io import write_delta_pdf


def delta_pdf(
    map_file: Path,
    /,
    *,
    output: Output,
    options: Annotated[DeltaPdfOptions, Parameter(name="*")] | None = None,
    common: Common | None = None,
) -> Outcome:
    """Transform a map to its 3D-ΔPDF, the correlations of density in real space.

    Parameters
    ----------
    map_file
        Map file.
    output
        File to write: .ccp4, .mrc or .map, which ChimeraX, Coot and PyMOL open, or .npz.
    """
    made = compute_delta_pdf(read_map(map_file), options)
    write_delta_pdf(output, made)
    result = {
        "shape": list(made.values.shape),
        "largest_separation_cells": [float(np.max(np.abs(a))) for a in (made.x, made.y, made.z)],
        "rms": float(np.sqrt(np.mean(made.values**2))),
        "steps": [dict(step) for step in made.provenance[-1:]],
    }
    n_x, n_y, n_z = made.values.shape
    text = f"{output}: {n_x} x {n_y} x {n_z} separations, rms {result['rms']:.4g} e²/Å³"
    return Outcome(result, {"delta_pdf": Path(output)}, text)
