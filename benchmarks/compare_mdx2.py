"""mdx2 and this package on the same made images: both maps against the truth, and their times.

    python -m benchmarks.compare_mdx2 VENV SCRIPT [--images N] [--degrees D] [--photons P]

``SCRIPT run VENV EXPT H K L THRESHOLD`` goes mdx2's whole way from images to ``map.nxs`` in the
current folder. Times are of command lines, their start included: to the clock, and of processors,
which other work on the machine changes less.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from benchmarks.peak_series import CELL, D_MIN, SAMPLING, Series, make_series, on_grid
from benchmarks.prove_exposed import voxel_means
from benchmarks.results import ROOT, commit, machine
from offbragg import HklGrid, compare
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.io import read_map

OUT = ROOT / "docs" / "results" / "mdx2.json"


@dataclass(frozen=True)
class Timed:
    """Seconds of a run, and how busy the machine was when it began."""

    wall: float
    processor: float
    load: float

    @classmethod
    def run(cls, folder: Path, *commands: list[str]) -> Timed:
        """Run commands one after the other in a folder."""
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        environment["HDF5_PLUGIN_PATH"] = hdf5plugin.PLUGIN_PATH
        if commands[0][0] == sys.executable:
            environment["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
        before, load, start = processor_seconds(), os.getloadavg()[0], time.perf_counter()
        with (folder / "log.txt").open("w") as log:
            for command in commands:
                subprocess.run(
                    command, cwd=folder, env=environment, stdout=log, stderr=log, check=True
                )
        return cls(time.perf_counter() - start, processor_seconds() - before, load)


def processor_seconds() -> float:
    """Of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Expose, run both, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("venv", type=Path)
    parser.add_argument("script", type=Path)
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--degrees", type=float, default=60.0)
    parser.add_argument("--photons", type=float, default=20.0, help="a pixel, Bragg included")
    parser.add_argument("--repeats", type=int, default=1, help="of the timed runs; the best counts")
    parser.add_argument("--folder", type=Path, help="to keep files in; images there are used again")
    arguments = parser.parse_args()
    series = make_series(n_images=arguments.images, degrees=arguments.degrees)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        scale = expose_once(series, folder / "images", arguments.photons)
        # Above what diffuse scattering alone counts.
        brightest = scale * float(np.nanmax(series.diffuse.intensity))
        threshold = int(np.ceil(brightest + 6 * np.sqrt(brightest)))
        programs = command_lines(folder / "images" / "exposed.expt", arguments, threshold)
        runs: dict[str, list[Timed]] = {name: [] for name in programs}
        for name in list(programs) * arguments.repeats:
            here = Path(tempfile.mkdtemp(prefix=f"{name}_", dir=folder))
            runs[name].append(Timed.run(here, *programs[name]))
            result = "map.nxs" if name == "mdx2" else "merged.h5"
            (here / result).replace(folder / f"{name}.h5")
        ours = {name: read_map(folder / f"{name}.h5") for name in programs if name != "mdx2"}
        grid = ours["offbragg"].grid
        maps = {"mdx2": read_mdx2(folder / "mdx2.h5", grid), **ours}
    truth = DiffuseMap(
        grid, scale * voxel_means(series.diffuse, grid), series.structure.space_group
    )
    figures = against_truth(maps, truth)
    for name, timed in runs.items():
        best = min(timed, key=lambda run: run.wall)
        figures[name] |= {
            "wall_s": best.wall,
            "processor_s": best.processor,
            "load": [run.load for run in timed],
        }
    write(figures, arguments, threshold, float(np.nanmean(truth.intensity)))


def expose_once(series: Series, folder: Path, photons: float) -> float:
    """Images in a folder, and their scale: photons a unit of the map."""
    if (folder / "exposed.expt").is_file():
        with h5py.File(folder / "exposed.h5") as file:
            return float(file["entry/process/scale"][()])
    return series.expose(folder, photons).scale


