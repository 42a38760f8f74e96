r"""Diffuse intensity on a lattice for isotropic displacements, by non-uniform FFTs over pairs.

A pair contributes ``cos(q·r_ij)`` times a function of q² alone,

.. math:: g_{ij}(q^2) = f_i f_j \left[e^{-\frac12 q^2 d_{ij}} - e^{-\frac12 q^2 (u_i + u_j)}\right],
          \quad d_{ij} = u_i + u_j - 2 v_{ij},

and all of these functions together span few dimensions: a handful of q² (`skeleton`) fixes each of
them, ``g(q²) ≈ Σ_m c_m(q²) g(q²_m)`` (interpolative decomposition). One transform of the pairs per
q²_m therefore gives the whole map. The skeleton is chosen once from samples of the family, its
error there is known. The small difference is formed pair by pair, before any sum: nothing cancels
near q = 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import finufft
import numpy as np
import scipy.interpolate
from numpy.typing import NDArray

from offbragg.conventions import ComplexArray, FloatArray
from offbragg.errors import InputError
from offbragg.runtime import count_workers, map_in_order
from offbragg.scattering import _kernels
from offbragg.scattering.displacements import Displacements, PairCovariance
from offbragg.scattering.engine import Engine
from offbragg.scattering.pair_splat import bounded
from offbragg.scattering.pair_terms import Kind, PairSum, PairTerms
from offbragg.scattering.pairs import PairValues, values_of
from offbragg.scattering.scatterers import TABLE_POINTS
from offbragg.scattering.skeleton import skeleton_of

# Single precision resolves sums of a million terms to about this, relative to their root.
_SINGLE_PRECISION = 3e-5
_FAMILY_POINTS = 200
_SAMPLES_A_CLASS = 300
# Points of the table of what atoms scatter with themselves.
_OWN_POINTS = 1 << 10
_UPSAMPLING = 1.25  # float32 with the default of 2 eats memory


@dataclass(frozen=True, eq=False)
class PairNufft:
    """A `PairSum` of isotropic displacements to be evaluated by NUFFT.

    Attributes
    ----------
    pair_sum : PairSum
    engine : Engine
    order : int or None
        Cut the series ``e^{q²v} − 1 = Σ (q²v)ⁿ/n!`` off after this power; None: exact.
    """

    pair_sum: PairSum
    engine: Engine
    order: int | None = None

    def __post_init__(self) -> None:
        if not self.pair_sum.displacements.is_isotropic:
            raise InputError("method 'pair-nufft' needs isotropic displacements: use 'splat'")
        if self.pair_sum.scatterers.wavelength is not None:
            raise InputError("method 'pair-nufft' has no anomalous scattering: use 'splat'")

    @cached_property
    def _u_iso(self) -> FloatArray:
        scalars: FloatArray = self.pair_sum.u_aniso[:, 0, 0]
        return scalars

    @cached_property
    def _q_squared(self) -> FloatArray:
        return self.pair_sum.lattice.q_squared()

    def _axis(self, n_points: int) -> FloatArray:
        # One point beyond q_max, so that nodes on the edge are inside.
        top = self.pair_sum.lattice.q_max**2 * (1 + 1e-9)
        return np.linspace(0.0, top * (1 + 1.0 / n_points), n_points + 1)

    @cached_property
    def _precision(self) -> tuple[type, type, float]:
        """Types of points and strengths, and the tolerance of the transforms."""
        if self.engine.rtol >= _SINGLE_PRECISION:
            return np.float32, np.complex64, max(0.1 * self.engine.rtol, 2e-5)
        return np.float64, np.complex128, max(0.1 * self.engine.rtol, 1e-13)

    # --- pairs -----------------------------------------------------------

    def _terms(self) -> Iterator[PairTerms]:
        classes = range(len(self.pair_sum.scatterers.pair_classes))
        return self.pair_sum.terms(classes, apart=False)

    def _exponents(self, terms: PairTerms) -> tuple[FloatArray, FloatArray]:
        """u_i + u_j and v_ij of pairs [Å²]."""
        u = self._u_iso[terms.first] + self._u_iso[terms.second]
        return u, 0.5 * (u - terms.covariances[:, 0])

    def _functions(self, terms: PairTerms, q_squared: FloatArray) -> FloatArray:
        """G of pairs at some q², without occupancies and voxel weights: (n_q, n_pairs)."""
        f = self.pair_sum.scatterers.pair_products(q_squared)[terms.pair_class].real[:, None]
        u, v = self._exponents(terms)
        x = q_squared[:, None]
        if terms.kind is Kind.JOINT:
            joint: FloatArray = f * np.exp(x * (v - 0.5 * u))
            return joint
        correlated: FloatArray = f * correlated_part(x, u, v, self.order)
        return correlated

    @cached_property
    def skeleton(self) -> tuple[FloatArray, FloatArray, float]:
        """The q²_m [Å⁻²], the functions c_m (m, TABLE_POINTS + 1), and the error on the family.

        The error is the largest over q² of the family's rms error relative to its rms.
        """
        grid = np.linspace(0.0, self._axis(TABLE_POINTS)[-1], _FAMILY_POINTS)
        nodes, functions, error = skeleton_of(self._sampled_family(grid), grid, self.engine.rtol)
        if not len(nodes):
            return nodes, np.empty((0, TABLE_POINTS + 1)), error
        spline = scipy.interpolate.make_interp_spline(grid, functions, k=5)
        return nodes, np.ascontiguousarray(spline(self._axis(TABLE_POINTS)).T), error

    def _sampled_family(self, grid: FloatArray) -> FloatArray:
        """Functions g of pairs spread over every block of each class and kind, (len(grid), n)."""
        found: dict[tuple[Kind, int], list[PairTerms]] = {}
        for terms in self._terms():
            found.setdefault((terms.kind, terms.pair_class), []).append(_spread(terms))
        columns = [np.empty((len(grid), 0))]
        for blocks in found.values():
            for number, terms in enumerate(blocks):
                # Of many blocks a few each, other ones of each.
                n = max(len(terms.least), 1)
                some = terms.take(np.arange(number % n, len(terms.least), len(blocks)))
                columns.append(self._functions(some, grid))
        return np.concatenate(columns, axis=1)

    def _batches(self) -> Iterator[list[PairTerms]]:
        """Terms in batches of as many pairs as memory allows at once."""
        n_nodes = len(self.skeleton[0])
        at_once = max(1.0, 0.3 * self.engine.max_memory / (150.0 + 16.0 * n_nodes))
        batch: list[PairTerms] = []
        size = 0
        for terms in self._terms():
            batch.append(terms)
            size += len(terms.least)
            if size >= at_once:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _points(self, batch: list[PairTerms]) -> list[FloatArray]:
        """Phases of one step of hkl along each axis, in the transforms' precision."""
        lattice = self.pair_sum.lattice
        separations = np.concatenate([terms.separations for terms in batch])
        phases = separations @ lattice.reciprocal_vectors.T
        # Folded in double precision: single resolves far separations badly.
        phases -= 2 * np.pi * np.rint(phases / (2 * np.pi))
        return [np.ascontiguousarray(x, dtype=self._precision[0]) for x in phases.T]

    @property
    def _modes(self) -> tuple[int, int, int]:
        m_x, m_y, m_z = self.pair_sum.lattice.extent
        return 2 * m_x + 1, 2 * m_y + 1, 2 * m_z + 1

    def _plans(self, kind: int, batch: list[PairTerms], n_jobs: int) -> list[finufft.Plan]:
        """Plans with a batch's points set, one for each thread.

        Each runs on one thread, so that sums are made in the same order whatever their number.
        """
        _, dtype, eps = self._precision
        points = self._points(batch)
        plans = []
        for _ in range(max(1, min(n_jobs, count_workers(None)))):
            plan = finufft.Plan(
                kind, self._modes, eps=eps, isign=1, dtype=np.dtype(dtype).name,
                upsampfac=_UPSAMPLING if eps > 1e-9 else 2.0, nthreads=1,
            )  # fmt: skip
            plan.setpts(*points)
            plans.append(plan)
        return plans

    # --- intensity and its derivatives -----------------------------------

    def intensity(self) -> FloatArray:
        """Diffuse intensity on the lattice [e²], ``lattice.shape``, never negative."""
        nodes = self.skeleton[0]
        total = self._summed(
            lambda terms: terms.weights * self._functions(terms, nodes), self._own()
        )
        return bounded(self.pair_sum.lattice, total, self._q_squared).real

    def product(self, direction: Displacements) -> FloatArray:
        """Change of the intensity for a change of the second moments; see `PairSplat.product`."""
        nodes = self.skeleton[0]
        du_all = np.trace(direction.u_aniso(len(self._u_iso)), axis1=1, axis2=2) / 3.0
        correlated = direction.correlated
        by_pairs = None if direction.pairs is None else values_of(direction.pairs)

        def changes(terms: PairTerms) -> FloatArray:
            by_u, by_v = self._slopes(terms, nodes)
            change = by_u * (du_all[terms.first] + du_all[terms.second])
            if by_pairs is not None and terms.kind is Kind.RELATIVE:
                change += by_v * by_pairs[terms.listed]
            if correlated is not None:
                change += by_v * _scalar_pairs(correlated, terms)
            weighted: FloatArray = terms.weights * change
            return weighted

        return self._summed(changes, self._own_slopes() @ du_all)

    def gradient(self, node_gradient: FloatArray) -> Displacements:
        """Gradient by V of ``Σ node_gradient · intensity``; see `PairSplat.gradient`."""
        nodes, functions, _ = self.skeleton
        n, pairs = len(self._u_iso), self.pair_sum.displacements.pairs
        by_u, by_v = np.zeros(n), np.zeros((n, n) if pairs is None else (0, 0))
        by_pairs = np.zeros_like(values_of(pairs)) if pairs is not None else np.empty(0)
        for batch in self._batches():
            sums = self._gathered(batch, node_gradient, functions)
            start = 0
            for terms in batch:
                part = sums[:, start : start + len(terms.least)]
                start += len(terms.least)
                slopes_u, slopes_v = self._slopes(terms, nodes)
                u = terms.weights * np.einsum("mp,mp->p", part, slopes_u)
                # Both orders of a pair share its derivative.
                v = 0.5 * terms.weights * np.einsum("mp,mp->p", part, slopes_v)
                by_u += np.bincount(terms.first, u, n) + np.bincount(terms.second, u, n)
                if pairs is not None:
                    by_pairs[terms.listed] += 2.0 * v
                    continue
                by_v[terms.first, terms.second] += v
                by_v[terms.second, terms.first] += v
        axis = self._axis(_OWN_POINTS)
        onto = np.zeros(len(axis))
        _kernels.add_to_table(
            onto, node_gradient.reshape(-1), self._q_squared.reshape(-1), float(axis[1])
        )
        by_u += onto @ self._own_slopes()
        independent = by_u[:, None, None] * (np.eye(3) / 3.0)
        if pairs is not None:
            return Displacements(None, independent, PairValues(pairs, by_pairs))
        if self.pair_sum.displacements.correlated is None:
            return Displacements(independent=independent)
        by_v[np.arange(n), np.arange(n)] += by_u
        return Displacements(by_v, independent)

    def _slopes(self, terms: PairTerms, q_squared: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Derivatives of g by u_i (or u_j) and by v_ij, (n_q, n_pairs) each."""
        if self.order is not None:
            raise InputError("derivatives need order='exact'")
        f = self.pair_sum.scatterers.pair_products(q_squared)[terms.pair_class].real[:, None]
        u, v = self._exponents(terms)
        x = q_squared[:, None]
        together = f * np.exp(x * (v - 0.5 * u))
        apart = 0.0 if terms.kind is Kind.JOINT else f * np.exp(-0.5 * x * u)
        return -0.5 * x * (together - apart), x * together

    def _own(self) -> FloatArray:
        """Atoms with themselves, Σ f² (w − occ² e^{−q²u}), over the coarse axis."""
        s, axis = self.pair_sum.scatterers, self._axis(_OWN_POINTS)
        f2 = s.form_factors(axis).real ** 2
        constants = self.pair_sum.constants()
        total = np.zeros(len(axis))
        for a in range(len(s.names)):
            atoms = np.flatnonzero(s.index == a)
            u, counts = np.unique(self._u_iso[atoms], return_inverse=True)
            weights = np.bincount(counts, s.occupancies[atoms] ** 2)
            x = axis[:, None]
            if self.order is None:
                moving = -np.expm1(-x * u) @ weights
                total += f2[a] * (constants[s.pair_classes.index((a, a))] - weights.sum() + moving)
            else:
                total += f2[a] * (correlated_part(x, 2 * u, u, self.order) @ weights)
        return total

    def _own_slopes(self) -> FloatArray:
        """Derivative of `_own` by each atom's u, (axis, n_atoms)."""
        s, axis = self.pair_sum.scatterers, self._axis(_OWN_POINTS)
        f2 = s.form_factors(axis).real ** 2
        slopes: FloatArray = axis[:, None] * np.exp(-axis[:, None] * self._u_iso)
        return slopes * f2[s.index].T * s.occupancies**2

    def _summed(self, strengths: Callable[[PairTerms], FloatArray], own: FloatArray) -> FloatArray:
        """Sum over pairs and q²_m of c_m(q²) Σ strengths cos(q·r), and of a function of q²."""
        total = np.zeros(self.pair_sum.lattice.shape)
        flat, q2 = total.reshape(-1), self._q_squared.reshape(-1)
        _kernels.add_scaled(flat, np.ones(flat.size), q2, own, float(self._axis(_OWN_POINTS)[1]))
        nodes, functions, _ = self.skeleton
        step = float(self._axis(TABLE_POINTS)[1])
        if not len(nodes):
            return total
        for batch in self._batches():
            table = np.concatenate([strengths(terms) for terms in batch], axis=1)
            # Two real sums in one transform: the even part of Σ (s₁ + i s₂) e^{iq·r}.
            jobs = range(0, len(nodes), 2)
            plans = self._plans(1, batch, len(jobs))
            self.engine.progress.start("transforms", len(jobs))
            inputs = map(_packer(table, self._precision[1]), jobs)
            for m, modes in zip(jobs, _in_turns(inputs, plans), strict=True):
                second = functions[min(m + 1, len(nodes) - 1)]
                _kernels.add_even_part(total, modes, self._q_squared, functions[m], second, step)
                self.engine.progress.step()
        return total

    def _gathered(
        self, batch: list[PairTerms], node_gradient: FloatArray, functions: FloatArray
    ) -> FloatArray:
        """Σ_nodes node_gradient c_m(q²) cos(q·r) of each pair, (m, n_pairs)."""
        jobs = range(0, len(functions), 2)
        plans = self._plans(2, batch, len(jobs))
        step = float(self._axis(TABLE_POINTS)[1])
        sums = np.empty((len(functions), sum(len(terms.least) for terms in batch)))

        def spread(m: int) -> NDArray[np.complexfloating]:
            modes: NDArray[np.complexfloating] = np.zeros(self._modes, dtype=self._precision[1])
            second = functions[m + 1] if m + 1 < len(functions) else np.zeros(len(functions[m]))
            _kernels.spread_even_part(
                modes, node_gradient, self._q_squared, functions[m], second, step
            )
            return modes

        for m, values in zip(jobs, _in_turns(map(spread, jobs), plans), strict=True):
            sums[m] = values.real
            if m + 1 < len(functions):
                sums[m + 1] = values.imag
        return sums


def _packer(table: FloatArray, dtype: type) -> Callable[[int], NDArray[np.complexfloating]]:
    """Rows m and m + 1 of a table as real and imaginary parts."""

    def packed(m: int) -> NDArray[np.complexfloating]:
        strengths: NDArray[np.complexfloating] = table[m].astype(dtype)
        if m + 1 < len(table):
            strengths += 1j * table[m + 1]
        return strengths

    return packed


def _in_turns(
    inputs: Iterator[NDArray[np.complexfloating]], plans: list[finufft.Plan]
) -> Iterator[ComplexArray]:
    """Transforms of inputs in order; as many run at a time as there are plans, each with its own.

    Inputs are made here, one after the other: only the transforms run in threads.
    """
    while chunk := list(itertools.islice(inputs, len(plans))):
        yield from map_in_order(_execute, zip(plans, chunk, strict=False), len(plans))


def _execute(job: tuple[finufft.Plan, NDArray[np.complexfloating]]) -> ComplexArray:
    plan, values = job
    transformed: ComplexArray = plan.execute(values)
    return transformed


def correlated_part(
    q_squared: FloatArray, u: FloatArray, v: FloatArray, order: int | None
) -> FloatArray:
    """``e^{−½q²u} (e^{q²v} − 1)``, u = u_i + u_j, or its series in q²v up to a power."""
    x = q_squared * v
    damping = np.exp(-0.5 * q_squared * u)
    if order is None:
        # The exponent x − ½q²u = −½q²d is never positive: nothing overflows.
        large = x > 1.0
        exact: FloatArray = np.where(
            large,
            np.exp(x - 0.5 * q_squared * u) - damping,
            damping * np.expm1(np.where(large, 0.0, x)),
        )
        return exact
    total, power = np.zeros_like(x), np.ones_like(x)
    for n in range(1, order + 1):
        power = power * x / n
        total += power
    series: FloatArray = damping * total
    return series


def _spread(terms: PairTerms) -> PairTerms:
    """At most some `_SAMPLES_A_CLASS` of them: the extremes, then such as lie evenly over all."""
    n = len(terms.least)
    if n <= _SAMPLES_A_CLASS:
        return terms
    # Multiples of the golden ratio: even steps could keep to one column of the table of pairs.
    evenly = (np.arange(1, _SAMPLES_A_CLASS) * 0.5 * (np.sqrt(5.0) - 1.0)) % 1.0
    widths = terms.covariances[:, 0]
    ends = np.array([np.argmin(widths), np.argmax(widths)])
    return terms.take(np.concatenate([ends, (evenly * n).astype(np.int64)]))


def _scalar_pairs(correlated: FloatArray | PairCovariance, terms: PairTerms) -> FloatArray:
    """v_ij of each pair, (n,)."""
    if isinstance(correlated, PairCovariance):
        return correlated.pairs(terms.first, terms.second)
    return correlated[terms.first, terms.second]
