"""What no model may turn into a silently wrong map: a clear error, or the right answer."""

from dataclasses import replace

import numpy as np
import pytest
from tests.oracles import form_factors

from offbragg import (
    Covariance,
    ElasticNetwork,
    HklGrid,
    InputError,
    LatticeVibrations,
    LiquidLike,
    RigidBody,
    Uncorrelated,
    simulate,
)
from offbragg.made_crystal import make_peptide

MAP_ERROR = 1e-3  # of the mean, the project's own figure
MODELS = {
    "uncorrelated": Uncorrelated(),
    "translation": RigidBody(0.1),
    "TLS": RigidBody(0.05, 0.004 * np.eye(3), np.zeros((3, 3))),
    "liquid-like": LiquidLike(0.3, 5.0),
    "liquid-like, crystal": LiquidLike(0.3, 3.0, coherence="crystal"),
    "liquid-like, cut": LiquidLike(0.3, 3.0, cutoff=8.0),
    "network": ElasticNetwork(cutoff=9.0, nodes="all"),
    "vibrations": LatticeVibrations((1, 1, 1)),
}
# Of the structure's own ADPs they make nothing: zero ADPs stand still.
BY_ADPS = ("uncorrelated", "network", "vibrations")
by_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(scope="module")
def peptide():
    return make_peptide("GAS")


@pytest.fixture(scope="module")
def grid(peptide):
    return HklGrid.from_resolution(peptide.cell, 3.5)


def stacked(peptide):
    """The second atom on the first."""
    positions = peptide.positions.copy()
    positions[1] = positions[0]
    return replace(peptide, positions=positions)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("length", [30.0, 500.0, 1e5])
def test_a_correlation_longer_than_the_box_is_a_rigid_body(peptide, grid, length):
    found = simulate(peptide, LiquidLike(0.3, length), grid).intensity
    rigid = simulate(peptide, RigidBody(0.09), grid).intensity
    # Of the order of what Γ of the longest separation lacks of 1: 1.7 times that was seen.
    span = np.ptp(peptide.positions, axis=0)
    left = 1 - np.exp(-np.linalg.norm(span) / length)
    error = np.nanmax(np.abs(found - rigid)) / np.nanmean(rigid)
    assert error < 2 * left + MAP_ERROR


@pytest.mark.parametrize("name", ["uncorrelated", "translation", "liquid-like", "network"])
def test_atoms_on_top_of_each_other_scatter_as_two(peptide, grid, name):
    structure, model = stacked(peptide), MODELS[name]
    if name == "network":
        model = ElasticNetwork(kind="gnm", cutoff=9.0, nodes="all")
    found = simulate(structure, model, grid).intensity
    exact = simulate(structure, model, grid, method="direct").intensity
    assert np.nanmax(np.abs(found - exact)) < MAP_ERROR * np.nanmean(exact)


# --- 3 exact limits ------------------------------------------------------


@by_model
def test_zero_adps_are_no_motion_where_they_are_the_motion(peptide, grid, name):
    still = replace(peptide, u_aniso=np.zeros((peptide.n_atoms, 3, 3)))
    found = simulate(still, MODELS[name], grid).intensity
    before = simulate(peptide, MODELS[name], grid).intensity
    if name in BY_ADPS:
        assert np.nanmax(found) < 1e-6 * np.nanmean(before)
    else:
        # The model has its own V_ii: the file's play no part.
        assert np.nanmax(np.abs(found - before)) < 1e-9 * np.nanmean(before)


def test_occupancy_zero_scatters_nothing(peptide, grid):
    absent = replace(peptide, occupancies=np.zeros(peptide.n_atoms))
    assert np.nanmax(simulate(absent, LiquidLike(0.3, 5.0), grid).intensity) < 1e-9


def test_one_atom_scatters_by_itself(peptide, grid):
    one = peptide.take(np.array([0]))
    found = simulate(one, LiquidLike(0.3, 5.0), grid).intensity
    q = grid.q().reshape(-1, 3)
    f = form_factors(one.elements, q)[:, 0]
    x = 0.09 * np.sum(q**2, axis=1)
    n_copies = 2 if "21" in peptide.space_group else 1
    expected = (n_copies * f**2 * -np.expm1(-x)).reshape(grid.shape)
    assert np.nanmax(np.abs(found - expected)) < MAP_ERROR * np.nanmean(found)


# --- 5 errors ------------------------------------------------------------


@by_model
def test_a_structure_without_atoms_is_refused(peptide, grid, name):
    empty = peptide.take(np.arange(0))
    with pytest.raises(InputError, match="structure must have at least one atom, got none"):
        simulate(empty, MODELS[name], grid)


@by_model
def test_an_unknown_element_is_named(peptide, grid, name):
    elements = peptide.elements.astype("<U2")
    elements[3] = "Qq"
    with pytest.raises(InputError, match="'Qq'"):
        simulate(replace(peptide, elements=elements), MODELS[name], grid)


def test_springs_between_atoms_on_top_of_each_other_are_refused(peptide, grid):
    for model in (MODELS["network"], LatticeVibrations((1, 1, 1), "atomic", cutoff=9.0)):
        with pytest.raises(InputError, match="lie on top of each other"):
            simulate(stacked(peptide), model, grid)


def test_a_matrix_that_is_no_covariance_is_refused(peptide, grid):
    n = peptide.n_atoms
    odd = np.eye(n)
    odd[0, 1] = odd[1, 0] = 2.0
    with pytest.raises(InputError, match="covariance must be positive semi-definite, got an eig"):
        Covariance(0.1 * odd)
    with pytest.raises(InputError, match=f"for the structure's {n} atoms, got {n - 1}"):
        simulate(peptide, Covariance(0.1 * np.eye(n - 1)), grid)
    with pytest.raises(InputError, match=r"covariance must be \(n, n\) or \(n, n, 3, 3\)"):
        Covariance(np.zeros((n, n, 3)))
