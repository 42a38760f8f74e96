r"""Panels of scattered q, by \|q\|², on which a few matrices of exponentials serve all q.

.. math:: G_{ij}(x) = e^{-x (\bar v_{ij} - v_{ij})} - e^{-x \bar v_{ij}}
          = x \int_{\bar v_{ij} - v_{ij}}^{\bar v_{ij}} \pm e^{-x s}\, ds,
          \quad x = q^2, \quad \bar v_{ij} = \tfrac12 (v_{ii} + v_{jj})

Interpolated from p nodes in x is ``G e^{x(c_i + c_j)} / x`` with ``c_i = v_ii/4``: the exponents s
then lie around 0, the error vanishes like the intensity at small q, and it is relative for every
pair. Chebyshev nodes on a panel of width h leave at most

.. math:: \frac{2}{p!} \left(\frac{h}{4}\right)^p \max \left|s - c_i - c_j\right|^p
          e^{h \left|s - c_i - c_j\right|}

of each element (remainder of interpolation; \|s\|ᵖ averaged over pairs with their own weight).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import lambertw

from offbragg.conventions import FloatArray, IntArray
from offbragg.errors import InputError
from offbragg.scattering import _gemm_kernels as kernels

# Most nodes a panel, and values of x at which the spread of exponents is taken.
_MOST_NODES, _N_SAMPLES = 8, 6
# Least spread of exponents [Å²] that is told from none.
_LEAST_SPREAD = 1e-9
# Below this |q| [Å⁻¹] waves from a whole molecule are in phase: errors of pairs add up, while
# what correlated atoms scatter cancels: the tolerance is of what atoms scatter by themselves.
_COHERENT = 2 * math.pi / 8.0
# Less is rounding.
_LEAST_TOLERANCE = 1e-14
# Times in units of one floating-point operation of a matrix product: an element of a node's matrix,
# and what starting the products of a node costs besides.
_ELEMENT_COST, _NODE_COST = 150.0, 3e7
# Rows of q at most in one product: beyond, nothing is gained.
_MOST_ROWS = 4096
# Columns of the matrices at least in one product, where memory allows no more.
_LEAST_WIDTH = 8
# Threads, the most that memory allows; rows of q that make several worth while.
_WORKERS, _ENOUGH_ROWS = (8, 4, 2, 1), 256


@dataclass(frozen=True, eq=False)
class Panel:
    """Neighbouring values of x = q² and the nodes that serve them.

    Attributes
    ----------
    rows : ndarray, shape (m,), int64
        Which q.
    shift : ndarray, shape (m,)
        x less ``centre`` [Å⁻²].
    centre : float
        Where the factors exp(−x c_i) are 1 [Å⁻²].
    nodes : ndarray, shape (n_nodes,)
        x_k [Å⁻²].
    weights : ndarray, shape (n_nodes, m)
        Lagrange polynomials L_k(x) times x / x_k.
    """

    rows: IntArray
    shift: FloatArray
    centre: float
    nodes: FloatArray
    weights: FloatArray


@dataclass(frozen=True, eq=False)
class GemmPlan:
    r"""Panels that cover all q, and how matrices are cut.

    Attributes
    ----------
    panels : tuple of Panel
        In the order of \|q\|.
    n_atoms : int
    width : int
        Columns of the matrices made and multiplied at once.
    n_workers : int
        Threads at most.
    """

    panels: tuple[Panel, ...]
    n_atoms: int
    width: int
    n_workers: int = 1

    @property
    def n_nodes(self) -> int:
        """Matrices of exponentials in all."""
        return sum(len(panel.nodes) for panel in self.panels)

    @property
    def n_flops(self) -> float:
        """Floating-point operations of the matrix products of one intensity (or gradient).

        The matrices are symmetric: only the blocks on and below the diagonal are multiplied.
        """
        elements = sum((self.n_atoms - first) * (last - first) for first, last in self.columns())
        return float(sum(4 * elements * panel.weights.size for panel in self.panels))

    @property
    def n_panels_at_once(self) -> int:
        """Panels that strips are being made or waited for of, with two strips ahead a thread."""
        return 2 + 2 * self.n_workers // max(len(self.columns()), 1)

    def columns(self) -> list[tuple[int, int]]:
        """First and last column of each strip of the matrices."""
        starts = range(0, self.n_atoms, self.width)
        return [(first, min(first + self.width, self.n_atoms)) for first in starts]

    @classmethod
    def build(
        cls,
        q: FloatArray,
        form_factors: NDArray[np.inexact],
        covariance: FloatArray,
        rtol: float = 1e-6,
        max_memory: float = 2e9,
    ) -> GemmPlan:
        r"""Choose panels, and the number of nodes of each, so that total work is least.

        Parameters
        ----------
        q : ndarray, shape (n_q, 3), float64
            Scattering vectors [Å⁻¹], 2π included.
        form_factors : ndarray, shape (n_q, n_atoms), float64 or complex128
            At ``q`` [electrons]; their mean size weighs the pairs.
        covariance : ndarray, shape (n_atoms, n_atoms), float64
            Isotropic V [Å²].
        rtol : float
            Bound of the error, as a fraction of ``Σ_ij |a_i a_j (e^{q²v_ij} − 1)|``; where d > 8 Å,
            of ``Σ_i`` alone, on average over the pairs.
        max_memory : float
            Bytes that the blocks of q may take.

        Returns
        -------
        GemmPlan

        Raises
        ------
        InputError
            If ``rtol`` is not between 0 and 1, or not even one q fits in ``max_memory``.

        Notes
        -----
        Time O(n_q + n_atoms²), of n_atoms² as much as some 20 nodes. q of one \|q\|, to rounding,
        share one node.

        References
        ----------
        .. [1] L. N. Trefethen, Approximation Theory and Approximation Practice, SIAM 2013,
           theorem 11.1 (Hermite's form of the remainder).

        Examples
        --------
        >>> q = np.array([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]])
        >>> GemmPlan.build(q, np.ones((2, 3)), 0.1 * np.eye(3)).n_nodes
        1
        """
        if not 0 < rtol < 1:
            raise InputError(f"rtol must be between 0 and 1, got {rtol}")
        n_atoms = len(covariance)
        width, n_workers, most_rows = _cut(n_atoms, max_memory)
        x = np.einsum("qx,qx->q", q, q)
        order = np.argsort(x, kind="stable")
        x = x[order]
        if n_atoms == 0 or len(x) == 0:
            return cls((), n_atoms, width, n_workers)
        sizes = _mean_sizes(form_factors)
        reach = _reach(x, _widths(x, sizes, covariance, rtol))
        node_cost = _NODE_COST + 0.5 * _ELEMENT_COST * n_atoms**2
        starts, orders = kernels.cheapest_panels(
            reach, node_cost, 2.0 * n_atoms * (n_atoms + width)
        )
        panels: list[Panel] = []
        for (start, stop), n_nodes in zip(pairwise(starts), orders, strict=True):
            n_parts = -(-(stop - start) // most_rows)
            cuts = [start + (stop - start) * part // n_parts for part in range(n_parts + 1)]
            nodes = _chebyshev(x[start], x[stop - 1], int(n_nodes))
            centre = 0.5 * float(x[start] + x[stop - 1])
            for first, last in pairwise(cuts):
                own = x[first:last]
                weights = _lagrange(own, nodes)
                panels.append(Panel(order[first:last], own - centre, centre, nodes, weights))
        return cls(tuple(panels), n_atoms, width, n_workers)


def _cut(n_atoms: int, max_memory: float) -> tuple[int, int, int]:
    """Columns of a strip, threads at most and rows at most that memory allows.

    By memory alone, not by how many processors there are: that must not decide how sums are cut.
    """
    for n_workers in _WORKERS:
        width = min(max(n_atoms // 8, 32), 256)
        # Matrices and gradients of strips: one, and up to three results, a thread.
        a_column = 8.0 * n_atoms * (_MOST_NODES + 3) * n_workers
        while width > _LEAST_WIDTH and a_column * width > 0.3 * max_memory:
            width //= 2
        plan = GemmPlan((), n_atoms, width, n_workers)
        # Amplitudes of the panels that are being worked on, products of each thread.
        a_row = 16.0 * n_atoms * plan.n_panels_at_once + 16.0 * width * _MOST_NODES * n_workers
        most_rows = min(int((max_memory - a_column * width) / a_row), _MOST_ROWS)
        if most_rows >= (_ENOUGH_ROWS if n_workers > 1 else 1):
            return width, n_workers, most_rows
    needed = a_column * width + a_row
    raise InputError(f"max_memory must be at least {needed:.3g} bytes, got {max_memory:.3g}")


def _mean_sizes(form_factors: NDArray[np.inexact]) -> FloatArray:
    """Root mean square of each atom's form factors, (n_atoms,)."""
    square = np.einsum("qi,qi->i", form_factors.real, form_factors.real)
    if np.iscomplexobj(form_factors):
        square = square + np.einsum("qi,qi->i", form_factors.imag, form_factors.imag)
    sizes: FloatArray = np.sqrt(square / len(form_factors))
    return sizes


