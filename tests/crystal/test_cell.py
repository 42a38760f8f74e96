"""Cells: matrices against textbook vectors and gemmi, what `as_cell` takes, how cells disagree."""

import logging

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose
from tests.oracles import cell_vectors, reciprocal_vectors
from tests.strategies import cells, miller_indices

from offbragg.crystal.cell import Cell, as_cell, check_cells_agree
from offbragg.errors import InputError

RTOL_ROUNDING = 1e-12  # the same formula in another order of operations
# Cosines of angles near 60° and 120° lose digits in the volume of a flat cell: 3e-13 seen.
RTOL_FLAT_CELL = 1e-10

QUICK = settings(deadline=None, derandomize=True, max_examples=50)


# --- 1 reference numbers -------------------------------------------------


def test_triclinic_volume_by_hand():
    # V = abc √(1 − Σcos² + 2 Πcos), with a pocket calculator's cosines of 60°, 60°, 90°: √(1/2).
    assert as_cell((2, 3, 4, 60, 60, 90)).volume == pytest.approx(24 * np.sqrt(0.5), rel=1e-12)


def test_orthorhombic_matrices_by_hand():
    cell = as_cell((10, 20, 40, 90, 90, 90))
    assert_allclose(cell.orth_matrix, np.diag([10.0, 20.0, 40.0]), atol=1e-14)
    assert_allclose(cell.frac_matrix, np.diag([0.1, 0.05, 0.025]), atol=1e-16)
    assert_allclose(cell.reciprocal_lengths, [0.1, 0.05, 0.025], rtol=RTOL_ROUNDING)


# --- 2 independent oracle ------------------------------------------------


@QUICK
@given(cell=cells())
def test_matrices_match_textbook_vectors(cell):
    vectors, reciprocal = cell_vectors(cell), reciprocal_vectors(cell)
    size = max(cell[:3])
    assert_allclose(cell.orth_matrix.T, vectors, atol=RTOL_FLAT_CELL * size)
    assert_allclose(cell.frac_matrix, reciprocal, atol=RTOL_FLAT_CELL * np.abs(reciprocal).max())
    assert cell.volume == pytest.approx(np.linalg.det(vectors), rel=RTOL_FLAT_CELL)
    assert_allclose(
        cell.reciprocal_lengths, np.linalg.norm(reciprocal, axis=1), rtol=RTOL_FLAT_CELL
    )


@QUICK
@given(cell=cells(), hkl=miller_indices().filter(any))
def test_spacing_matches_gemmi(cell, hkl):
    expected = gemmi.UnitCell(*cell).calculate_d(hkl)
    assert 1 / np.linalg.norm(hkl @ cell.frac_matrix) == pytest.approx(expected, rel=RTOL_FLAT_CELL)


# --- 3 exact limits ------------------------------------------------------


@QUICK
@given(cell=cells())
def test_fractional_matrix_inverts_the_orthogonalisation(cell):
    assert_allclose(cell.frac_matrix @ cell.orth_matrix, np.eye(3), atol=1e-12)


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        Cell(10.0, 20.0, 30.0, 80.0, 95.0, 100.0),
        gemmi.UnitCell(10, 20, 30, 80, 95, 100),
        [10, 20, 30, 80, 95, 100],
        (10.0, 20.0, 30.0, 80.0, 95.0, 100.0),
        np.array([10, 20, 30, 80, 95, 100], dtype=np.float32),
        "10 20 30 80 95 100",
        "10,20,30,80,95,100",
        ["10", "20", "30", "80", "95", "100"],
    ],
)
def test_every_form_of_a_cell_is_taken(value):
    cell = as_cell(value)
    assert isinstance(cell, Cell)
    assert cell == Cell(10.0, 20.0, 30.0, 80.0, 95.0, 100.0)
    assert cell.parameters == (10.0, 20.0, 30.0, 80.0, 95.0, 100.0)
    assert all(type(x) is float for x in cell)


def test_a_cell_reads_as_edges_and_angles():
    assert (
        str(as_cell((10, 20.5, 30, 80, 95, 100))) == "10.000 20.500 30.000 Å, 80.00 95.00 100.00°"
    )


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "cell must be six numbers.*got None"),
        (10.0, "cell must be six numbers.*got 10.0"),
        ([10, 20, 30], "cell must be six numbers.*got 3"),
        ([10, 20, 30, 90, 90, 90, 90], "got 7"),
        ("10 20 thirty 90 90 90", "six numbers a b c alpha beta gamma, got"),
        ([10, 20, 30, 90, 90, None], "six numbers a b c alpha beta gamma, got"),
        ([0, 20, 30, 90, 90, 90], "edges > 0 Å"),
        ([-10, 20, 30, 90, 90, 90], "edges > 0 Å"),
        ([10, 20, 30, 90, 90, 180], "angles that span a volume"),
        ([10, 20, 30, 0, 90, 90], "angles that span a volume"),
        ([10, 20, 30, 150, 150, 90], "angles that span a volume"),
        ([10, 20, 30, 120, 120, 120], "angles that span a volume"),
        ([10, 20, np.nan, 90, 90, 90], "edges > 0 Å"),
        ([np.inf, 20, 30, 90, 90, 90], "edges > 0 Å"),
        ([10, 20, 30, 90, 90, np.inf], "edges > 0 Å and angles that span a volume"),
    ],
)
def test_a_wrong_cell_is_named(value, message):
    with pytest.raises(InputError, match=message):
        as_cell(value)


BASE = Cell(50.0, 60.0, 70.0, 90.0, 100.0, 90.0)


@pytest.mark.parametrize(("field", "percent"), [("a", 0.6), ("c", -2.9), ("beta", 0.8)])
def test_cells_half_a_percent_apart_give_a_warning(caplog, field, percent):
    other = BASE._replace(**{field: getattr(BASE, field) * (1 + percent / 100)})
    with caplog.at_level(logging.WARNING):
        check_cells_agree(other, BASE, "structure and map")
    (record,) = caplog.records
    assert f"structure and map: cell {field} differs by {abs(percent):.2f} %" in record.getMessage()
    assert "matched by hkl" in record.getMessage()


@pytest.mark.parametrize("percent", [0.0, 0.4, -0.49])
def test_cells_less_apart_pass_in_silence(caplog, percent):
    with caplog.at_level(logging.DEBUG):
        check_cells_agree(BASE._replace(b=60.0 * (1 + percent / 100)), BASE, "structure and map")
    assert not caplog.records


@pytest.mark.parametrize(("field", "percent"), [("a", 3.2), ("b", -10), ("gamma", 4.0)])
def test_cells_three_percent_apart_are_refused(field, percent):
    other = BASE._replace(**{field: getattr(BASE, field) * (1 + percent / 100)})
    with pytest.raises(InputError, match=f"a and b: cell {field} differs by .* expected at most 3"):
        check_cells_agree(other, BASE, "a and b")


def test_the_worst_of_several_differences_is_named():
    with pytest.raises(InputError, match=r"cell c differs by 5\.00 %"):
        check_cells_agree(BASE._replace(a=51.0, c=73.5), BASE, "a and b")
