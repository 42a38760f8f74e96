"""`group_response`: derivatives by the covariance of groups, in a basis of fields.

Oracles: the plain sum in `reference`, and for groups of one atom `direct_product`, the exact
derivative along a change of the covariance.
"""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.strategies import random_covariance

from offbragg.errors import InputError
from offbragg.scattering import reference
from offbragg.scattering.direct_adjoint import direct_product
from offbragg.scattering.group_response import group_response

# Single precision, of the largest derivative: sums of some hundred terms that cancel.
SINGLE = 2e-4


def problem(seed=0, n_q=6, n_copies=2, n_groups=7, n_fields=3):
    rng = np.random.default_rng(seed)
    q = rng.normal(size=(n_q, n_copies, 3))
    shape = (n_q, n_copies, n_groups)
    amplitudes = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    covariance = random_covariance(rng, n_groups, 0.2)
    fields = rng.normal(size=(n_groups, n_fields))
    window = rng.random((n_groups, n_groups))
    return q, amplitudes, covariance, fields, window + window.T


def by_upper_triangle(matrices):
    """(n, k, k) by every element → (n, k(k+1)/2), off-diagonal elements in both places."""
    rows, columns = np.triu_indices(matrices.shape[1])
    return matrices[:, rows, columns] * np.where(rows == columns, 1.0, 2.0)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_plain_sum(seed):
    arguments = problem(seed)
    expected = by_upper_triangle(reference.group_response(*arguments))
    assert_allclose(group_response(*arguments), expected, atol=SINGLE * np.abs(expected).max())


def test_groups_of_one_atom_give_the_exact_derivative():
    rng = np.random.default_rng(4)
    n_atoms, n_fields = 6, 2
    q, positions = rng.normal(size=(8, 3)), rng.normal(scale=4, size=(n_atoms, 3))
    f = rng.uniform(1, 8, (8, n_atoms))
    v = random_covariance(rng, n_atoms, 0.3)
    fields = rng.normal(size=(n_atoms, n_fields))
    own = np.einsum("qa,iiab,qb->qi", q, v, q)
    amplitudes = f * np.exp(1j * q @ positions.T - 0.5 * own)
    found = group_response(q[:, None], amplitudes[:, None], v, fields)
    expected = []
    rows, columns = np.triu_indices(3 * n_fields)
    for row, column in zip(rows, columns, strict=True):
        c = np.zeros((3 * n_fields, 3 * n_fields))
        c[row, column] = c[column, row] = 1.0
        change = np.einsum("rj,jakb,sk->rsab", fields, c.reshape(n_fields, 3, n_fields, 3), fields)
        expected.append(direct_product(q, positions, f, v, change))
    expected = np.stack(expected, axis=1)
    assert_allclose(found, expected, atol=SINGLE * np.abs(expected).max())


def test_copies_add_up():
    q, amplitudes, covariance, fields, window = problem()
    both = group_response(q, amplitudes, covariance, fields, window)
    apart = [
        group_response(q[:, [k]], amplitudes[:, [k]], covariance, fields, window) for k in (0, 1)
    ]
    assert_allclose(both, sum(apart), atol=SINGLE * np.abs(both).max())


def test_one_field_over_a_still_crystal_is_the_motion_of_a_rigid_body():
    """dI = (q·dT·q) |F|²: to first order, as it is."""
    q, amplitudes, _, _, _ = problem(n_copies=1)
    still = np.zeros((7, 7, 3, 3))
    found = group_response(q, amplitudes, still, np.ones((7, 1)))
    squares = np.abs(amplitudes.sum(axis=2)[:, 0]) ** 2
    vectors = q[:, 0]
    expected = by_upper_triangle(squares[:, None, None] * vectors[:, :, None] * vectors[:, None, :])
    assert_allclose(found, expected, atol=SINGLE * np.abs(expected).max())


@pytest.mark.parametrize(("which", "name"), [(0, "q"), (2, "covariance"), (4, "window")])
def test_wrong_shapes_are_refused(which, name):
    arguments = list(problem())
    arguments[which] = arguments[which][:-1]
    with pytest.raises(InputError, match=f"{name} must be"):
        group_response(*arguments)
