"""A made crystal on one flat panel, exposed with its Bragg peaks: what other programs read too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from offbragg import HklGrid, LiquidLike, simulate
from offbragg.crystal.cell import Cell
from offbragg.crystal.structure import AtomicStructure
from offbragg.made_crystal import make_peptide
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.reduction.cbf_writer import create_mini_cbf
from offbragg.reduction.experiment import Beam, CrystalModel, Experiment, Goniometer, Panel, Scan
from offbragg.reduction.expose import ExposeOptions, ExposeResult, expose
from offbragg.reduction.images import open_images
from offbragg.reduction.sensor import sensor_absorption

# Edges that differ: the lattice has no more symmetry than the crystal, so that any program's
# indexing is this one, up to the Laue group.
CELL, SPACE_GROUP = (24.0, 29.0, 35.0, 90.0, 90.0, 90.0), "P 21 21 21"
D_MIN = 2.0
SAMPLING, FINER = 3, 3  # of the maps compared; the one exposed is finer
MODEL = LiquidLike(0.35, 6.0)

_WAVELENGTH = 0.9763
_PIXEL_MM, _N_FAST, _N_SLOW = 0.172, 487, 619  # the area of a small pixel detector


@dataclass(frozen=True)
class Series:
    """The exposed map, its diffuse part, and the images made."""

    structure: AtomicStructure
    diffuse: DiffuseMap
    total: DiffuseMap
    experiment: Experiment

    def expose(self, folder: Path, photons: float) -> ExposeResult:
        options = ExposeOptions(photons)
        return expose(self.total, self.experiment, folder, options, np.random.default_rng(0))


def make_series(*, n_images: int, degrees: float, d_min: float = D_MIN) -> Series:
    """A crystal of a peptide, and a sweep of so many images over so many degrees."""
    structure = replace(make_peptide(u=0.1), cell=Cell(*CELL), space_group=SPACE_GROUP)
    # Beyond the edges of the detector; its corners stay empty.
    grids = [
        HklGrid.from_resolution(structure.require_cell(), 0.9 * d_min, (n, n, n))
        for n in (SAMPLING, 1)
    ]
    diffuse = finer(simulate(structure, MODEL, grids[0]))
    bragg = simulate(structure, MODEL, grids[1], part="bragg")
    # Means over whole cells of the lattice there, over voxels here.
    peaks = np.nan_to_num(bragg.intensity) * (SAMPLING * FINER) ** 3
    index, inside = diffuse.grid.index_of(bragg.grid.hkl())
    total = diffuse.intensity.copy()
    np.add.at(total, tuple(np.moveaxis(index[inside], -1, 0)), peaks[inside])
    return Series(
        structure, diffuse, replace(diffuse, intensity=total), flat_experiment(n_images, degrees)
    )


def finer(coarse: DiffuseMap) -> DiffuseMap:
    """The same trilinear field, FINER times as many voxels along each axis."""
    axes, values = [], np.nan_to_num(coarse.intensity).astype(np.float64)
    for axis, nodes in enumerate((coarse.grid.h, coarse.grid.k, coarse.grid.l)):
        steps = np.arange((len(nodes) - 1) * FINER + 1)
        low, part = np.divmod(steps, FINER)
        high = np.minimum(low + 1, len(nodes) - 1)
        weight = (part / FINER).reshape([-1 if n == axis else 1 for n in range(3)])
        values = np.take(values, low, axis) * (1 - weight) + np.take(values, high, axis) * weight
        axes.append((round(nodes[0] * SAMPLING) * FINER + steps) / (SAMPLING * FINER))
    return DiffuseMap(HklGrid(coarse.grid.cell, *axes), values, coarse.space_group)


def flat_experiment(n_images: int, degrees: float, d_min: float = D_MIN) -> Experiment:
    """One panel across the beam that reaches d_min at its nearer edges, with parallax."""
    distance = 0.5 * _N_FAST * _PIXEL_MM / np.tan(2 * np.arcsin(_WAVELENGTH / (2 * d_min)))
    # The beam meets the panel off its middle.
    origin = np.array([-0.51 * _N_FAST * _PIXEL_MM, 0.495 * _N_SLOW * _PIXEL_MM, -distance])
    panel = Panel(
        name="",
        origin=origin,
        fast_axis=np.array([1.0, 0.0, 0.0]),
        slow_axis=np.array([0.0, -1.0, 0.0]),
        pixel_size=(_PIXEL_MM, _PIXEL_MM),
        image_size=(_N_FAST, _N_SLOW),
        thickness=0.45,
        mu=sensor_absorption("Si", _WAVELENGTH),
        parallax=True,
    )
    width = np.radians(degrees / n_images)
    orientation = Rotation.from_euler("zyx", [40.0, 25.0, 60.0], degrees=True).as_matrix()
    return Experiment(
        beam=Beam(_WAVELENGTH, np.array([0.0, 0.0, -1.0]), np.array([0.0, 1.0, 0.0])),
        detector=(panel,),
        goniometer=Goniometer(np.array([1.0, 0.0, 0.0]), np.eye(3), np.eye(3)),
        scan=Scan(
            (1, n_images), width * np.arange(n_images), np.full(n_images, width), np.ones(n_images)
        ),
        crystal=CrystalModel(orientation @ Cell(*CELL).frac_matrix.T, space_group=SPACE_GROUP),
    )


def on_grid(given: DiffuseMap, grid: HklGrid) -> DiffuseMap:
    """The values of a map at the hkl of another grid; NaN where it has none."""
    index, inside = given.grid.index_of(grid.hkl())
    places = tuple(np.moveaxis(np.where(inside[..., None], index, 0), -1, 0))
    found = {
        name: np.where(inside, values[places], np.nan)
        for name in ("intensity", "sigma")
        if (values := getattr(given, name)) is not None
    }
    return DiffuseMap(grid, space_group=given.space_group, **found)


def as_cbf(experiment: Experiment, folder: Path) -> None:
    """The same counts as CBF images, as `expose` writes them."""
    folder.mkdir()
    template = folder / "exposed_#####.cbf"
    with open_images(experiment) as source, create_mini_cbf(template, experiment) as images:
        for index in range(source.n_images):
            images[index] = source.read(index)[0]
