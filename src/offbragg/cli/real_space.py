"""Commands on correlations in real space: delta-pdf, covariance, ensemble."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter

from offbragg.cli.console import BarProgress, Outcome
from offbragg.cli.model_options import EnsembleOptions, ModelOptions
from offbragg.cli.models import load_frames, load_model, make_ensemble
from offbragg.cli.options import Common, Output
from offbragg.cli.structures import StructureOptions
from offbragg.conventions import TWO_PI, FloatArray, IntArray
from offbragg.crystal.cell import Cell
from offbragg.crystal.grid import HklGrid
from offbragg.disorder import compare_gaussian, covariance_by_distance
from offbragg.errors import InputError
from offbragg.maps.io import read_map, replace_when_done
from offbragg.maps.patterson import DeltaPdfOptions, compute_delta_pdf
from offbragg.maps.provenance import make_step, plain
from offbragg.maps.real_space_io import write_delta_pdf, writer_for
from offbragg.simulation import lattice_for

logger = logging.getLogger(__name__)

# Edges [Å] at least of the box that frames without a unit cell are put in.
_SMALLEST_BOX = 10.0

Table = Annotated[Path | None, Parameter(name=["--output", "-o"])]


@Parameter(name="*")
@dataclass(frozen=True)
class TransformOptions(DeltaPdfOptions):
    """How a map is made ready for its transform.

    Attributes
    ----------
    d_min : float or None
        High-resolution limit [Å].
    d_max : float or None
        Low-resolution limit [Å].
    extent : tuple of 1 or 3 float or None
        Largest separation in cells, one number or three; half the box of the map's sampling if
        not given.
    """

    subtract_mean: Annotated[bool, Parameter(negative="")] = False
    holes: Literal["zero", "mean", "neighbours"] = "zero"
    friedel: Literal["fill", "measured"] = "fill"
    apodisation: Literal["none", "gaussian", "hann"] = "none"
    extent: tuple[float, ...] | None = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.extent is not None and np.shape(self.extent) == (1,):
            object.__setattr__(self, "extent", float(self.extent[0]))
        super().__post_init__()


def delta_pdf(
    map_file: Path,
    /,
    *,
    output: Output,
    options: TransformOptions | None = None,
    common: Common | None = None,
) -> Outcome:
    """Transform a map to its 3D-ΔPDF, the correlations of density in real space.

    Parameters
    ----------
    map_file
        Map file; of total intensity the result is the Patterson function.
    output
        File to write: .ccp4, .mrc or .map, which ChimeraX, Coot and PyMOL open, .h5 or .npz.
    """
    writer_for(output)
    with BarProgress() as progress:
        progress.start("reading", 1)
        made = compute_delta_pdf(read_map(map_file), options, progress)
        progress.start("writing", 1)
        write_delta_pdf(output, made)
    counts = {k: v for k, v in made.provenance[-1].items() if str(k).startswith("n_")}
    axes = (made.x, made.y, made.z)
    origin = tuple(int(np.argmin(np.abs(axis))) for axis in axes)
    steps = [
        float(np.mean(np.diff(axis)) * edge) if len(axis) > 1 else None
        for axis, edge in zip(axes, made.cell[:3], strict=True)
    ]
    figures = {
        "shape": list(made.values.shape),
        "cell": list(made.cell),
        "step": steps,
        "largest_separation": [float(np.max(np.abs(axis))) for axis in axes],
        "at_origin": float(made.values[origin]),
        "lowest": float(made.values.min()),
        "rms": float(np.sqrt(np.mean(made.values**2))),
        **counts,
    }
    units = {"step": "Å", "largest_separation": "cells", "at_origin": "e²/Å³", "lowest": "e²/Å³"}
    units |= {"cell": "Å, degrees", "rms": "e²/Å³"}
    rows = [
        (name.replace("_", " "), _joined(value), units.get(name, ""))
        for name, value in figures.items()
    ]
    return Outcome(figures, {"delta_pdf": output}, "", [("", ("delta-PDF", "", "unit"), rows)])


def covariance(
    structure: Path,
    /,
    *,
    output: Table = None,
    model: Annotated[ModelOptions, Parameter(name="*")],
    adps: Literal["model", "file"] = "model",
    width: float = 2.0,
    max_distance: float | None = None,
    atoms: StructureOptions | None = None,
    common: Common | None = None,
) -> Outcome:
    """Tell how correlated the atoms of a disorder model are, by their distance.

    Means over pairs of atoms of v = tr V_ij / 3, of the correlation v_ij / √(v_ii v_jj), and of
    the parts of V_ij along the line between the two atoms and across it.

    Parameters
    ----------
    structure
        PDB or mmCIF file.
    output
        File for the table, .csv or .json.
    adps
        Mean-square displacements: the model's alone, or the file's, the rest uncorrelated.
    width
        Of the bins of distance [Å].
    max_distance
        Longest distance [Å]; all pairs if not given.
    """
    _check_table(output)
    atoms_read, motion = load_model(structure, atoms or StructureOptions(), model, adps=adps)
    unit = motion.coherent_unit(atoms_read)
    displacements = motion.with_adps(unit, adps)
    bins: dict[str, Any] = {"width": width}
    if max_distance is not None:
        bins = {"edges": _edges(width, max_distance)}
    with BarProgress() as progress:
        found = covariance_by_distance(displacements, unit.positions, **bins, progress=progress)
    own = np.trace(displacements.u_aniso(unit.n_atoms), axis1=1, axis2=2) / 3.0
    columns: dict[str, FloatArray | IntArray] = {
        "r_min": found.edges[:-1],
        "r_max": found.edges[1:],
        "n_pairs": found.n_pairs,
        "covariance": found.covariance,
        "covariance_std": found.covariance_std,
        "correlation": found.correlation,
        "correlation_std": found.correlation_std,
        "longitudinal": found.longitudinal,
        "transverse": found.transverse,
    }
    about = {
        "model": repr(motion),
        "n_atoms": unit.n_atoms,
        "mean_square_displacement": float(np.mean(own)),
    }
    text = (
        f"{unit.n_atoms} atoms, mean-square displacement {np.mean(own):.4g} Å² per axis on "
        "average; covariances per axis; _std is the spread of the pairs within a bin"
    )
    units = dict.fromkeys(("r_min", "r_max"), "Å")
    for name in ("covariance", "covariance_std", "longitudinal", "transverse"):
        units[name] = "Å²"
    options = {"adps": adps, "width": width, "max_distance": max_distance}
    return _table("covariance", options, about, columns, units, output, text)


def ensemble(
    frames: Path,
    /,
    *,
    output: Table = None,
    d_min: float,
    options: Annotated[EnsembleOptions, Parameter(name="*")] | None = None,
    n_shells: int = 10,
    n_blocks: int = 20,
    atoms: StructureOptions | None = None,
    common: Common | None = None,
) -> Outcome:
    """Test the Gaussian approximation on frames: their own intensity against their covariance's.

    Diffuse intensity of one copy by shells of resolution: the average over the frames as they are
    (Guinier), and that of Gaussian motions of the same covariance, with the sampling error of
    their difference.

    Parameters
    ----------
    frames
        Multi-model PDB or mmCIF file, or a trajectory with its --topology.
    output
        File for the table, .csv or .json.
    d_min
        Resolution limit [Å].
    n_shells
        Shells of equal volume.
    n_blocks
        Blocks of consecutive frames that are left out in turn for the error: so few that a block
        is longer than frames are correlated.
    """
    _check_table(output)
    if not (np.isfinite(d_min) and d_min > 0):
        raise InputError(f"--d-min must be > 0 Å, got {d_min}")
    choice = options or EnsembleOptions()
    structure, positions = load_frames(frames, atoms or StructureOptions(), choice)
    model = make_ensemble(positions, choice)
    cell = structure.cell or _box(model.frames)
    grid = HklGrid.from_resolution(cell, d_min, (1, 1, 1))
    q_max = TWO_PI * float(np.max(grid.inv_d()[grid.within()], initial=0.0))
    if q_max == 0.0:
        raise InputError(f"--d-min must leave a reflection of the cell, got {d_min}")
    lattice = lattice_for(grid, np.eye(3, dtype=np.int64)[None], q_max)
    with BarProgress() as progress:
        found = compare_gaussian(structure, model, lattice, n_shells, n_blocks, progress=progress)
    columns = {
        "d": found.d,
        "guinier": found.guinier,
        "gaussian": found.gaussian,
        "difference": found.difference,
        "standard_error": found.standard_error,
        "relative_difference": found.difference / found.gaussian,
        "cc": found.cc,
    }
    n_frames, n_atoms, _ = model.frames.shape
    about = {
        "n_frames": n_frames,
        "n_atoms": n_atoms,
        "n_blocks": found.n_blocks,
        "cell": list(cell),
    }
    text = (
        f"{n_frames} frames of {n_atoms} atoms; intensities of one copy in e², the difference's "
        f"standard error from {found.n_blocks} blocks left out in turn"
    )
    units = {"d": "Å"} | dict.fromkeys(
        ("guinier", "gaussian", "difference", "standard_error"), "e²"
    )
    settings = {**asdict(choice), "d_min": d_min, "n_shells": n_shells}
    return _table("ensemble", settings, about, columns, units, output, text)


def _edges(width: float, longest: float) -> FloatArray:
    """Edges of bins from 0 to the longest distance; the last bin may be narrower."""
    if not (0 < width < np.inf and 0 < longest < np.inf):
        raise InputError(f"--width and --max-distance must be > 0 Å, got {width} and {longest}")
    inner = np.arange(0.0, longest, width)
    return np.append(inner[inner < longest * (1 - 1e-9)], longest)


def _box(frames: FloatArray) -> Cell:
    """Cell around frames that have none: one copy's intensity does not depend on it."""
    edges = np.maximum(np.ptp(frames, axis=(0, 1)), _SMALLEST_BOX)
    logger.info("no unit cell: hkl of a box of %.4g x %.4g x %.4g Å", *edges)
    a, b, c = (float(x) for x in edges)
    return Cell(a, b, c, 90.0, 90.0, 90.0)


