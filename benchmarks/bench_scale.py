"""Ten million observations of several sweeps, scaled and averaged: time and memory."""

from __future__ import annotations

import numpy as np

from benchmarks.measure import measured, run_cases
from benchmarks.results import Limit, finish, size_asked
from offbragg import HklGrid
from offbragg.reduction.observations import COLUMNS, OFFSETS, Observations, Wedges
from offbragg.reduction.scaled_map import scale_to_map
from offbragg.reduction.standard_scaling import ScalingOptions

CELL, SPACE_GROUP = (78.86, 78.86, 36.80, 90.0, 90.0, 90.0), "P 43 21 2"
TURN, WEDGE = 180.0, 1.0
PHOTONS = 200.0  # an observation
MOST_SECONDS = 120.0
# Observations, sweeps, resolution [Å], and how many of them the corrections are fitted to.
SIZES = {"full": (10_000_000, 4, 1.6, 300_000), "small": (15_000, 1, 6.0, 5_000)}


def make_observations(
    n: int, n_sweeps: int, d_min: float, rng: np.random.Generator
) -> Observations:
    """Observations of drifting sweeps, where a rotation about x would put them, by the wedge."""
    grid = HklGrid.from_resolution(CELL, d_min, (2, 2, 2))
    each = round(TURN / WEDGE)
    sweep = np.repeat(np.arange(n_sweeps), each)
    image = np.tile(np.arange(each), n_sweeps)
    angle = WEDGE * (image + 0.5)
    half = rng.permutation(np.arange(each * n_sweeps) % 2)
    wedges = Wedges(sweep, angle, half, image, image, np.ones(len(angle)))
    inv_d = grid.inv_d().ravel()
    inside = np.flatnonzero(grid.within().ravel())
    # Three wedges a passage, as voxels of this size have.
    per_passage = 3
    n_passages = n // per_passage
    voxel = np.repeat(rng.choice(inside, n_passages), per_passage)
    begin = rng.integers(0, each - per_passage, n_passages)
    begin += each * rng.integers(0, n_sweeps, n_passages)
    wedge = (begin[:, None] + np.arange(per_passage)).ravel()
    order = np.argsort(wedge, kind="stable")
    voxel, wedge = voxel[order], wedge[order]
    around = np.repeat(rng.uniform(0, 2 * np.pi, n_passages), per_passage)[order]
    x, y = inv_d[voxel] * np.cos(around), inv_d[voxel] * np.sin(around)
    turned = np.radians(angle[wedge])
    factor = (1 + 0.25 * np.sin(2 * turned + sweep[wedge])) * np.exp(-0.4 * x * np.cos(turned))
    truth = np.exp(-2 * inv_d[voxel]) * (1 + 0.3 * np.cos(40 * inv_d[voxel]))
    photons = rng.poisson(PHOTONS * factor * truth)
    made = {
        "voxel": voxel, "wedge": wedge, "count": np.full(len(voxel), 4),
        "weight": np.full(len(voxel), 4.0), "intensity": photons / PHOTONS,
        "variance": photons / PHOTONS**2, "one_photon": np.full(len(voxel), 1 / PHOTONS**2),
        "per_intensity": np.full(len(voxel), 1 / PHOTONS), "own_variance": np.zeros(len(voxel)),
        "x": x, "y": y, **dict.fromkeys(("chip", *OFFSETS), np.zeros(len(voxel))),
    }  # fmt: skip
    columns = {name: np.asarray(values).astype(COLUMNS[name]) for name, values in made.items()}
    return Observations(grid, SPACE_GROUP, wedges, columns)


def run(case: str) -> dict[str, float]:
    """Make observations, scale them, and say what that took."""
    n, n_sweeps, d_min, most = SIZES[case]
    observations = make_observations(n, n_sweeps, d_min, np.random.default_rng(0))
    options = ScalingOptions(most_observations=most)
    done = measured(lambda: scale_to_map(observations, options))
    figures = done.result.figures
    return {
        "n": float(figures["n_observations"]), "seconds": done.seconds,
        "memory_mib": done.memory_mib, "inflation": figures["inflation"],
        "r_before": figures["r_meas_before"], "r_after": figures["r_meas_after"],
    }  # fmt: skip


def main() -> None:
    """Ten million; reduced, a few thousand of one sweep."""
    size = size_asked()
    (found,) = run_cases("benchmarks.bench_scale", [size], run, size).values()
    # Of 10⁷ observations; sixty bytes each are the observations themselves.
    limits = [] if size == "small" else [Limit("seconds", found["seconds"], at_most=MOST_SECONDS)]
    # What was planted is undone to within counting statistics.
    limits.append(Limit("error model's inflation", found["inflation"], 0.95, 1.05))
    notes = [
        f"{found['n']:.3g} observations of {SIZES[size][1]} sweeps: {found['seconds']:.1f} s, "
        f"{found['memory_mib'] / 1024:.2f} GiB on top of the observations; R_meas "
        f"{found['r_before']:.3f} to {found['r_after']:.3f}"
    ]
    finish(limits, notes, **found)


if __name__ == "__main__":
    main()
