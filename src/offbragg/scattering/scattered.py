r"""Diffuse intensity at scattered q from the pairs' Patterson function, by NUFFT.

Where there are very many q and few kinds of atoms, the N² pairs are worth summing once: as
Gaussians on a grid whose transform is then read off at the q (`splat_at`), or as points with a few
weights each (`pair_nufft_at`). Atoms are of one kind when their form factors are proportional.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import finufft
import numpy as np
import scipy.interpolate
from numpy.typing import NDArray

from offbragg.conventions import TWO_PI, ComplexArray, FloatArray, IntArray
from offbragg.crystal.cell import Cell
from offbragg.errors import InputError
from offbragg.runtime import iter_chunks
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.pair_nufft import correlated_part
from offbragg.scattering.skeleton import skeleton_of
from offbragg.scattering.splat import SplatPlan
from offbragg.scattering.structure_factors import compute_structure_factors

_MOST_KINDS = 30
_PAIRS_AT_ONCE = 400_000
_GRID_POINTS, _FAMILY = 200, 400


@dataclass(frozen=True, eq=False)
class _Kinds:
    """Atoms by proportional form factors: f_i(q) = weight_i · factor_kind(q)."""

    index: IntArray
    weights: FloatArray
    factors: NDArray[np.inexact]

    @classmethod
    def of(cls, form_factors: NDArray[np.inexact]) -> _Kinds:
        """Sort the columns of form_factors (n_q, n_atoms).

        Raises
        ------
        InputError
            If there are too many kinds for a sum over pairs of kinds to pay.
        """
        n_atoms = form_factors.shape[1]
        sizes = np.linalg.norm(form_factors, axis=0)
        index = np.full(n_atoms, -1, dtype=np.int64)
        weights = np.zeros(n_atoms)
        index[sizes == 0] = 0
        columns: list[NDArray[np.inexact]] = []
        while np.any(index < 0):
            first = int(np.argmax(index < 0))
            if len(columns) == _MOST_KINDS:
                raise InputError(
                    f"form_factors must be of at most {_MOST_KINDS} kinds (proportional columns): "
                    "use method 'direct' or 'gemm'"
                )
            column = form_factors[:, first] / sizes[first]
            scale = (np.conj(column) @ form_factors).real
            apart = np.linalg.norm(form_factors - column[:, None] * scale, axis=0)
            alike = (index < 0) & (apart <= 1e-11 * sizes) & (scale > 0)
            alike[first] = True
            index[alike], weights[alike] = len(columns), scale[alike]
            columns.append(column)
        factors = np.stack(columns, axis=1) if columns else np.zeros((len(form_factors), 1))
        return cls(index, weights, factors)

    def pairs(self) -> Iterator[tuple[NDArray[np.inexact], IntArray, IntArray]]:
        """For each two kinds: twice the product f_a f_b*, and blocks of pairs of their atoms."""
        for a in range(self.factors.shape[1]):
            for b in range(a, self.factors.shape[1]):
                product = 2.0 * self.factors[:, a] * np.conj(self.factors[:, b])
                first, second = np.flatnonzero(self.index == a), np.flatnonzero(self.index == b)
                if a == b:
                    i, j = np.triu_indices(len(first), 1)
                    yield product, first[i], first[j]
                else:
                    yield product, np.repeat(first, len(second)), np.tile(second, len(first))


def splat_at(
    q: FloatArray,
    positions: FloatArray,
    form_factors: NDArray[np.inexact],
    covariance: FloatArray,
    rtol: float = 1e-6,
    max_memory: float = 2e9,
) -> FloatArray:
    """Diffuse intensity at scattered q: one Gaussian per pair on a grid, read off by a NUFFT.

    Parameters
    ----------
    q : ndarray, shape (n_q, 3), float64
        Scattering vectors, Cartesian [Å⁻¹], 2π included.
    positions : ndarray, shape (n_atoms, 3), float64
        Cartesian [Å].
    form_factors : ndarray, shape (n_q, n_atoms), float64 or complex128
        At ``q`` [electrons]; at most 30 kinds of proportional columns.
    covariance : ndarray, shape (n_atoms, n_atoms) or (n_atoms, n_atoms, 3, 3), float64
        V [Å²].
    rtol : float
        Largest error wanted, as a fraction of the mean intensity.
    max_memory : float
        Bytes that the work may take.

    Returns
    -------
    ndarray, shape (n_q,), float64
        [e²], of this one copy, never negative.

    Raises
    ------
    InputError
        If there are too many kinds, or the grid does not fit in ``max_memory``.

    Notes
    -----
    O(n_atoms²) for the Gaussians, one grid and one NUFFT per pair of kinds.
    """
    q_max = float(np.max(np.linalg.norm(q, axis=1), initial=0.0))
    n_atoms = len(positions)
    if q_max == 0.0 or n_atoms == 0:
        return np.zeros(len(q))
    kinds = _Kinds.of(form_factors)
    every = np.arange(n_atoms)
    own = covariance[every, every]
    u_aniso = own if own.ndim == 3 else own[:, None, None] * np.eye(3)
    u_mean = float(np.mean(np.trace(u_aniso, axis1=1, axis2=2))) / 3
    tolerance = rtol * float(np.clip(-np.expm1(-0.6 * q_max**2 * u_mean), 1e-6, 1.0))
    plan = _plan_for(positions, u_aniso, q_max, tolerance)
    if 40.0 * np.prod(plan.shape) > max_memory:
        raise InputError(
            f"max_memory must be at least {40.0 * np.prod(plan.shape):.2g} bytes for the grid of "
            f"method 'splat', got {max_memory:.2g}"
        )
    total = np.zeros(len(q))
    for product, first, second in kinds.pairs():
        grid = plan.real_space_grid()
        for chunk in iter_chunks(len(first), _PAIRS_AT_ONCE):
            i, j = first[chunk], second[chunk]
            placed = plan.place(positions[i] - positions[j], _relative(covariance, u_aniso, i, j))
            plan.add(grid, placed, kinds.weights[i] * kinds.weights[j])
        if len(first):
            total += (product * _at(grid, q, plan)).real
    total *= np.exp(0.5 * plan.blur * np.einsum("qx,qx->q", q, q))
    for chunk in iter_chunks(len(q), max(1, int(0.2 * max_memory / (64.0 * n_atoms)))):
        f = form_factors[chunk]
        total[chunk] += np.sum(np.abs(f) ** 2, axis=1)
        f_calc = compute_structure_factors(q[chunk], positions, f, u_aniso)
        total[chunk] -= np.abs(f_calc) ** 2
    return np.maximum(total, 0.0)


def pair_nufft_at(
    q: FloatArray,
    positions: FloatArray,
    form_factors: NDArray[np.inexact],
    covariance: FloatArray,
    rtol: float = 1e-6,
    max_memory: float = 2e9,
) -> FloatArray:
    """Diffuse intensity at scattered q for an isotropic covariance, by NUFFTs over pairs.

    Parameters and result are those of `splat_at`; covariance (n_atoms, n_atoms).

    Notes
    -----
    Some ten NUFFTs of type 3 of the pairs of each two kinds.
    """
    q_squared = np.einsum("qx,qx->q", q, q)
    q2_max = float(np.max(q_squared, initial=0.0))
    if q2_max == 0.0 or len(positions) == 0:
        return np.zeros(len(q))
    kinds = _Kinds.of(form_factors)
    u = np.ascontiguousarray(np.diag(covariance))
    axis = np.linspace(0.0, q2_max, _GRID_POINTS)
    total = np.zeros(len(q))
    for chunk in iter_chunks(len(q), max(1, int(0.1 * max_memory / (16.0 * len(u))))):
        moving = -np.expm1(-q_squared[chunk, None] * u)
        total[chunk] = np.sum(np.abs(form_factors[chunk]) ** 2 * moving, axis=1)
    eps = max(0.05 * rtol, 1e-13)
    for product, first, second in kinds.pairs():
        step = max(1, len(first) // _FAMILY)
        i, j = first[::step], second[::step]
        family = correlated_part(axis[:, None], u[i] + u[j], covariance[i, j], None)
        nodes, functions, _ = skeleton_of(family, axis, rtol)
        if not len(nodes):
            continue
        at_q = scipy.interpolate.make_interp_spline(axis, functions, k=5)(q_squared)
        at_once = max(1, int(0.3 * max_memory / (100.0 + 24.0 * len(nodes))))
        summed: ComplexArray = np.zeros(len(q), dtype=np.complex128)
        for chunk in iter_chunks(len(first), at_once):
            i, j = first[chunk], second[chunk]
            strengths = correlated_part(nodes[:, None], u[i] + u[j], covariance[i, j], None)
            strengths *= kinds.weights[i] * kinds.weights[j]
            points = (np.ascontiguousarray(x) for x in (positions[i] - positions[j]).T)
            targets = (np.ascontiguousarray(x) for x in q.T)
            waves = finufft.nufft3d3(
                *points, strengths.astype(np.complex128), *targets, isign=1, eps=eps,
                upsampfac=1.25 if eps > 1e-9 else 2.0, nthreads=1,
            )  # fmt: skip
            summed += np.einsum("qm,mq->q", at_q, np.atleast_2d(waves))
        total += (product * summed).real
    return np.maximum(total, 0.0)


def _relative(
    covariance: FloatArray, u_aniso: FloatArray, first: IntArray, second: IntArray
) -> FloatArray:
    """D_ij of pairs, packed (n, 6)."""
    v = covariance[first, second]
    v = v[:, None, None] * np.eye(3) if v.ndim == 1 else v
    d = u_aniso[first] + u_aniso[second] - v - v.transpose(0, 2, 1)
    rows, columns = np.triu_indices(3)
    return np.ascontiguousarray(d[:, rows, columns])


def _plan_for(
    positions: FloatArray, u_aniso: FloatArray, q_max: float, tolerance: float
) -> SplatPlan:
    """Plan on a box so large that no Gaussian reaches its own image."""
    extent = np.max(np.ptp(positions, axis=0))
    widest = 4.0 * float(np.max(np.trace(u_aniso, axis1=1, axis2=2)))
    # Blur and cut-off hardly depend on the box: those of a first guess serve to choose it.
    edge = 2.0 * extent + 30.0
    for _ in range(2):
        m = int(np.ceil(q_max * edge / TWO_PI)) + 1
        cell = Cell(edge, edge, edge, 90.0, 90.0, 90.0)
        plan = SplatPlan.for_tolerance(HalfLattice(cell, (1, 1, 1), (m, m, m), q_max), tolerance)
        edge = 2.0 * (extent + plan.radius * np.sqrt(widest + plan.blur) + 1.0)
    return plan


def _at(grid: FloatArray, q: FloatArray, plan: SplatPlan) -> ComplexArray:
    """Σ grid e^{iq·x} at scattered q, x from −n/2 to n/2 − 1 steps."""
    # A step in Å along each axis is the column of the inverse of to_index.
    phases = q @ np.linalg.inv(plan.to_index)
    x, y, z = (np.ascontiguousarray(p) for p in phases.T)
    values: ComplexArray = finufft.nufft3d2(
        x, y, z, np.fft.fftshift(grid).astype(np.complex128), isign=1, eps=1e-12,
        nthreads=1,
    )  # fmt: skip
    return values
