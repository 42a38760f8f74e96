"""`MapOperator`: the map, its derivative, and the transpose, over copies and voxels."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg import (
    Covariance,
    HklGrid,
    InputError,
    LatticeVibrations,
    LiquidLike,
    RigidBody,
    simulate,
)
from offbragg.differentiable import MapOperator
from offbragg.scattering import Displacements, Engine
from offbragg.scattering.pairs import values_of
from tests.oracles import blocks
from tests.strategies import CRYSTALS, random_covariance, random_structure, random_u

DOT_RTOL = 1e-9  # the same sums, transposed, in another order
NUFFT_RTOL = 1e-6  # single precision is not used at rtol = 1e-6
SLOPE_RTOL = 2e-4  # central differences of a map that is good to 1e-8 of its mean
SYSTEMS = ["triclinic", "monoclinic", "trigonal"]


def made(seed, system, n=6, *, isotropic=False):
    rng = np.random.default_rng(seed)
    cell, groups = CRYSTALS[system]
    group = groups[0]
    structure = random_structure(rng, n, cell, group)
    v = random_covariance(rng, n, 0.15, anisotropic=not isotropic)
    return rng, structure, v


def symmetric(rng, v):
    change = rng.normal(size=v.shape) * 0.01
    return change + (change.T if v.ndim == 2 else change.transpose(1, 0, 3, 2))


def inner(one, other):
    """Sum over every element of two Displacements."""
    total = 0.0
    if other.correlated is not None:
        total += np.sum(np.asarray(one.correlated) * other.correlated)
    if other.pairs is not None:
        total += np.sum(values_of(one.pairs) * values_of(other.pairs))
    if other.independent is not None:
        total += np.sum(one.independent * other.independent)
    return total


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("averaged", [False, True])
def test_the_map_is_that_of_simulate(system, averaged):
    _, structure, v = made(1, system)
    grid = HklGrid.from_resolution(structure.cell, 3.0, (2, 2, 1))
    found = MapOperator(structure, Displacements(v), grid, voxel_average=averaged).intensity()
    expected = simulate(
        structure, Covariance(v), grid, voxel_average=averaged, method="splat"
    ).intensity
    assert_allclose(found, expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("isotropic", [True, False])
def test_the_change_of_the_map_matches_central_differences(isotropic):
    rng, structure, v = made(2, "trigonal", isotropic=isotropic)
    grid = HklGrid.from_resolution(structure.cell, 3.0)
    u, step = random_u(rng, 6, 0.05), 1e-4
    if isotropic:
        u = u[:, :1, :1] * np.eye(3)
    change = Displacements(symmetric(rng, v), 0.02 * u)
    engine = Engine(rtol=1e-8)

    def at(x):
        moved = Displacements(v + x * change.correlated, u + x * change.independent)
        return MapOperator(structure, moved, grid, engine)

    slopes = (at(step).intensity() - at(-step).intensity()) / (2 * step)
    found = at(0.0).product(change)
    scale = np.nanmean(np.abs(slopes))
    assert np.nanmax(np.abs(found - slopes)) < SLOPE_RTOL * scale


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("isotropic", [True, False])
def test_the_gradient_is_the_transpose_of_the_product(system, averaged, isotropic):
    rng, structure, v = made(3, system, isotropic=isotropic)
    # A grid that is neither centred nor odd: images fall outside it.
    grid = HklGrid(
        structure.cell, np.arange(-3, 5) / 2, np.arange(-4, 3) / 2, np.arange(-1, 5.0), (2, 2, 1)
    )
    operator = MapOperator(
        structure, Displacements(v), grid, Engine(rtol=1e-6), voxel_average=averaged
    )
    change = Displacements(symmetric(rng, v))
    values = rng.normal(size=grid.shape)
    forward = np.nansum(values * operator.product(change))
    backward = inner(operator.gradient(values), change)
    assert backward == pytest.approx(forward, rel=NUFFT_RTOL if isotropic else DOT_RTOL)


def test_parameters_of_models_get_their_gradients():
    _, structure, _ = made(4, "monoclinic")
    grid = HklGrid.from_resolution(structure.cell, 3.0)
    rng = np.random.default_rng(5)
    values = np.where(grid.within(), rng.normal(size=grid.shape), 0.0)
    model, step = LiquidLike(0.4, 5.0), 1e-4
    operator = MapOperator(structure, model.displacements(structure), grid, Engine(rtol=1e-8))
    found = model.pullback(structure, operator.gradient(values))
    for name, value in model.parameters(structure).items():
        up, down = (
            simulate(structure, model.with_parameters({name: value + x}), grid, rtol=1e-8)
            for x in (step, -step)
        )
        expected = np.nansum(values * (up.intensity - down.intensity)) / (2 * step)
        assert found[name] == pytest.approx(expected, rel=1e-4)


#: Motions across copies: isotropic and tensors, turned copies, lattice neighbours.
ACROSS = {
    "crystal": LiquidLike(0.3, 1.0, coherence="crystal"),
    "crystal, gaussian": LiquidLike(0.3, 2.5, kernel="gaussian", coherence="crystal", cutoff=9.0),
    "crystal, tensor": LiquidLike((0.2, 0.3, 0.25), 2.0, coherence="crystal", cutoff=9.0),
    "cut": LiquidLike(0.3, 4.0, cutoff=6.0),
    "cut, tensor": LiquidLike(
        ((0.3, 0.05, 0.0), (0.05, 0.2, -0.02), (0.0, -0.02, 0.25)), 4.0, cutoff=6.0
    ),
    "tensor": LiquidLike((0.2, 0.3, 0.25), 4.0),
    "vibrations, rigid": LatticeVibrations(
        (2, 2, 2), distance_edges=(5.0, 9.0), spring_constants=(1.0, 0.6), level="rigid"
    ),
    "vibrations, atomic": LatticeVibrations(
        (2, 2, 2), distance_edges=(5.0, 9.0), spring_constants=(1.0, 0.6), level="atomic"
    ),
}


@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("name", ACROSS)
def test_parameters_of_motions_across_copies_get_their_gradients(name, averaged):
    # Tensors along the cell's axes have the symmetry of P 21 21 21.
    model = ACROSS[name]
    rng = np.random.default_rng(10)
    structure = random_structure(rng, 5, (7.0, 8.0, 9.0, 90.0, 90.0, 90.0), "P 21 21 21")
    grid = HklGrid.from_resolution(structure.cell, 3.0, (2, 2, 2))
    values = np.where(grid.within(), rng.normal(size=grid.shape), 0.0)
    unit, engine = model.coherent_unit(structure), Engine(rtol=1e-7)
    moves = model.displacements(unit)
    operator = MapOperator(unit, moves, grid, engine, voxel_average=averaged)
    pulled = model.pullback(unit, operator.gradient(values))
    own = model.parameters(unit)
    direction = {n: _possible(rng.normal(size=x.shape)) for n, x in own.items()}
    along = operator.product(model.tangent(unit, direction))
    assert sum(np.sum(pulled[n] * direction[n]) for n in own) == pytest.approx(
        np.nansum(values * along), rel=NUFFT_RTOL
    )
    step = 1e-4

    def at(x):
        moved = model.with_parameters({n: own[n] + x * direction[n] for n in own})
        cut = model.displacements(unit).pairs
        if isinstance(moved, LiquidLike) and moved.has_closed_form:
            # The default cut-off goes with γ; what is derived is the kernel.
            moved = replace(moved, cutoff=cut.cutoff)
        return simulate(structure, moved, grid, rtol=1e-7, voxel_average=averaged).intensity

    slopes = (at(step) - at(-step)) / (2 * step)
    # A kernel that is cut can make an intensity negative, which a map does not show.
    shown = at(0.0) > 1e-3 * np.nanmean(at(0.0))
    error = np.abs(along - slopes)[shown]
    assert error.max() < SLOPE_RTOL * np.nanmax(np.abs(slopes))


def _possible(change):
    """A change of a parameter: symmetric where it is a matrix."""
    return 0.5 * (change + change.T) if change.ndim == 2 else change


def test_low_rank_covariances_give_the_gradient_of_dense_ones():
    rng, structure, _ = made(6, "triclinic")
    grid = HklGrid.from_resolution(structure.cell, 3.0)
    moves = RigidBody(translation=0.1, libration=0.002).displacements(structure)
    dense = Displacements(blocks(moves.correlated))
    values = rng.normal(size=grid.shape)
    one, other = (MapOperator(structure, x, grid).gradient(values) for x in (moves, dense))
    assert_allclose(one.correlated, other.correlated, rtol=1e-6, atol=1e-6)


# --- 4 invariances -------------------------------------------------------


def test_gauss_newton_products_are_symmetric_and_positive():
    rng, structure, v = made(7, "triclinic")
    grid = HklGrid.from_resolution(structure.cell, 3.5)
    operator = MapOperator(structure, Displacements(v), grid)
    weights = rng.uniform(0.5, 2.0, grid.shape)
    one, other = (Displacements(symmetric(rng, v)) for _ in range(2))
    by_one, by_other = (operator.gauss_newton_product(weights, x) for x in (one, other))
    assert inner(by_one, other) == pytest.approx(inner(by_other, one), rel=DOT_RTOL)
    assert inner(by_one, one) > 0


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (Engine(method="direct"), "method must be one of auto splat pair-nufft, got 'direct'"),
        (Engine(wavelength=1.0), "derivatives by V need no wavelength"),
        (Engine(altlocs="exclusive"), "derivatives by V need no wavelength and altlocs"),
    ],
)
def test_what_has_no_derivative_is_named(engine, message):
    _, structure, v = made(8, "triclinic")
    grid = HklGrid.from_resolution(structure.cell, 4.0)
    with pytest.raises(InputError, match=message):
        MapOperator(structure, Displacements(v), grid, engine)
