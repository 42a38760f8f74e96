"""`BlockRidge`: solutions and left-out predictions against fits made one by one."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg.inference.block_ridge import BlockRidge

# Of the data: normal equations in double precision, with a jitter of 1e-10.
RTOL = 1e-6
PENALTY = 2.5


@pytest.fixture(scope="module")
def ridge():
    rng = np.random.default_rng(0)
    columns = rng.normal(size=(60, 8))
    data = columns @ rng.normal(size=8) + rng.normal(size=60)
    block = rng.permutation(np.arange(60) // 7)
    return BlockRidge.of(columns, data, np.arange(8) >= 3, block)


def solved(ridge, rows, penalty=PENALTY):
    """Least squares with the penalty as further rows."""
    extra = np.sqrt(penalty) * np.eye(ridge.n_columns)[ridge.is_penalised]
    columns = np.concatenate([ridge.columns[rows], extra])
    data = np.concatenate([ridge.data[rows], np.zeros(len(extra))])
    return np.linalg.lstsq(columns, data)[0]


def test_solution_is_least_squares_with_rows_for_the_penalty(ridge):
    every = np.ones(60, dtype=bool)
    assert_allclose(ridge.solve(PENALTY), solved(ridge, every), rtol=RTOL)


@pytest.mark.parametrize("counted", [None, np.arange(8) > 1])
def test_left_out_predictions_are_those_of_fits_without_the_block(ridge, counted):
    found = ridge.predict_left_out(PENALTY, counted)
    chosen = np.ones(8, dtype=bool) if counted is None else counted
    for block in np.unique(ridge.block):
        held = ridge.block == block
        theta = solved(ridge, ~held)
        expected = ridge.columns[held][:, chosen] @ theta[chosen]
        assert_allclose(found[held], expected, rtol=RTOL, atol=RTOL)


def test_whole_weights_count_rows_several_times(ridge):
    times = np.random.default_rng(1).integers(0, 3, 60)
    repeated = BlockRidge.of(
        np.repeat(ridge.columns, times, axis=0), np.repeat(ridge.data, times),
        ridge.is_penalised, np.repeat(ridge.block, times),
    )  # fmt: skip
    weighted = ridge.solve(PENALTY, times.astype(float))
    assert_allclose(weighted, repeated.solve(PENALTY), rtol=RTOL)


def test_parts_of_the_problem_are_problems_of_their_own(ridge):
    rows, columns = ridge.block > 2, np.arange(8) != 4
    part = ridge.take(rows).keep(columns)
    anew = BlockRidge.of(
        ridge.columns[rows][:, columns], ridge.data[rows], ridge.is_penalised[columns],
        ridge.block[rows],
    )  # fmt: skip
    assert_allclose(part.solve(PENALTY), anew.solve(PENALTY), rtol=RTOL)
    other = ridge.with_data(2.0 * ridge.data)
    assert_allclose(other.solve(PENALTY), 2.0 * ridge.solve(PENALTY), rtol=RTOL)


def test_spectrum_goes_from_all_numbers_to_none(ridge):
    shares = [ridge.spectrum(x).sum() for x in (1e-9, ridge.unit_penalty, 1e12)]
    assert shares[0] == pytest.approx(5.0)
    assert shares[2] == pytest.approx(0.0, abs=1e-6)
    assert 1.0 < shares[1] < 4.0


def test_a_column_without_rows_does_no_harm(ridge):
    columns = np.column_stack([ridge.columns, (ridge.block == 0).astype(float)])
    wider = BlockRidge.of(columns, ridge.data, np.arange(9) >= 3, ridge.block)
    free = np.append(ridge.is_penalised, False)
    wider = BlockRidge.of(columns, ridge.data, free, ridge.block)
    held = ridge.block != 0
    found = wider.take(held).solve(PENALTY)
    assert_allclose(found[:8], ridge.take(held).solve(PENALTY), rtol=RTOL)
    assert np.all(np.isfinite(wider.predict_left_out(PENALTY)))