def _widths(x: FloatArray, sizes: FloatArray, v: FloatArray, rtol: float) -> FloatArray:
    """Widest panels (n_orders, n) that may begin at each of the sorted x, at orders 1, 2, …."""
    samples = np.linspace(x[0], x[-1], _N_SAMPLES)
    sums = kernels.pair_moments(v, sizes, np.maximum(samples, 1e-9), _MOST_NODES).sum(axis=0)
    # Means of |s|^p, weighted by |G|, by E and by the self terms, whichever is the largest.
    means = (sums / np.maximum(sums[:, :, :1], np.finfo(float).tiny)).max(axis=1)
    # Atoms by themselves scatter this share of what all pairs would, none cancelling another.
    alone = sums[:, 2, 0] / np.maximum(sums[:, 0, 0], np.finfo(float).tiny)
    is_coherent = x < _COHERENT**2
    tolerance = rtol * np.where(is_coherent, np.interp(x, samples, np.minimum(alone, 1.0)), 1.0)
    tolerance = np.maximum(tolerance, _LEAST_TOLERANCE)
    own = np.diag(v)
    mean = 0.5 * (own[:, None] + own)
    furthest = max(np.max(np.abs(0.5 * mean - v)), np.max(0.5 * mean), _LEAST_SPREAD)
    widths = np.empty((_MOST_NODES, len(x)))
    for p in range(1, _MOST_NODES + 1):
        spread = np.interp(x, samples, np.maximum(means[:, p] ** (1 / p), _LEAST_SPREAD))
        # (h/4) |s| exp(h furthest / p) = (rtol p! / 2)^(1/p)
        to_first_order = 4 * (0.5 * tolerance * math.factorial(p)) ** (1 / p) / spread
        rate = furthest / p
        widths[p - 1] = lambertw(rate * to_first_order).real / rate
    return widths


def _reach(x: FloatArray, widths: FloatArray) -> IntArray:
    """Index (n_orders, n) of the first x beyond each panel."""
    # Values equal to rounding belong together.
    ends = x + np.maximum(widths, 1e-14 * x)
    return np.searchsorted(x, ends, side="right").astype(np.int64)


def _chebyshev(low: float, high: float, n_nodes: int) -> FloatArray:
    """Chebyshev nodes of an interval."""
    angles = np.pi * (np.arange(n_nodes) + 0.5) / n_nodes
    nodes: FloatArray = 0.5 * (low + high) + 0.5 * (high - low) * np.cos(angles)
    return nodes


def _lagrange(x: FloatArray, nodes: FloatArray) -> FloatArray:
    """Lagrange polynomials of the nodes at x, (n_nodes, n), times x / x_k; 0 for a node at 0."""
    weights = np.empty((len(nodes), len(x)))
    for k, node in enumerate(nodes):
        others = np.delete(nodes, k)
        weights[k] = x / node if node > 0 else 0.0
        weights[k] *= np.prod((x - others[:, None]) / (node - others[:, None]), axis=0)
    return weights
