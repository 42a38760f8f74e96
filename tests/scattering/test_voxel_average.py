"""Means over voxels: pairs weighted by the transform of a voxel, against quadrature."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tests.oracles import blocks, diffuse_of_cell, form_factors, q_of, reciprocal_vectors
from tests.strategies import random_covariance

from offbragg import Covariance, HklGrid, LiquidLike, RigidBody, Uncorrelated, simulate
from offbragg.crystal.cell import Cell
from offbragg.made_crystal import make_peptide
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.pair_terms import voxel_weights

# Form factors and widths are taken at the node, not averaged: up to 3.3e-3 of the mean seen, away
# from q = 0, where values at the nodes are off by 5e-3 to 7e-2.
AVERAGED = 4e-3
ROUNDING = 1e-12

PEPTIDE = make_peptide("GASM", u=0.1225)
N = PEPTIDE.n_atoms
TRICLINIC = replace(PEPTIDE, cell=Cell(15.0, 17.0, 13.0, 82.0, 95.0, 104.0), space_group="P 1")
MODELS = {
    "exact": LiquidLike(0.35, 6.0),
    "gaussian": LiquidLike(0.3, 5.0, kernel="gaussian"),
    "order 1": LiquidLike(0.35, 6.0, order=1),
    "order 3": LiquidLike(0.35, 6.0, order=3),
    "cell": LiquidLike(0.35, 6.0, coherence="cell"),
    "rigid": RigidBody(np.diag([0.1, 0.05, 0.15])),
    "tls": RigidBody(0.05, 0.002 * np.eye(3)),
    "covariance": Covariance(random_covariance(np.random.default_rng(3), N, 0.1, rank=9)),
    "sum of two": LiquidLike(0.2, 6.0) + RigidBody(0.05),
}
# Gauss–Legendre points across a voxel: exact to order 9, far beyond the atoms' widths.
POINTS, POINT_WEIGHTS = np.polynomial.legendre.leggauss(5)


def series(model, structure):
    """The series of a liquid-like model at scattered q: q²σ²Γ to the model's order."""
    gamma = model.correlation(structure.positions)

    def intensity(q, f):
        x = np.einsum("qx,qx->q", q, q) * model.rms_displacement**2
        phased = f * np.exp(1j * q @ structure.positions.T)
        total, factorial = np.zeros(len(q)), 1.0
        for n in range(1, model.order + 1):
            factorial *= n
            pairs = np.einsum("qi,ij,qj->q", phased.conj(), gamma**n, phased, optimize=True).real
            total += x**n / factorial * pairs
        return np.exp(-x) * total

    return intensity


