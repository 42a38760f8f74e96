"""FreeAdps: each atom by itself, by numbers of its own."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.strategies import CRYSTALS, random_structure

from offbragg import FreeAdps, HklGrid, LiquidLike, Uncorrelated, simulate
from offbragg.errors import InputError
from offbragg.scattering.displacements import Displacements

N = 5
ROUNDING = 1e-12
STRUCTURE = random_structure(np.random.default_rng(0), N, CRYSTALS["monoclinic"][0], "P 1 21 1")
U = np.linspace(0.1, 0.3, N)


def test_it_is_the_uncorrelated_model_of_such_adps():
    grid = HklGrid.from_resolution(STRUCTURE.require_cell(), 3.0)
    same = replace(STRUCTURE, u_aniso=U[:, None, None] * np.eye(3))
    found = simulate(STRUCTURE, FreeAdps(U), grid).intensity
    expected = simulate(same, Uncorrelated(), grid).intensity
    assert_allclose(found, expected, rtol=1e-6, equal_nan=True)


def test_the_pullback_is_adjoint_to_the_tangent():
    rng = np.random.default_rng(1)
    model = FreeAdps(U)
    slopes, change = rng.normal(size=(N, 3, 3)), rng.normal(size=N)
    moved = model.tangent(STRUCTURE, {"u": change}).independent
    by_u = model.pullback(STRUCTURE, Displacements(independent=slopes))["u"]
    assert float(by_u @ change) == pytest.approx(float(np.sum(slopes * moved)), rel=ROUNDING)
    # Slopes by V_ii are those of whatever part holds it.
    dense = np.zeros((N, N, 3, 3))
    dense[range(N), range(N)] = slopes
    assert_allclose(model.pullback(STRUCTURE, Displacements(dense))["u"], by_u, rtol=ROUNDING)


def test_beside_a_model_it_adds_to_the_diagonal_alone():
    both = LiquidLike(0.3, 4.0) + FreeAdps(U)
    v = both.displacements(STRUCTURE).dense(N)
    alone = LiquidLike(0.3, 4.0).displacements(STRUCTURE).dense(N)
    assert_allclose(v - alone, np.diag(U), atol=ROUNDING)


def test_a_start_is_a_share_of_the_structures_own():
    own = np.trace(STRUCTURE.u_aniso, axis1=1, axis2=2) / 3.0
    assert_allclose(FreeAdps.of(STRUCTURE, 0.5).u, 0.5 * own, rtol=ROUNDING)


@pytest.mark.parametrize(
    ("u", "message"),
    [
        (np.eye(2), r"u must be \(n_atoms,\), got \(2, 2\)"),
        ([0.1, -0.2], "u must be between 0 and 10 Å², got -0.2"),
        ([0.1, np.nan], "u must be between 0 and 10 Å², got nan"),
    ],
)
def test_impossible_values_are_refused(u, message):
    with pytest.raises(InputError, match=message):
        FreeAdps(u)


@pytest.mark.parametrize("method", ["displacements", "tangent", "pullback"])
def test_other_atoms_are_refused(method):
    model = FreeAdps([0.1])
    arguments = {"displacements": (), "tangent": ({},), "pullback": (Displacements(),)}[method]
    with pytest.raises(InputError, match=f"structure's {N} atoms, got 1"):
        getattr(model, method)(STRUCTURE, *arguments)
