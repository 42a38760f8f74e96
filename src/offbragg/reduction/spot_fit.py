r"""The shape of spots, see `spot_shape`, fitted to the pixels around nodes of some images.

Photons above their surroundings are the weights of the offsets Δ of pixels from their nodes, within
2.5 standard deviations of the shape found so far: the core of spots, not the halo that scatters
around them. What a pixel counts is the mean over its path p during the exposure, a Gaussian smeared
to C = Σ(q) + ppᵀ/12, of which the window leaves

.. math:: \langle \Delta \Delta^T \rangle = f_\perp \Sigma(q) + g\, p p^T / 12

with f⊥ and g functions of u² = pᵀC⁻¹p/12, how much of the width is the path's. That is solved for
the eight numbers in Σ, linear in them, by weighted least squares, and the window set anew until
nothing changes. m_t and m_r are 0 where they are not clear. Pixels count by their centres, in
images and in the mask alike, so what a pixel's area adds is left in Σ₀; so is what nodes are off
from where their spots are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import ndtr

from offbragg.conventions import BoolArray, FloatArray, IntArray
from offbragg.crystal.cell import Cell
from offbragg.errors import InputError
from offbragg.reduction._spot_kernels import N_SUMS, sum_spots
from offbragg.reduction.spot_pixels import SpotPixels
from offbragg.reduction.spot_shape import SpotShape
from offbragg.runtime import iter_chunks, map_in_order

#: Fewer spots than this tell no shape.
FEWEST_SPOTS = 100
# Standard deviations: spots end at one, surroundings begin. On drawn spots the errors of axes are
# 9 % with a window of 2 and 5 % with 2.5; with 3, the halo around real ones counts as spots.
_WINDOW, _AROUND = 2.5, 3.0
_START = 0.1  # standard deviation to begin with, in every index
_WIDEST = 0.48  # where surroundings may begin at the latest, in any index
_FEWEST_AROUND = 8  # pixels
_SHELLS = 10
_MOST = 20.0  # times the mean of its shell that one spot counts
_SIGNIFICANT = 5.0  # standard deviations above its surroundings
# Windows take whole pixels in, so that the last rounds may go to and fro a little: steps get
# shorter, and what is left of the change, of Σ's trace, is to be small beside the errors of Σ.
_ROUNDS, _TOLERANCE, _UNSETTLED = 40, 2e-3, 0.1
_WHOLE_STEPS = 8
_SMALLEST = 1e-3  # standard deviation in every index, however sharp spots are
_SPOTS_AT_ONCE = 2_000
_POINTS, _TABLE, _LEAST_SHARE = 64, 49, 0.01  # of the integrals over windows
_GROWTH = (0, 1)  # m_t² and m_r²
# m² counts where it is this many of its standard errors, which hold for a given window: that
# follows what is found, and the errors with it are about twice as large.
_CLEAR = 6.0
_SIX = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
_TIMES = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])  # that each of them is in the matrix


def fit_spot_shape(pixels: SpotPixels, cell: Cell) -> SpotShape:
    """Fit the shape of spots to pixels around nodes.

    Parameters
    ----------
    pixels : SpotPixels
    cell : Cell

    Returns
    -------
    SpotShape

    Raises
    ------
    InputError
        If fewer than `FEWEST_SPOTS` stand out of their surroundings, or they are so broad that
        they have none.
    """
    growth: tuple[int, ...] = _GROWTH
    while growth:
        try:
            shape, clear = _settle(pixels, cell, growth)
        except _UnsettledError:
            growth = growth[1:]
            continue
        least = int(np.argmin(clear))
        if clear[least] > _CLEAR:
            return shape
        growth = (*growth[:least], *growth[least + 1 :])
    return _settle(pixels, cell, ())[0]


class _UnsettledError(InputError):
    """A shape that does not settle, or spots that are too broad for it."""


def _settle(
    pixels: SpotPixels, cell: Cell, growth: tuple[int, ...]
) -> tuple[SpotShape, FloatArray]:
    """Fit Σ₀ and some of m_t², m_r²; give these over their standard errors as well."""
    to_hkl: FloatArray = np.asarray(np.linalg.inv(cell.frac_matrix), dtype=np.float64)
    start = cell.frac_matrix.T @ cell.frac_matrix
    # Not from what a fit with more numbers found: where those are not clear, its Σ₀ is too small.
    shape = SpotShape(_START**2 * start)
    inv_d, grown = np.linalg.norm(pixels.q, axis=1), _growth_of(pixels.q)
    # Shells of as many nodes each.
    rank = np.argsort(np.argsort(inv_d)).astype(np.int64)
    shell = rank * _SHELLS // max(1, len(inv_d))
    change, clear = np.inf, np.zeros(len(growth))
    for number in range(_ROUNDS):
        seen = _Sums.of(pixels, shape, to_hkl)
        n_spots = int(np.count_nonzero(seen.used & (seen.excess > _SIGNIFICANT * seen.sigma)))
        if n_spots < FEWEST_SPOTS:
            raise _UnsettledError(
                f"the shape of spots needs {FEWEST_SPOTS} or more that stand out, got {n_spots} of "
                f"{len(inv_d)} nodes"
            )
        weight = _weights(seen, shell)
        found, clear = _solve(seen, grown, weight, n_spots, _SMALLEST**2 * start, growth)
        reach = _AROUND * np.sqrt(np.diag(to_hkl.T @ found.covariance @ to_hkl))
        if reach.max() > _WIDEST:
            raise _UnsettledError(
                "the shape of spots needs those that stand apart, got standard deviations of "
                f"{np.round(reach / _AROUND, 3).tolist()} in h, k, l"
            )
        change = _change(shape, found, inv_d)
        shape = _between(shape, found, min(1.0, _WHOLE_STEPS / (number + 1)))
        if change < _TOLERANCE:
            break
    if change > _UNSETTLED:
        raise _UnsettledError(f"the shape of spots does not settle, {shape}")
    return shape, clear


@dataclass(frozen=True, eq=False)
class _Sums:
    """What the windows of all spots hold: excess (n,), its σ (n,), moments (n, 6)."""

    covariance: FloatArray  # C of the window
    paths: FloatArray  # ppᵀ/12
    share: FloatArray  # u
    used: BoolArray
    excess: FloatArray
    sigma: FloatArray
    moments: FloatArray

    @classmethod
    def of(cls, pixels: SpotPixels, shape: SpotShape, to_hkl: FloatArray) -> _Sums:
        paths = pixels.paths[:, :, None] * pixels.paths[:, None, :] / 12
        covariance = shape.at(pixels.q) + paths
        inverse = np.linalg.inv(covariance)
        sums = np.empty((len(pixels.q), N_SUMS))

        def add(part: slice) -> None:
            ends = pixels.begins[part.start : part.stop + 1]
            limits = (_WINDOW**2, _AROUND**2)
            sum_spots(pixels.offsets, pixels.photons, ends, inverse[part], limits, sums[part])

        for _ in map_in_order(add, iter_chunks(len(pixels.q), _SPOTS_AT_ONCE)):
            pass
        variances = np.sum((covariance @ to_hkl) * to_hkl, axis=1)
        reach = _AROUND * np.sqrt(variances.max(axis=1))
        n, total, n_around, around = sums[:, 0], sums[:, 1], sums[:, 14], sums[:, 15]
        used = (reach < _WIDEST) & (n_around >= _FEWEST_AROUND) & (n > 0)
        level = around / np.maximum(n_around, 1)
        moments = sums[:, 8:14] - level[:, None] * sums[:, 2:8]
        variance = (
            np.maximum(total, 1) + n**2 * np.maximum(around, 1) / np.maximum(n_around, 1) ** 2
        )
        u = np.sqrt(np.einsum("nxy,nyx->n", inverse, paths))
        return cls(covariance, paths, u, used, total - level * n, np.sqrt(variance), moments)


def _weights(seen: _Sums, shell: IntArray) -> FloatArray:
    """Weight (n,) of each spot's moments: those of its shell, less where it is far brighter."""
    used = seen.used.astype(float)
    n = np.maximum(np.bincount(shell, used, _SHELLS), 1)
    mean = np.bincount(shell, used * seen.excess, _SHELLS) / n
    most = _MOST * np.maximum(mean, 0)[shell]
    weight = used * np.where(seen.excess > most, most / np.maximum(seen.excess, 1e-300), 1.0)
    square = np.bincount(shell, weight * seen.excess**2, _SHELLS) / n
    weight *= (np.maximum(mean, 0) / np.maximum(square, 1e-300))[shell]
    scale: FloatArray = np.trace(seen.covariance, axis1=1, axis2=2)
    return weight / scale**2


