"""Bases of collective displacements, and where a fit in one starts."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg import ElasticNetwork, RigidBody
from offbragg.disorder.bases import basis_of, start_in_basis
from offbragg.disorder.bodies import tls_basis
from offbragg.errors import InputError
from offbragg.made_crystal import make_peptide

U = 0.15


@pytest.fixture(scope="module")
def peptide():
    return make_peptide("GASMKD", u=U)


def test_modes_are_the_largest_motions_of_a_network(peptide):
    basis = basis_of(peptide, "modes", n_modes=4)
    flat = basis.reshape(3 * peptide.n_atoms, 4)
    # Orthogonal, each of root mean square 1 Å.
    assert_allclose(flat.T @ flat, peptide.n_atoms * np.eye(4), atol=1e-6 * peptide.n_atoms)
    v = ElasticNetwork(nodes="all").displacements(peptide).dense(peptide.n_atoms)
    matrix = v.transpose(0, 2, 1, 3).reshape(3 * peptide.n_atoms, -1)
    values = np.linalg.eigvalsh(matrix)[::-1][:4]
    assert_allclose(np.diag(flat.T @ matrix @ flat) / peptide.n_atoms, values, rtol=1e-6)


def test_tls_is_that_of_chains_or_of_bodies(peptide):
    every = np.arange(peptide.n_atoms)
    assert_allclose(basis_of(peptide, "tls"), tls_basis(peptide, [every]))
    halves = np.array_split(every, 2)
    assert_allclose(basis_of(peptide, "tls", bodies=halves), tls_basis(peptide, halves))


def test_fields_shift_residues_as_wholes(peptide):
    basis = basis_of(peptide, "fields", smoothing=6.0)
    first = peptide.residue_numbers == peptide.residue_numbers[0]
    assert_allclose(basis[first], np.broadcast_to(basis[first][:1], basis[first].shape))
    # Each field along x, then y, then z.
    assert_allclose(basis[:, 0, 0::3], basis[:, 1, 1::3])
    assert not np.any(basis[:, 0, 1::3])


@pytest.mark.parametrize("kind", ["modes", "tls", "fields"])
def test_a_start_has_half_of_the_adps_shared_among_modes(peptide, kind):
    basis = basis_of(peptide, kind)
    model = start_in_basis(peptide, basis)
    u = model.displacements(peptide).u_aniso(peptide.n_atoms)
    assert np.trace(u, axis1=1, axis2=2).mean() / 3 == pytest.approx(0.5 * U)
    own = np.einsum("iak,kl,ial->k", basis, model.coefficients, basis)
    assert_allclose(own, own[0])


def test_isotropic_bases_start_too(peptide):
    model = start_in_basis(peptide, np.ones((peptide.n_atoms, 1)))
    rigid = RigidBody(0.5 * U).displacements(peptide).dense(peptide.n_atoms)
    found = model.displacements(peptide).dense(peptide.n_atoms)
    assert_allclose(found[:, :, None, None] * np.eye(3), rigid, atol=1e-12)


def test_bad_input_is_refused(peptide):
    with pytest.raises(InputError, match="basis must be one of modes tls fields or an array"):
        basis_of(peptide, "springs")
    with pytest.raises(InputError, match="must be for the structure"):
        start_in_basis(peptide, np.ones((3, 3, 2)))
    with pytest.raises(InputError, match="mode 1 moves no atom"):
        start_in_basis(peptide, np.ones((peptide.n_atoms, 3, 2)) * [1.0, 0.0])