def command_lines(
    expt: Path, arguments: argparse.Namespace, threshold: int
) -> dict[str, list[list[str]]]:
    """From images to a merged map of equal sampling, by each."""
    limits = [str(int(edge / D_MIN)) for edge in CELL[:3]]
    ours = str(Path(sys.executable).with_name("offbragg"))
    mapped = [ours, "map", str(expt), "-o", "map.h5", "--d-min", str(D_MIN), "--sampling"]
    mapped += [str(SAMPLING)] * 3
    merged = [ours, "merge", "map.h5", "-o", "merged.h5"]
    script = ["bash", str(arguments.script.resolve()), "run", str(arguments.venv.resolve())]
    return {
        "mdx2": [[*script, str(expt), *limits, str(threshold)]],
        "offbragg": [mapped, merged],
        "offbragg_sphere": [[*mapped, "--bragg-shape", "sphere"], merged],
        "offbragg_scaled": [[*mapped, "--scaling", "standard"], merged],
    }


def read_mdx2(path: Path, grid: HklGrid) -> DiffuseMap:
    """mdx2's map, on the voxels of a grid of equal sampling."""
    with h5py.File(path) as file:
        group = file["entry/intensity"]
        values = group["signal"][()]
        axes = [group[name][()] for name in "hkl"]
    return on_grid(DiffuseMap(HklGrid(grid.cell, *axes), values), grid)


def against_truth(maps: dict[str, DiffuseMap], truth: DiffuseMap) -> dict[str, dict[str, float]]:
    """How near each map is to the truth at the voxels that all have, Bragg nodes left out."""
    used = np.isfinite(truth.intensity) & truth.grid.within(D_MIN, 15.0) & ~truth.grid.is_node()
    figures: dict[str, dict[str, float]] = {}
    for name, one in maps.items():
        figures[name] = {"voxels": int(np.count_nonzero(np.isfinite(one.intensity) & used))}
    for one in maps.values():
        used &= np.isfinite(one.intensity)
    true = truth.intensity[used].astype(np.float64)
    masked = DiffuseMap(truth.grid, np.where(used, truth.intensity, np.nan), truth.space_group)
    for name, one in maps.items():
        measured = one.intensity[used].astype(np.float64)
        measured *= true.mean() / measured.mean()
        slope = float(np.cov(measured, true)[0, 1] / true.var(ddof=1))
        order = np.argsort(true)
        tenth = len(order) // 10
        weak, strong = (
            float(measured[part].mean() / true[part].mean() - 1)
            for part in (order[:tenth], order[-tenth:])
        )
        shown = DiffuseMap(truth.grid, np.where(used, one.intensity, np.nan), truth.space_group)
        figures[name] |= {
            "voxels_compared": int(used.sum()),
            "cc": float(np.corrcoef(measured, true)[0, 1]),
            "cc_anisotropic": float(compare(shown, masked).overall.cc),
            "slope": slope,
            "relative_rms_error": float(np.sqrt(np.mean((measured - true) ** 2)) / true.mean()),
            "bias_weakest_tenth": weak,
            "bias_strongest_tenth": strong,
        }
    return figures


def write(
    figures: dict[str, dict[str, float]],
    arguments: argparse.Namespace,
    peaks: int,
    diffuse: float,
) -> None:
    """Print, and keep by the number of images."""
    record = json.loads(OUT.read_text()) if OUT.is_file() else {}
    python = arguments.venv / "bin" / "python"
    asked = "import importlib.metadata as m; print(m.version('mdx2'))"
    version = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True)
    record[f"{arguments.images} images of {arguments.photons:g} photons a pixel"] = {
        "images": arguments.images,
        "degrees": arguments.degrees,
        "photons": arguments.photons,
        "diffuse_photons": diffuse,
        "count_threshold": peaks,
        "mdx2_version": version.stdout.strip(),
        "commit": commit(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "figures": figures,
    }
    OUT.write_text(json.dumps(record, indent=1) + "\n")
    for name, values in figures.items():
        print(name, json.dumps(values))


if __name__ == "__main__":
    main()