def _solve(
    seen: _Sums,
    grown: FloatArray,
    weight: FloatArray,
    n_spots: int,
    smallest: FloatArray,
    growth: tuple[int, ...],
) -> tuple[SpotShape, FloatArray]:
    """Least squares for Σ₀ and some of m_t², m_r²; and these over their standard errors.

    ``grown`` (n_spots, 2, 6) is what m_t² and m_r² are multiplied with. A sum over all elements of
    symmetric matrices is one over six, those off the diagonal twice.
    """
    kept, of_path = _kept(seen.share)
    target = weight[:, None] * (seen.moments - (seen.excess * of_path)[:, None] * _six(seen.paths))
    excess = weight * seen.excess * kept
    more = grown[:, growth]
    n_all = 6 + len(growth)
    normal, right = np.zeros((n_all, n_all)), np.empty(n_all)
    normal[:6, :6] = np.diag(_TIMES * excess.sum())
    normal[6:, :6] = np.tensordot(excess, more, 1) * _TIMES
    normal[:6, 6:] = normal[6:, :6].T
    normal[6:, 6:] = np.einsum("nai,nbi->ab", more * (excess[:, None, None] * _TIMES), more)
    right[:6] = _TIMES * target.sum(axis=0)
    right[6:] = np.einsum("nai,ni->a", more, target * _TIMES)
    inverse = np.linalg.inv(normal)
    part = inverse @ right
    # Errors by what single spots, each with a weight of its own, leave of the equations.
    model = part[:6] + np.einsum("a,nai->ni", part[6:], more)
    left = _TIMES * (target - excess[:, None] * model)
    scores = left @ inverse[:6, 6:] + np.einsum("nai,ni->na", more, left) @ inverse[6:, 6:]
    clear = part[6:] / np.sqrt(np.sum(scores**2, axis=0))
    rms = np.zeros(2)
    rms[list(growth)] = np.sqrt(np.maximum(part[6:], 0.0))
    covariance = _at_least(_matrices(part[:6]), smallest)
    return SpotShape(covariance, float(rms[0]), float(rms[1]), n_spots), clear


