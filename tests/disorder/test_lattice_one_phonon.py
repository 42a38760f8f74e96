"""One-phonon scattering of a crystal: chains by hand, first order of the supercell, symmetry."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.oracles import form_factors, q_of
from tests.supercell import (
    CUTOFF,
    SETTINGS,
    Supercell,
    by_level,
    chain,
    model_of,
    structure_of,
)

from offbragg import HklGrid, simulate
from offbragg.disorder.lattice_vibrations import LatticeVibrations
from offbragg.errors import InputError
from offbragg.scattering.engine import Engine
from offbragg.scattering.lattice import HalfLattice

RTOL_INTENSITY = 1e-5  # transforms of the rigid level are good to 1e-8 of F(0)


# --- 1 reference numbers -------------------------------------------------


def test_one_phonon_of_a_chain_by_hand():
    # I = f² e^{−q²V_0} q²/(2 − 2 cos 2πh) at whatever h.
    structure, model = chain(4, order=1)
    structure = replace(structure, occupancies=np.array([2.0]))
    lattice = HalfLattice(structure.cell, (7, 1, 1), (20, 0, 0), 10.0)
    found = model.diffuse_on_lattice(lattice, structure)[:, 0, 0]
    h = np.arange(-20, 21) / 7
    q = 2 * np.pi * h / 3.0
    f = form_factors(structure.elements, np.stack([q, 0 * q, 0 * q], axis=1), [2.0])[:, 0]
    wave = 2 - 2 * np.cos(2 * np.pi * h)
    off_nodes = np.arange(-20, 21) % 7 != 0
    expected = (f**2 * q**2 * np.exp(-5 / 16 * q**2))[off_nodes] / wave[off_nodes]
    assert_allclose(found[off_nodes], expected, rtol=1e-9)
    # At Bragg nodes only the crystal's translation is left of this cell of one atom.
    assert_allclose(found[~off_nodes], 0.0, atol=1e-12)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("group", ["P 1", "P 1 21 1"])
@by_level
def test_one_phonon_is_the_first_order_of_the_supercell(group, level):
    structure, n_cells = structure_of(group), SETTINGS[group][1]
    model = model_of(group, level, order=1, spring_constants=[20.0, 7.0])
    unit = model.coherent_unit(structure)
    oracle = Supercell(structure, n_cells, [6.0, CUTOFF], [20.0, 7.0], level)
    lattice = HalfLattice(structure.cell, n_cells, (5, 4, 3), 2.6)
    found = model.diffuse_on_lattice(lattice, unit)
    m = np.stack(np.meshgrid(*[x.ravel() for x in lattice.indices()], indexing="ij"), axis=-1)
    q = q_of(m / n_cells, structure.cell)
    inside = np.linalg.norm(q, axis=-1) <= lattice.q_max
    assert 0 < inside.sum() < inside.size
    expected = oracle.intensity(unit, q[inside], first_order=True)
    assert_allclose(found[inside], expected, rtol=0, atol=RTOL_INTENSITY * expected.mean())
    assert not found[~inside].any()
    if group == "P 1" and n_cells[0] > 2:
        # With D(−k) for D(k), the mistake that is easily made, it would be another.
        mirrored = HalfLattice(structure.cell, n_cells, (5, 4, 3), 2.6)
        assert mirrored.shape == found.shape
        off = np.abs(found - found[::-1]).max()
        assert off > 0.01 * expected.mean()


# --- 3 exact limits ------------------------------------------------------


def test_acoustic_halos_fall_off_as_one_over_k_squared():
    # Along rays to a strong Bragg node, I |k|² tends to a constant, with terms in k².
    structure = structure_of("P 1", 6)
    model = LatticeVibrations((3, 3, 3), cutoff=CUTOFF, order=1)
    sampling = 96
    lattice = HalfLattice(structure.cell, (sampling, 1, 1), (3 * sampling, 1, 1), 6.0)
    intensity = model.diffuse_on_lattice(lattice, structure)
    row = intensity[:, 1, 0]
    centre = 3 * sampling + 2 * sampling  # the node 2 0 0
    assert_allclose(row[centre + 1] / (4 * row[centre + 2]), 1.0, rtol=0.05)
    both = [row[centre + n] + row[centre - n] for n in (1, 2, 4)]
    # The sum of both sides has no odd terms: c/k² + b, so what is missing grows fourfold.
    assert_allclose(both[0] / both[1], 4.0, rtol=0.02)
    assert_allclose((4 - both[1] / both[2]) / (4 - both[0] / both[1]), 4.0, rtol=0.1)
    assert both[0] > 100 * row[centre + sampling // 2]


# --- 4 invariances -------------------------------------------------------


def test_one_phonon_does_not_depend_on_how_it_is_cut_up():
    group = "P 31"
    structure = structure_of(group)
    model = LatticeVibrations((2, 2, 2), cutoff=11.0, order=1)
    unit = model.coherent_unit(structure)
    lattice = HalfLattice(structure.cell, (2, 1, 2), (4, 2, 3), 2.0)
    whole = model.diffuse_on_lattice(lattice, unit)
    little = Engine(max_memory=1e3)
    assert_allclose(model.diffuse_on_lattice(lattice, unit, engine=little), whole, rtol=1e-10)
    atomic = replace(model, level="atomic", cutoff=8.0)
    one, other = (atomic.diffuse_on_lattice(lattice, unit, engine=e) for e in (Engine(), little))
    assert_allclose(one, other, rtol=1e-10)


@pytest.mark.parametrize("group", ["P 1 21 1", "P 31"])
@by_level
def test_one_phonon_has_the_laue_symmetry(group, level):
    structure = structure_of(group)
    model = LatticeVibrations((2, 2, 2), level, cutoff=11.0, order=1)
    grid = HklGrid.from_resolution(structure.cell, 2.5, 2)
    found = simulate(structure, model, grid).intensity
    assert np.nanmin(found) >= 0
    turn = {"P 1 21 1": np.diag([-1, 1, -1]), "P 31": np.array([[0, -1, 0], [1, -1, 0], [0, 0, 1]])}
    hkl = grid.hkl()[grid.within()]
    for rotation in (turn[group], -np.eye(3)):
        index, held = grid.index_of(hkl @ rotation)
        assert held.all()
        assert_allclose(
            found[tuple(index.T)], found[grid.within()], rtol=0, atol=1e-6 * np.nanmean(found)
        )


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "adps", "engine", "message"),
    [
        ({}, "file", Engine(), "adps='file' needs order='exact', got order=1"),
        ({"voxel": np.eye(3)}, "model", Engine(), "means over voxels needs order='exact'"),
        ({}, "model", Engine(wavelength=1.0), "a wavelength needs order='exact'"),
        ({}, "model", Engine(altlocs="exclusive"), "exclusive altlocs needs order='exact'"),
    ],
)
def test_what_one_phonon_cannot_do(change, adps, engine, message):
    structure = structure_of("P 1")
    lattice = replace(HalfLattice(structure.cell, (1, 1, 1), (2, 2, 2), 2.0), **change)
    model = LatticeVibrations((2, 2, 2), cutoff=CUTOFF, order=1)
    assert model.is_truncated
    with pytest.raises(InputError, match=message):
        model.diffuse_on_lattice(lattice, structure, adps, engine)
