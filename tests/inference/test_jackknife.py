"""The jackknife of correlations: blocks left out one by one, and coverage of its errors."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg.inference.jackknife import (
    correlation_without_blocks,
    jackknife_difference,
    jackknife_error,
)
from offbragg.maps.shells import shell_mean

RTOL_SUMS = 1e-9  # the same sums in another order
# Of 400 intervals of 1.96 errors: 95 % ± 1.1 %, less the little that 40 blocks cost.
COVERAGE = (0.915, 0.985)
N_REPEATS = 400


def made(seed, n=600, n_shells=7, n_blocks=23):
    """Values with large isotropic parts, in blocks that span shells."""
    rng = np.random.default_rng(seed)
    shell = np.sort(rng.integers(0, n_shells, n))
    x = 1e3 * rng.normal(size=n_shells)[shell] + rng.normal(size=n)
    y = 50.0 * rng.normal(size=n_shells)[shell] + 0.5 * x + rng.normal(size=n)
    return x, y, shell, rng.integers(0, n_blocks, n), rng.integers(1, 5, n).astype(float)


def correlation_by_hand(x, y, shell, weights):
    """Weighted correlation of what is left over the means of shells."""
    parts = [v - shell_mean(v, shell, shell.max() + 1, weights)[shell] for v in (x, y)]
    xx, yy, xy = (np.sum(weights * a * b) for a, b in (
        (parts[0], parts[0]), (parts[1], parts[1]), (parts[0], parts[1])))  # fmt: skip
    return xy / np.sqrt(xx * yy)


def correlated_fields(rng, n_blocks=40, size=12):
    """Data and two predictions, equally good, each off by a field that varies across blocks."""
    block = np.repeat(np.arange(n_blocks), size)
    shape = (n_blocks, size)

    def field():
        # Three quarters of the variance is common to a block.
        common = rng.normal(size=(n_blocks, 1)) * np.ones(shape)
        return (np.sqrt(0.75) * common + np.sqrt(0.25) * rng.normal(size=shape)).ravel()

    data = field()
    return data, data + field(), data + field(), block


# --- 1 reference numbers -------------------------------------------------


def test_the_error_of_a_mean_is_the_textbooks():
    # The jackknife of a mean is exactly s / √n.
    values = np.random.default_rng(0).normal(size=17)
    without = (values.sum() - values) / 16
    assert jackknife_error(without) == pytest.approx(values.std(ddof=1) / np.sqrt(17))


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_leaving_blocks_out_is_doing_it_again_without_them(seed):
    x, y, shell, block, weights = made(seed)
    cc, without = correlation_without_blocks(x, y, shell, block, weights)
    assert cc == pytest.approx(correlation_by_hand(x, y, shell, weights), rel=RTOL_SUMS)
    expected = [
        correlation_by_hand(x[kept], y[kept], shell[kept], weights[kept])
        for kept in (block != b for b in range(block.max() + 1))
    ]
    assert_allclose(without, expected, rtol=RTOL_SUMS)


def test_differences_are_of_the_same_blocks():
    x, y, shell, block, weights = made(2)
    one, other = (
        correlation_without_blocks(x, values, shell, block, weights)
        for values in (y, y + np.random.default_rng(3).normal(size=len(y)))
    )
    difference, error = jackknife_difference(one, other)
    assert difference == one[0] - other[0]
    assert error == jackknife_error(one[1] - other[1])
    # Both rise and fall with the same blocks: the difference is surer than either.
    assert error < np.hypot(jackknife_error(one[1]), jackknife_error(other[1]))


def test_errors_cover_the_truth_where_voxels_of_a_block_are_correlated():
    # Both predictions are as good: the true difference is 0.
    rng = np.random.default_rng(4)
    hits = {"blocks": 0, "voxels": 0}
    for _ in range(N_REPEATS):
        data, one, other, block = correlated_fields(rng)
        shell, weights = np.zeros(len(data), dtype=int), np.ones(len(data))
        for name, groups in (("blocks", block), ("voxels", np.arange(len(data)))):
            a, b = (
                correlation_without_blocks(data, x, shell, groups, weights) for x in (one, other)
            )
            difference, error = jackknife_difference(a, b)
            hits[name] += abs(difference) < 1.96 * error
    assert COVERAGE[0] < hits["blocks"] / N_REPEATS < COVERAGE[1]
    # Voxels that are taken one by one promise too much.
    assert hits["voxels"] / N_REPEATS < 0.7


# --- 3 exact limits ------------------------------------------------------


def test_what_does_not_vary_has_no_correlation():
    x, _, shell, block, weights = made(5)
    flat = np.linspace(1, 2, shell.max() + 1)[shell]
    cc, without = correlation_without_blocks(x, flat, shell, block, weights)
    assert cc == 0.0
    assert not without.any()
    assert jackknife_difference((cc, without), (cc, without)) == (0.0, 0.0)


def test_a_shell_of_one_block_goes_with_it():
    shell, block = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 2, 2])
    x = np.array([1.0, 2.0, 3.0, 5.0, 1.0, 2.0])
    y = np.array([1.0, 2.5, 3.0, 5.0, 9.0, 2.0])
    cc, without = correlation_without_blocks(x, y, shell, block, np.ones(6))
    inner = np.corrcoef(x[:4], y[:4])[0, 1]
    assert without[2] == pytest.approx(inner)
    assert cc < inner
