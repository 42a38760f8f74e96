"""Inverses of stiffness matrices: which modes cost no energy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg.disorder.network import NullModesError, inverse_root

# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize("is_complex", [False, True])
def test_a_mode_is_null_below_a_billionth_of_the_rest(is_complex):
    rng = np.random.default_rng(17)
    noise = rng.normal(size=(8, 8)) + (1j * rng.normal(size=(8, 8)) if is_complex else 0)
    vectors, _ = np.linalg.qr(noise)
    free = vectors[:, :1]
    for least, is_null in ((1e-7, False), (1e-12, True), (0.0, True), (-1e-15, True)):
        values = np.array([0.0, least, *np.ones(6)])
        matrix = (vectors * values) @ vectors.conj().T
        matrix = (matrix + matrix.conj().T) / 2
        if is_null:
            with pytest.raises(NullModesError):
                inverse_root(matrix, free)
            continue
        root = inverse_root(matrix, free)
        expected = (vectors[:, 1:] / values[1:]) @ vectors[:, 1:].conj().T
        # Rounding of 1e-16 in the matrix is 1e-9 of its least eigenvalue.
        assert_allclose(root @ root.conj().T, expected, rtol=0, atol=1e-7 / least)
