"""Maps of known faults for the rules that speak of them."""

import numpy as np
import pytest

from offbragg import DiffuseMap, HklGrid
from offbragg.crystal.symmetry import laue_rotations, rotate_hkl
from offbragg.maps.provenance import make_step
from offbragg.reduction.options import CORRECTIONS, MapOptions
from offbragg.report import MapFacts

MONOCLINIC = (22.0, 26.0, 24.0, 90.0, 98.0, 90.0)


def waves(grid, group):
    """A smooth signal (n_h, n_k, n_l) of mean 0 and about unit variance, with the Laue symmetry."""
    hkl, rotations = grid.hkl(), laue_rotations(group)
    signal = np.zeros(grid.shape)
    for phase in ((0.31, 0.27, 0.41), (0.52, 0.13, 0.22), (0.11, 0.45, 0.35)):
        for rotation in rotations:
            signal += np.cos(2 * np.pi * rotate_hkl(hkl, rotation) @ np.array(phase))
    return signal / signal.std()


def measured_map(
    cell=MONOCLINIC, group="P 1 2 1", true_group=None, *, noise=0.1, d_min=3.0, sampling=(2, 2, 2),
    mask=None, scaled=True, signal=1.0, told_noise=None, **changed,
):  # fmt: skip
    """A map of signal 1, mean 10 and noise, as a reduction would leave it; mask: not measured."""
    grid = HklGrid.from_resolution(cell, d_min, sampling)
    rng = np.random.default_rng(8)
    truth = 10.0 + signal * waves(grid, true_group or group)
    inside = grid.within() & (grid.inv_d() > 0.02)
    if mask is not None:
        inside &= ~mask(grid)
    halves = [truth + np.sqrt(2) * noise * rng.normal(size=grid.shape) for _ in range(2)]
    step = make_step("map", MapOptions(d_min=d_min, sampling=sampling), corrections=CORRECTIONS)
    scale = make_step(
        "scale", {"corrections": ["scale"]},
        figures={"n_observations": 1000, "n_outliers": 1, "inflation": 1.1, "converged": True},
    )  # fmt: skip
    arrays = {
        "sigma": np.full(grid.shape, told_noise or noise),
        "count": np.where(inside, 4, 0),
        "half_1": np.where(inside, halves[0], np.nan),
        "half_2": np.where(inside, halves[1], np.nan),
        "provenance": (step, scale) if scaled else (step,),
    }
    intensity = np.where(inside, (halves[0] + halves[1]) / 2, np.nan)
    return DiffuseMap(grid, intensity, group, **(arrays | changed))


@pytest.fixture(scope="session")
def good():
    """What can be said of a map without a fault."""
    return MapFacts.of(measured_map())


@pytest.fixture
def make_map():
    return measured_map


@pytest.fixture
def make_facts():
    """Facts of a map with faults, the keywords of `measured_map`."""
    return lambda **faults: MapFacts.of(measured_map(**faults))
