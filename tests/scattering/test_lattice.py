"""HalfLattice: nodes, their q, quadratic forms, against textbook vectors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from tests.oracles import q_of, reciprocal_vectors
from tests.strategies import CRYSTALS, cells, random_u

from offbragg.scattering import HalfLattice

RTOL_CELL = 1e-9  # cosines near 60° and 120°, see test_cell


def nodes(lattice):
    """Indices (n_x, n_y, n_z, 3) of all nodes, by their definition."""
    m_x, m_y, m_z = lattice.extent
    axes = np.arange(-m_x, m_x + 1), np.arange(-m_y, m_y + 1), np.arange(m_z + 1)
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


lattices = st.builds(
    HalfLattice,
    cells(),
    st.tuples(*[st.integers(1, 4)] * 3),
    st.tuples(*[st.integers(0, 5)] * 3),
    st.floats(0.5, 5.0),
)


# --- 1 reference numbers -------------------------------------------------


def test_nodes_of_an_orthorhombic_cell_by_hand():
    lattice = HalfLattice(CRYSTALS["orthorhombic"][0], (3, 1, 2), (2, 0, 1), 1.0)
    assert lattice.shape == (5, 1, 2)
    # Node (−2, 0, 1): h = −2/3, l = 1/2.
    expected = (2 * np.pi) ** 2 * ((2 / 3 / 9) ** 2 + (0.5 / 16) ** 2)
    assert lattice.q_squared()[0, 0, 1] == pytest.approx(expected, rel=1e-12)
    assert lattice.q_squared()[2, 0, 0] == 0.0


# --- 2 independent oracle ------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=30)
@given(lattice=lattices, seed=st.integers(0, 99))
def test_quadratic_forms_match_explicit_vectors(lattice, seed):
    u = random_u(np.random.default_rng(seed), 1)[0]
    q = q_of(nodes(lattice) / np.array(lattice.sampling), lattice.cell)
    expected = np.einsum("...x,xy,...y->...", q, u, q)
    scale = max(expected.max(), 1e-30)
    assert_allclose(lattice.quadratic_form(u), expected, atol=RTOL_CELL * scale)
    squares = (q**2).sum(axis=-1)
    assert_allclose(lattice.q_squared(), squares, atol=RTOL_CELL * max(squares.max(), 1e-30))
    assert lattice.q_squared().min() >= 0.0
    expected_vectors = 2 * np.pi * reciprocal_vectors(lattice.cell)
    expected_vectors = expected_vectors / np.array(lattice.sampling)[:, None]
    assert_allclose(lattice.reciprocal_vectors, expected_vectors, atol=RTOL_CELL)


def test_indices_broadcast_to_the_nodes():
    lattice = HalfLattice(CRYSTALS["triclinic"][0], (1, 2, 3), (2, 3, 4), 1.0)
    broadcast = np.stack(np.broadcast_arrays(*lattice.indices()), axis=-1)
    assert broadcast.shape == (*lattice.shape, 3)
    assert np.array_equal(broadcast, nodes(lattice))
