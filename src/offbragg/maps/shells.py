"""Shells of resolution: the isotropic part of a map, shells of tables, correlations by shell.

Scope: NumPy arrays in, NumPy arrays out; any shape, sums in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import ISOTROPIC_SHELL_WIDTH, BoolArray, FloatArray, IntArray
from offbragg.errors import InputError

#: Shells of a table, of equal volume.
N_SHELLS = 10

# Equivalent voxels have the same 1/d but for rounding: this far below an edge is on the edge.
_EDGE_TOLERANCE = 1e-9
#: Residuals and spreads this small against the values themselves are rounding, not signal.
ROUNDING = 1e-11


def isotropic_shells(inv_d: FloatArray, width: float = ISOTROPIC_SHELL_WIDTH) -> IntArray:
    """Number the shells of equal width in 1/d that voxels lie in, from 0 at the origin.

    Parameters
    ----------
    inv_d : ndarray, any shape, float64
        1/d [Å⁻¹].
    width : float
        Width of a shell [Å⁻¹, in 1/d].

    Returns
    -------
    ndarray, shape of ``inv_d``, int64
        Equivalent voxels get the same shell: the lower edge counts from 1e-9 of a width below it.

    Examples
    --------
    >>> isotropic_shells(np.array([0.0, 0.005, 0.29, 0.305])).tolist()
    [0, 0, 29, 30]
    """
    if not width > 0:
        raise InputError(f"width must be > 0 Å⁻¹, got {width}")
    return np.floor(inv_d / width + _EDGE_TOLERANCE).astype(np.int64)


def shell_mean(
    values: FloatArray, shell: IntArray, n_shells: int, weights: FloatArray | None = None
) -> FloatArray:
    """Mean of the values (n,) in each shell, shape (n_shells,); NaN where a shell is empty."""
    if weights is None:
        return divide(np.bincount(shell, values, n_shells), np.bincount(shell, minlength=n_shells))
    sums = np.bincount(shell, weights * values, n_shells)
    return divide(sums, np.bincount(shell, weights, n_shells))


def divide(numerator: NDArray[np.number], denominator: NDArray[np.number]) -> FloatArray:
    """Quotient of two arrays of one shape, NaN where the denominator is 0."""
    quotient = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=quotient, where=np.asarray(denominator) != 0)
    return quotient


def anisotropic_part(
    intensity: NDArray[np.floating],
    inv_d: FloatArray,
    mask: BoolArray | None = None,
    width: float = ISOTROPIC_SHELL_WIDTH,
) -> FloatArray:
    """Intensity minus its mean in shells of equal width in 1/d.

    Parameters
    ----------
    intensity : ndarray, any shape
    inv_d : ndarray, same shape, float64
        1/d [Å⁻¹].
    mask : ndarray of bool, same shape, optional
        Voxels that count: where two maps are compared, those measured in *both*. None: the
        finite ones.
    width : float
        Width of a shell [Å⁻¹, in 1/d]. Correlations move by 0.2 with it: the convention is 0.01.

    Returns
    -------
    ndarray, same shape, float64
        NaN outside the mask. Residuals at the level of rounding are 0, so that an isotropic map
        has no anisotropic part.

    Examples
    --------
    >>> anisotropic_part(np.array([1.0, 3.0, 5.0]), np.array([0.101, 0.109, 0.2])).tolist()
    [-1.0, 1.0, 0.0]
    """
    if np.shape(intensity) != np.shape(inv_d):
        raise InputError(
            f"inv_d must have the intensity's shape {np.shape(intensity)}, got {np.shape(inv_d)}"
        )
    mask = np.isfinite(intensity) if mask is None else mask
    values = np.asarray(intensity[mask], dtype=np.float64)
    shell = isotropic_shells(inv_d[mask], width)
    n_shells = int(shell.max(initial=-1)) + 1
    residual = values - shell_mean(values, shell, n_shells)[shell]
    level = np.sqrt(shell_mean(values**2, shell, n_shells))[shell]
    residual[np.abs(residual) <= ROUNDING * level] = 0.0
    part = np.full(np.shape(intensity), np.nan)
    part[mask] = residual
    return part


@dataclass(frozen=True)
class ResolutionShells:
    """Shells of equal volume of reciprocal space.

    Attributes
    ----------
    index : ndarray, int64
        Shell of each voxel, 0 the one of lowest resolution.
    d_max, d_min : ndarray, shape (n_shells,), float64
        Limits of the shells [Å].
    """

    index: IntArray
    d_max: FloatArray
    d_min: FloatArray

    @property
    def n_shells(self) -> int:
        """Number of shells."""
        return len(self.d_min)


def resolution_shells(
    inv_d: FloatArray, n_shells: int, limits: tuple[float, float] | None = None
) -> ResolutionShells:
    """Cut voxels into shells of equal volume, by 1/d³, between the first and the last of them.

    Parameters
    ----------
    inv_d : ndarray, any shape, float64
        1/d [Å⁻¹] of the voxels to cut up. The origin goes to the first shell and sets no limit.
    n_shells : int
    limits : tuple of 2 float, optional
        Lowest and highest 1/d [Å⁻¹] of the shells, in place of the voxels' own; what lies outside
        goes to the ends.

    Raises
    ------
    InputError
        If ``n_shells`` is less than 1 or there are no voxels.

    Examples
    --------
    >>> shells = resolution_shells(np.array([0.0, 0.1, 0.15, 0.2]), 2)
    >>> shells.index.tolist(), shells.d_max.round(2).tolist()
    ([0, 0, 0, 1], [10.0, 6.06])
    """
    if n_shells < 1:
        raise InputError(f"n_shells must be >= 1, got {n_shells}")
    if inv_d.size == 0:
        raise InputError("resolution shells: expected at least one voxel, got none")
    if limits is None:
        highest = float(inv_d.max())
        lowest = float(inv_d.min(where=inv_d > 0, initial=highest))
    else:
        lowest, highest = limits
    edges = np.cbrt(np.linspace(lowest**3, highest**3, n_shells + 1))
    edges[0], edges[-1] = lowest, highest
    with np.errstate(divide="ignore"):
        d = 1.0 / edges
    return ResolutionShells(shell_of(inv_d, lowest, highest, n_shells), d[:-1], d[1:])


def shell_of(inv_d: FloatArray, lowest: float, highest: float, n_shells: int) -> IntArray:
    """Shell of equal volume between two values of 1/d [Å⁻¹]; what lies outside goes to the ends."""
    span = highest**3 - lowest**3
    if span <= 0:
        return np.zeros(inv_d.shape, dtype=np.int64)
    position = n_shells * (inv_d**3 - lowest**3) / span
    return np.clip(np.floor(position + _EDGE_TOLERANCE).astype(np.int64), 0, n_shells - 1)


def shell_correlation(
    x: FloatArray,
    y: FloatArray,
    shell: IntArray,
    n_shells: int,
    weights: FloatArray | None = None,
) -> FloatArray:
    r"""Pearson correlation of two sets of values in each shell.

    .. math:: C = \frac{\sum w (x - \bar x)(y - \bar y)}
              {\sqrt{\sum w (x - \bar x)^2 \, \sum w (y - \bar y)^2}}

    Parameters
    ----------
    x, y : ndarray, shape (n,), float64
    shell : ndarray, shape (n,), int64
    n_shells : int
    weights : ndarray, shape (n,), float64, optional
        None: all 1.

    Returns
    -------
    ndarray, shape (n_shells,), float64
        NaN where x or y does not vary, or a shell is empty.

    Examples
    --------
    >>> x, y = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])
    >>> shell_correlation(x, y, np.zeros(3, dtype=int), 1).round(6).tolist()
    [1.0]
    """
    w = np.ones(len(x)) if weights is None else weights
    total = np.bincount(shell, w, n_shells)
    centred, spread = [], []
    for values in (x, y):
        mean = divide(np.bincount(shell, w * values, n_shells), total)
        residual = values - mean[shell]
        square = np.bincount(shell, w * residual**2, n_shells)
        level = np.bincount(shell, w * values**2, n_shells)
        centred.append(residual)
        spread.append(np.where(square > ROUNDING**2 * level, square, 0.0))
    product = np.bincount(shell, w * centred[0] * centred[1], n_shells)
    return divide(product, np.sqrt(spread[0]) * np.sqrt(spread[1]))