def _six(matrices: FloatArray) -> FloatArray:
    """Elements (..., 6) of symmetric matrices (..., 3, 3): 00 11 22 01 02 12."""
    rows, columns = np.transpose(_SIX)
    found: FloatArray = matrices[..., rows, columns]
    return found


def _matrices(six: FloatArray) -> FloatArray:
    """Symmetric matrices (..., 3, 3) from their elements (..., 6)."""
    found: FloatArray = six[..., [[0, 3, 4], [3, 1, 5], [4, 5, 2]]]
    return found


def _growth_of(q: FloatArray) -> FloatArray:
    """What m_t² and m_r² are multiplied with, (n, 2, 6), at q (n, 3)."""
    zero = np.zeros((3, 3))
    return np.stack([_six(SpotShape(zero, *one).at(q)) for one in ((1.0, 0.0), (0.0, 1.0))], axis=1)


def _kept(share: FloatArray) -> tuple[FloatArray, FloatArray]:
    """f⊥ and g (n,), from a table in u (n,), 0 to 1.

    In units of C's standard deviations it is a ball's part of a Gaussian that has the variance
    1 − u² along the path, smeared by a box of √12 u, and 1 across it.
    """
    table, f, g = _kept_table()
    return np.interp(share, table, f), np.interp(share, table, g)


@cache
def _kept_table() -> tuple[FloatArray, FloatArray, FloatArray]:
    """u, f⊥ and g."""
    nodes, weights = np.polynomial.legendre.leggauss(_POINTS)
    x = _WINDOW * nodes
    outside = np.exp(-(_WINDOW**2 - x**2) / 2)  # of what is across
    inside_square = 1 - outside * (1 + (_WINDOW**2 - x**2) / 2)
    table = np.linspace(_LEAST_SHARE, 1 - _LEAST_SHARE, _TABLE)
    rows = []
    for u in table:
        half, sigma = np.sqrt(3) * u, np.sqrt(1 - u**2)
        along = weights * (ndtr((x + half) / sigma) - ndtr((x - half) / sigma))
        total = np.sum(along * (1 - outside))
        across = np.sum(along * inside_square) / total
        own = np.sum(along * x**2 * (1 - outside)) / total
        rows.append((across, across + (own - across) / u**2))
    f, g = np.array(rows).T
    return table, f, g


def _at_least(covariance: FloatArray, smallest: FloatArray) -> FloatArray:
    """Raise what is below the smallest covariance, along the axes of the two."""
    root = np.linalg.cholesky(smallest)
    inverse = np.linalg.inv(root)
    values, vectors = np.linalg.eigh(inverse @ covariance @ inverse.T)
    axes = root @ vectors
    raised: FloatArray = (axes * np.maximum(values, 1.0)) @ axes.T
    return raised


def _between(old: SpotShape, new: SpotShape, step: float) -> SpotShape:
    """Go a part of the way from one shape to another, in variances."""

    def mixed(a: float, b: float) -> float:
        return float(np.sqrt((1 - step) * a**2 + step * b**2))

    return SpotShape(
        (1 - step) * old.covariance + step * new.covariance,
        mixed(old.mosaic, new.mosaic),
        mixed(old.spread, new.spread),
        new.n_spots,
    )


def _change(one: SpotShape, other: SpotShape, inv_d: FloatArray) -> float:
    """Largest relative change of Σ, at the middle of reciprocal space and at its edge."""
    largest = 0.0
    for axis in np.eye(3):
        for q in (0.0 * axis, float(np.max(inv_d)) * axis):
            a, b = one.at(q), other.at(q)
            largest = max(largest, float(np.abs(a - b).max() / np.trace(b)))
    return largest
