"""Exposed images through DIALS: imported, indexed, refined; the map on what it found.

Skipped where DIALS is not installed. NXmx and CBF images hold the same counts; nothing of the
geometry is told to DIALS but what it reads in the files, and the space group.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import hdf5plugin
import numpy as np

from benchmarks.peak_series import CELL, D_MIN, SAMPLING, SPACE_GROUP, as_cbf, make_series, on_grid
from benchmarks.results import Limit, finish, size_asked, skip
from offbragg import MapOptions, compare, compute_map, merge
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.reduction.experiment import read_experiments

PHOTONS = 20.0
FEWEST_SPOTS = 500


def main() -> None:
    """Expose once, take both kinds of files through DIALS."""
    if shutil.which("dials.import") is None:
        skip("DIALS is not installed")
        return
    small = size_asked() == "small"
    series = make_series(n_images=40 if small else 120, degrees=20.0 if small else 60.0)
    limits: list[Limit] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = series.expose(folder / "nxmx", PHOTONS)
        (experiment,) = read_experiments(made.experiments)
        as_cbf(experiment, folder / "cbf")
        expected = reduce(made.experiments)
        images = {"NXmx": ["../nxmx/exposed.h5"], "CBF": ["template=../cbf/exposed_#####.cbf"]}
        for kind, arguments in images.items():
            found = run(kind, arguments, folder / f"dials_{kind}", expected)
            limits += found[0]
            notes += found[1]
    finish(limits, [], cases=notes)  # said as they came


def run(
    kind: str, images: list[str], folder: Path, expected: DiffuseMap
) -> tuple[list[Limit], list[str]]:
    """Import to refinement; how much is indexed, the cell, and the map on refined.expt."""
    folder.mkdir()
    call(folder, "dials.import", *images)
    call(folder, "dials.find_spots", "imported.expt", f"nproc={os.cpu_count()}")
    group = SPACE_GROUP.replace(" ", "")
    call(folder, "dials.index", "imported.expt", "strong.refl", f"space_group={group}")
    call(folder, "dials.refine", "indexed.expt", "indexed.refl")
    rows = re.findall(
        r"^\|\s+0 \|\s+(\d+) \|\s+(\d+) \|\s+[\d.]+% +\|$",
        (folder / "dials.index.log").read_text(),
        re.MULTILINE,
    )
    indexed, others = (int(number) for number in rows[-1])
    refined = read_experiments(folder / "refined.expt")
    cell = refined[0].crystal.cell
    edges = np.array([cell.a, cell.b, cell.c])
    off = float(np.abs(edges / np.array(CELL[:3]) - 1).max())
    found = on_grid(reduce(folder / "refined.expt"), expected.grid)
    both = expected.measured & found.measured
    sigma = 0.5 * (expected.sigma[both] + found.sigma[both])
    difference = (found.intensity[both] - expected.intensity[both]) / sigma
    varying = compare(found, expected).overall.cc
    limits = [
        Limit(f"{kind}: spots found", indexed + others, FEWEST_SPOTS),
        Limit(f"{kind}: part of the spots that is indexed", indexed / (indexed + others), 0.98),
        Limit(f"{kind}: largest error of an edge of the cell", off, at_most=0.001),
        Limit(f"{kind}: CC of the maps, anisotropic part", varying, 0.995),
        Limit(f"{kind}: rms difference of the maps / sigma", rms(difference), at_most=0.3),
    ]
    distance = abs(float(refined[0].detector[0].origin @ refined[0].detector[0].normal))
    notes = [
        f"{kind}: cell {edges.round(4).tolist()} Å, truth {list(CELL[:3])}; distance "
        f"{distance:.3f} mm; {both.sum()} voxels of {expected.measured.sum()}"
    ]
    sys.stdout.write("".join(f"  {line}\n" for line in notes))
    return limits, notes


def reduce(expt: Path) -> DiffuseMap:
    """The merged map of an experiment list, between Bragg peaks."""
    options = MapOptions(d_min=D_MIN, sampling=(SAMPLING,) * 3)
    return merge(compute_map(read_experiments(expt), options)).map


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))


def call(folder: Path, *command: str) -> None:
    """Run a program of DIALS; what it says if it fails."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    # The filters that our files are compressed with, for programs without any of their own.
    environment["HDF5_PLUGIN_PATH"] = hdf5plugin.PLUGIN_PATH
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.stdout.write(done.stdout[-2000:] + done.stderr[-2000:])
        raise SystemExit(f"{command[0]} failed with exit code {done.returncode}")


if __name__ == "__main__":
    main()
