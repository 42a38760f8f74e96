"""The conventions: 2π in q, U against B, sin θ/λ."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg import conventions, errors
from offbragg.conventions import b_from_u, stol2_from_q, u_from_b

RTOL_ROUNDING = 1e-14

# --- 1 reference numbers -------------------------------------------------


def test_b_and_u_by_hand():
    # B = 20 Å² is U = 0.2533 Å² (20/78.957).
    assert u_from_b(20.0) == pytest.approx(0.25330, abs=1e-5)
    assert b_from_u(0.25330296) == pytest.approx(20.0, abs=1e-6)


def test_sin_theta_over_lambda_by_hand():
    # d = 2 Å: q = 2π/2, sin θ/λ = 1/2d = 0.25 Å⁻¹.
    assert float(stol2_from_q(np.float64(2 * np.pi / 2.0))) == pytest.approx(0.0625, rel=1e-14)


def test_the_figures_that_others_rely_on():
    assert conventions.TWO_PI == 2 * np.pi
    assert conventions.ISOTROPIC_SHELL_WIDTH == 0.01
    assert (conventions.CELL_WARN_FRACTION, conventions.CELL_REFUSE_FRACTION) == (0.005, 0.03)


# --- 4 invariances -------------------------------------------------------


def test_conversions_invert_each_other_and_take_arrays():
    u = np.linspace(0, 5, 11)
    assert_allclose(u_from_b(b_from_u(u)), u, rtol=RTOL_ROUNDING)
    assert_allclose(b_from_u(u), 8 * np.pi**2 * u, rtol=RTOL_ROUNDING)
    q = np.array([[0.5, 1.0], [2.0, 4.0]])
    assert_allclose(stol2_from_q(q), (q / (4 * np.pi)) ** 2, rtol=RTOL_ROUNDING)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.InputError, ValueError),
        (errors.FormatError, ValueError),
        (errors.MissingFileError, FileNotFoundError),
    ],
)
def test_errors_can_be_caught_as_ours_or_as_pythons(error, builtin):
    for caught in (errors.OffbraggError, builtin):
        with pytest.raises(caught, match="what it was"):
            raise error("what it was")