def mean_of_voxel(structure, model, hkl, sampling, adps="model"):
    """Mean intensity over the voxel at each hkl (n, 3), by 125 points in each."""
    unit = model.coherent_unit(structure)
    steps = np.stack(np.meshgrid(*[POINTS] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    weights = np.einsum("i,j,k->ijk", *[POINT_WEIGHTS] * 3).ravel() / 8
    means = []
    for own in hkl:
        q = q_of(own + 0.5 * steps / np.array(sampling), unit.cell)
        f = form_factors(unit.elements, q, unit.occupancies)
        if isinstance(model, LiquidLike) and model.order != "exact":
            assert unit.space_group == "P 1"
            values = series(model, unit)(q, f)
        else:
            found = model.with_adps(unit, adps)
            v = np.zeros((unit.n_atoms, unit.n_atoms, 3, 3))
            v += blocks(found.correlated)
            if found.independent is not None:
                v[np.arange(unit.n_atoms), np.arange(unit.n_atoms)] += found.independent
            values = diffuse_of_cell(q, unit.positions, f, v, unit.cell, unit.space_group)
        means.append(weights @ values)
    return np.array(means)


def grid_away_from_the_beam(cell, sampling):
    """A few voxels some reciprocal-lattice units out, not centred, of even and odd length."""
    first = np.array([3, -5, 2]) * np.array(sampling)
    axes = [(a + np.arange(n)) / s for a, n, s in zip(first, (3, 4, 2), sampling, strict=True)]
    return HklGrid(cell, *axes, sampling)


def lattice_of(cell, sampling):
    """A lattice whose voxels have their edges along the axes, 1/n of each."""
    return HalfLattice(Cell(*cell), sampling, (3, 3, 3), 1.0, np.diag(1 / np.array(sampling)))


# --- 1 reference numbers -------------------------------------------------


def test_weights_of_a_pair_by_hand():
    # x = (0.5, 0, 1.25) of cells of 10 Å, sampling (1, 2, 5):
    # sinc(0.5) = 2/π, sinc(0) = 1, sinc(0.25) = 2√2/π.
    lattice = lattice_of((10.0, 10.0, 10.0, 90, 90, 90), (1, 2, 5))
    weights = voxel_weights(lattice, np.array([[-5.0, 0.0, -12.5], [0.0, 0.0, 0.0]]))
    assert_allclose(weights, [2 / np.pi * 2 * np.sqrt(2) / np.pi, 1.0], rtol=ROUNDING)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("sampling", [(3, 3, 3), (3, 2, 4)])
def test_means_match_quadrature(name, sampling):
    # Monoclinic, two copies; the series has its own plain sum, in P 1.
    model = MODELS[name]
    structure = TRICLINIC if "order" in name else PEPTIDE
    grid = grid_away_from_the_beam(structure.cell, sampling)
    found = simulate(structure, model, grid, voxel_average=True, rtol=1e-5).intensity.ravel()
    plain = simulate(structure, model, grid, rtol=1e-5).intensity.ravel()
    pick = np.random.default_rng(0).choice(grid.size, 8, replace=False)
    expected = mean_of_voxel(structure, model, grid.hkl().reshape(-1, 3)[pick], sampling)
    level = np.mean(plain)
    error = np.abs(found[pick] - expected).max()
    assert error < AVERAGED * level
    assert np.abs(plain[pick] - expected).max() > 3 * error


@pytest.mark.parametrize("name", ["exact", "rigid"])
def test_copies_in_hexagonal_axes_see_the_voxel_turned(name):
    # A three-fold turns a box along a*, b* into another box: weights differ from copy to copy.
    cell = Cell(18.0, 18.0, 14.0, 90.0, 90.0, 120.0)
    structure = replace(PEPTIDE, cell=cell, space_group="P 31")
    grid = grid_away_from_the_beam(cell, (3, 3, 2))
    found = simulate(structure, MODELS[name], grid, voxel_average=True, rtol=1e-5).intensity.ravel()
    pick = [0, 5, 11, 17, 23]
    hkl = grid.hkl().reshape(-1, 3)[pick]
    expected = mean_of_voxel(structure, MODELS[name], hkl, grid.sampling)
    assert np.abs(found[pick] - expected).max() < AVERAGED * found.mean()


def test_file_adps_are_averaged_too():
    loose = replace(PEPTIDE, u_aniso=np.tile(0.2 * np.eye(3), (N, 1, 1)))
    model, sampling = LiquidLike(0.35, 6.0), (3, 3, 3)
    grid = grid_away_from_the_beam(loose.cell, sampling)
    found = simulate(loose, model, grid, adps="file", voxel_average=True).intensity.ravel()
    pick = [0, 7, 13, 20]
    hkl = grid.hkl().reshape(-1, 3)[pick]
    expected = mean_of_voxel(loose, model, hkl, sampling, "file")
    assert np.abs(found[pick] - expected).max() < AVERAGED * found.mean()


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    st.tuples(*[st.integers(1, 6)] * 3),
    st.integers(0, 2**20),
)
def test_weights_match_the_transform_of_a_box(sampling, seed):
    # Mean of cos(2π h·x) over a voxel, by quadrature, against the closed form.
    rng = np.random.default_rng(seed)
    cell = Cell(12.0, 15.0, 18.0, 80.0, 100.0, 95.0)
    positions = rng.uniform(-8, 8, (3, 3))
    lattice = lattice_of(cell, sampling)
    points, weights = np.polynomial.legendre.leggauss(40)
    fractional = positions @ reciprocal_vectors(cell).T
    for i, j in ((0, 1), (1, 2), (0, 2)):
        product = 1.0
        for x, n in zip(fractional[i] - fractional[j], sampling, strict=True):
            product *= weights @ np.cos(np.pi * x * points / n) / 2
        (found,) = voxel_weights(lattice, (positions[i] - positions[j])[None])
        assert found == pytest.approx(product, abs=1e-10)


# --- 3 exact limits ------------------------------------------------------


def test_atoms_that_move_alone_have_no_phases_to_average():
    grid = HklGrid.from_resolution(PEPTIDE.cell, 3.0)
    averaged = simulate(PEPTIDE, Uncorrelated(), grid, voxel_average=True).intensity
    assert_array_equal(averaged, simulate(PEPTIDE, Uncorrelated(), grid).intensity)


def test_voxels_without_size_leave_the_values():
    # Twice as fine, a quarter of the difference between mean and middle.
    worst = []
    for n in (2, 4):
        grid = HklGrid(PEPTIDE.cell, [3.0], [-2.0], [2.0], (n, n, n))
        averaged, plain = (
            simulate(PEPTIDE, MODELS["exact"], grid, voxel_average=x, rtol=1e-6).intensity.item()
            for x in (True, False)
        )
        worst.append(abs(averaged - plain))
    assert worst[1] == pytest.approx(worst[0] / 4, rel=0.1)
    lattice = replace(lattice_of(PEPTIDE.cell, (2, 2, 2)), voxel=None)
    assert_array_equal(voxel_weights(lattice, PEPTIDE.positions), 1.0)


def test_no_displacement_no_intensity():
    grid = HklGrid.from_resolution(PEPTIDE.cell, 3.0)
    still = simulate(PEPTIDE, LiquidLike(0.0, 6.0), grid, voxel_average=True).intensity
    assert not still[grid.within()].any()


@pytest.mark.parametrize("name", MODELS)
def test_means_are_finite_and_not_negative(name):
    grid = HklGrid.from_resolution(PEPTIDE.cell, 3.0, (1, 2, 1))
    values = simulate(PEPTIDE, MODELS[name], grid, voxel_average=True).intensity
    assert_array_equal(np.isfinite(values), grid.within())
    assert np.nanmin(values) >= 0


def test_bragg_peaks_are_means_already():
    grid = HklGrid.from_resolution(PEPTIDE.cell, 3.0, (2, 2, 2))
    parts = [
        simulate(PEPTIDE, MODELS["exact"], grid, part="bragg", voxel_average=x).intensity
        for x in (True, False)
    ]
    assert_array_equal(*parts)


# --- 4 invariances -------------------------------------------------------


def test_an_origin_elsewhere_changes_nothing():
    grid = HklGrid.from_resolution(TRICLINIC.cell, 3.0)
    moved = replace(TRICLINIC, positions=TRICLINIC.positions + np.array([7.0, -3.0, 11.0]))
    here, there = (
        simulate(s, MODELS["exact"], grid, voxel_average=True, rtol=1e-5).intensity
        for s in (TRICLINIC, moved)
    )
    assert np.nanmax(np.abs(here - there)) < 1e-4 * np.nanmean(here)


def test_symmetry_of_the_map_is_kept():
    grid = HklGrid.from_resolution(PEPTIDE.cell, 3.0, (2, 2, 2))
    values = simulate(PEPTIDE, MODELS["tls"], grid, voxel_average=True).intensity
    assert_allclose(values[::-1, ::-1, ::-1], values, rtol=1e-9, atol=1e-9)
    assert_allclose(values[::-1, :, ::-1], values, rtol=1e-9, atol=1e-9)


def test_weights_are_symmetric():
    lattice = lattice_of(PEPTIDE.cell, (1, 2, 3))
    separations = PEPTIDE.positions - PEPTIDE.positions[0]
    weights = voxel_weights(lattice, separations)
    assert_array_equal(weights, voxel_weights(lattice, -separations))
    assert weights[0] == 1.0
    assert np.abs(weights).max() <= 1.0


def test_the_option_is_in_the_provenance():
    grid = HklGrid.from_resolution(PEPTIDE.cell, 4.0)
    (step,) = simulate(PEPTIDE, MODELS["exact"], grid, voxel_average=True).provenance
    assert step["options"]["voxel_average"] is True