def _check_table(path: Path | None) -> None:
    if path is not None and path.suffix.lower() not in (".csv", ".json"):
        raise InputError(f"{path}: expected a name in .csv or .json, got {path.suffix or 'none'}")


def _table(
    command: str,
    options: Mapping[str, Any],
    about: Mapping[str, Any],
    columns: Mapping[str, FloatArray | IntArray],
    units: Mapping[str, str],
    output: Path | None,
    text: str,
) -> Outcome:
    """Outcome of a command that makes a table; the table is written where a file is named."""
    lists = {name: np.asarray(values).tolist() for name, values in columns.items()}
    result = {**about, "table": lists, "units": dict(units)}
    rows = list(zip(*lists.values(), strict=True))
    if output is not None:
        with replace_when_done(output) as temporary:
            if output.suffix.lower() == ".json":
                whole = {**make_step(command, options), "result": plain(result)}
                content = json.dumps(whole, indent=2, allow_nan=False) + "\n"
            else:
                content = _as_csv(list(lists), rows)
            temporary.write_text(content, encoding="utf-8")
    heads = [f"{name} [{units[name]}]" if name in units else name for name in lists]
    outputs = {} if output is None else {"table": output}
    return Outcome(result, outputs, text, [("", heads, rows)])


def _as_csv(names: list[str], rows: list[tuple[Any, ...]]) -> str:
    lines = [",".join(names)]
    lines += [",".join("" if math.isnan(x) else repr(x) for x in row) for row in rows]
    return "\n".join(lines) + "\n"


def _joined(value: object) -> object:
    if not isinstance(value, list):
        return value
    return " ".join(f"{x:.4g}" if isinstance(x, float) else str(x) for x in value)
