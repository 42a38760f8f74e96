"""Diffuse intensity on a lattice by splatting one Gaussian per pair, and its two derivatives.

`PairSplat` is one linearisation point: the intensity for a covariance V, its change for a change
of V (`product`), and the gradient by V of any sum over nodes (`gradient`), which is the transpose
of `product`. Each costs a splat, or a gather, per pair and one transform per product of form
factors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from offbragg.conventions import ComplexArray, FloatArray, IntArray
from offbragg.errors import InputError
from offbragg.runtime import iter_chunks
from offbragg.scattering import _kernels
from offbragg.scattering.displacements import Displacements, PairCovariance
from offbragg.scattering.engine import Engine
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.pair_slopes import PairSlopes
from offbragg.scattering.pair_terms import Kind, PairSum, PairTerms
from offbragg.scattering.pairs import values_of
from offbragg.scattering.scatterers import TABLE_POINTS, ProductBasis
from offbragg.scattering.splat import PlacedGaussians, SplatPlan

# A transform costs about this many touched grid points for each of its own.
_TRANSFORM_COST = 4.0
_ROWS, _COLUMNS = np.triu_indices(3)


@dataclass(frozen=True)
class _Group:
    """Gaussians whose least variance [Å²] is in [lower, upper), and the plan that serves them."""

    lower: float
    upper: float
    plan: SplatPlan

    def holds(self, least: FloatArray) -> IntArray:
        return np.flatnonzero((least >= self.lower) & (least < self.upper))


@dataclass(frozen=True, eq=False)
class PairSplat:
    """A `PairSum` to be evaluated by splatting.

    Attributes
    ----------
    pair_sum : PairSum
    engine : Engine
        Tolerance and memory.
    """

    pair_sum: PairSum
    engine: Engine

    @cached_property
    def tolerance(self) -> float:
        """Error of one pair as a fraction of its weight."""
        u_aniso = self.pair_sum.u_aniso
        u_mean = float(np.mean(np.trace(u_aniso, axis1=1, axis2=2))) / 3
        # The fraction of the scattering that is diffuse, about: the mean over the sphere's volume
        # is near the value at 0.77 q_max.
        diffuse = np.clip(-np.expm1(-0.6 * self.pair_sum.lattice.q_max**2 * u_mean), 1e-6, 1.0)
        return float(self.engine.rtol * diffuse)

    @cached_property
    def groups(self) -> list[_Group]:
        """One group of Gaussians, or two where wide ones save more without blur than FFTs cost."""
        lattice, n_transforms = self.pair_sum.lattice, len(self.pair_sum.scatterers.pair_classes)
        plan = SplatPlan.for_tolerance(lattice, self.tolerance)
        best = [_Group(-np.inf, np.inf, plan)]
        least, mean, n_terms = self._sample()
        if len(least) == 0:
            return best
        transforms = _TRANSFORM_COST * n_transforms * float(np.prod(plan.shape))
        best_cost = n_terms * float(np.mean(plan.size_of(mean))) + transforms
        for threshold in np.quantile(least, (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)):
            wide = SplatPlan.for_tolerance(lattice, self.tolerance, max(float(threshold), 0.0))
            sizes = np.where(least < threshold, plan.size_of(mean), wide.size_of(mean))
            cost = n_terms * float(np.mean(sizes)) + 2 * transforms
            if cost < best_cost:
                best_cost = cost
                best = [
                    _Group(-np.inf, float(threshold), plan),
                    _Group(float(threshold), np.inf, wide),
                ]
        return best

    def _sample(self, n_sample: int = 4000) -> tuple[FloatArray, FloatArray, float]:
        """Least eigenvalue and mean variance [Å²] of some terms, and how many terms there are."""
        counts = self.pair_sum.scatterers.class_counts()
        least: list[FloatArray] = []
        mean: list[FloatArray] = []
        n_terms = float(np.sum(counts))
        if self.pair_sum.displacements.pairs is not None:
            n_terms *= 4.0
        for terms in self.pair_sum.terms([int(np.argmax(counts))]):
            step = max(1, 3 * len(terms.least) // n_sample)
            least.append(terms.least[::step])
            mean.append(terms.covariances[::step][:, [0, 3, 5]].mean(axis=1))
            if sum(len(x) for x in least) >= n_sample:
                break
        if not least:
            return np.empty(0), np.empty(0), 0.0
        return np.concatenate(least), np.concatenate(mean), n_terms

    @cached_property
    def basis(self) -> ProductBasis:
        """Products of form factors that are transformed; the others are combinations of them."""
        s, plan = self.pair_sum.scatterers, self.groups[0].plan
        a_pair = float(np.mean(plan.size_of(np.array([0.3]))))
        pairs_a_transform = _TRANSFORM_COST * float(np.prod(plan.shape)) / max(a_pair, 1.0)
        return ProductBasis.choose(
            s, self.pair_sum.lattice.q_max, 0.1 * self.engine.rtol, pairs_a_transform
        )

    @cached_property
    def _q_squared(self) -> FloatArray:
        return self.pair_sum.lattice.q_squared()

    def intensity(self) -> FloatArray | ComplexArray:
        """Diffuse intensity on the lattice [e²].

        Returns
        -------
        ndarray, ``lattice.shape``
            float64, never negative; 0 beyond q_max and, where values are at nodes, at q = 0. With
            anomalous scattering complex128: the real part is even in q, the imaginary part what
            is odd, ``I(±q) = Re ± Im``.
        """
        total = self._assembled(
            lambda plan, grid, terms, placed, weights, row: plan.add(grid, placed, weights, row),
            self.amplitudes() if self.pair_sum.subtracts_bragg else None,
            self.pair_sum.constants(),
        )
        return bounded(self.pair_sum.lattice, total, self._q_squared)

    def product(self, direction: Displacements) -> FloatArray:
        """Change of the intensity for a change of the displacements' second moments.

        Parameters
        ----------
        direction : Displacements
            dV, symmetric like V: ``correlated`` or ``pairs``, in V's own order, and
            ``independent``.

        Returns
        -------
        ndarray, ``lattice.shape``, float64
        """
        self._check_differentiable()
        by_pairs = None if direction.pairs is None else values_of(direction.pairs)

        def add_changes(
            plan: SplatPlan,
            grid: FloatArray,
            terms: PairTerms,
            placed: PlacedGaussians,
            weights: FloatArray,
            row: int,
        ) -> None:
            changes = self._changes(terms, direction, by_pairs)
            plan.add_changes(grid, placed, changes, weights, row)

        total = self._assembled(add_changes, None, None)
        if self.pair_sum.subtracts_bragg:
            u_change = direction.u_aniso(len(self.pair_sum.scatterers))
            self._subtract_bragg_change(total, u_change)
        return total.real

    def first_order(self, direction: Displacements) -> FloatArray | ComplexArray:
        """Σ_ij a_i* a_j qᵀV_ij q: first order in a covariance V, all else uncorrelated.

        Parameters
        ----------
        direction : Displacements
            V. The displacements of this `PairSum` must be the uncorrelated ones, by pairs.
        """

        def add_changes(
            plan: SplatPlan,
            grid: FloatArray,
            terms: PairTerms,
            placed: PlacedGaussians,
            weights: FloatArray,
            row: int,
        ) -> None:
            if terms.kind is Kind.SELF:
                u = direction.u_aniso(len(self.pair_sum.scatterers))[terms.first]
                changes = np.ascontiguousarray(2.0 * u[:, _ROWS, _COLUMNS])
            elif terms.kind is Kind.RELATIVE:
                changes = -_both_orders(direction, terms)
            else:
                return
            plan.add_changes(grid, placed, changes, weights, row)

        return self._assembled(add_changes, None, None)

    def gradient(self, node_gradient: FloatArray) -> Displacements:
        """Gradient by V of ``Σ_nodes node_gradient · intensity``: the transpose of `product`.

        Parameters
        ----------
        node_gradient : ndarray, ``lattice.shape``, float64
            Derivative of some objective by the intensity at each node of the half lattice.

        Returns
        -------
        Displacements
            ``correlated`` in the form of V, or ``pairs`` in the order of V's; ``independent``
            (n, 3, 3): derivatives by every element as if it were free [e²/Å² times the unit of
            node_gradient].
        """
        self._check_differentiable()
        slopes_by = PairSlopes.of(self.pair_sum.displacements, len(self.pair_sum.scatterers))
        tables = self._tables()
        for number, member in enumerate(self.basis.members):
            fields = [
                group.plan.adjoint_transform(
                    self._scaled(node_gradient, self._unblurred(group, tables[member]))
                )
                for group in self.groups
            ]
            for terms, weights, group_index, placed in self._gaussians(number):
                plan = self.groups[group_index].plan
                slopes_by.add(terms, plan.gather_gradients(fields[group_index], placed, weights))
        if self.pair_sum.subtracts_bragg:
            slopes_by.u[...] += self._bragg_gradient(node_gradient)
        return slopes_by.displacements()

    # --- how a sum is put together ---------------------------------------

    def _tables(self) -> FloatArray:
        """Products of form factors over q², (n_classes, TABLE_POINTS): f_a f_b*."""
        return self.pair_sum.scatterers.pair_products(self._table_axis)  # type: ignore[return-value]

    @cached_property
    def _table_axis(self) -> FloatArray:
        # One point beyond q_max, so that nodes on the edge are inside.
        top = self.pair_sum.lattice.q_max**2 * (1 + 1e-9)
        return np.linspace(0.0, top * (1 + 1.0 / TABLE_POINTS), TABLE_POINTS + 1)

    def _scaled(
        self, values: FloatArray | ComplexArray, factor: FloatArray
    ) -> FloatArray | ComplexArray:
        """Values times a tabulated factor of q², 0 beyond its table."""
        scaled = values.copy()
        _kernels.scale_by(scaled.reshape(-1), self._q_squared.reshape(-1), factor, self._step)
        return scaled

    def _unblurred(self, group: _Group, table: FloatArray) -> FloatArray:
        return table.real * np.exp(0.5 * group.plan.blur * self._table_axis)

    @property
    def _step(self) -> float:
        return float(self._table_axis[1])

    def _assembled(
        self,
        add: Callable[..., None],
        amplitudes: ComplexArray | None,
        constants: FloatArray | None,
    ) -> FloatArray | ComplexArray:
        """Sum over the basis of product × transform, and over classes of what is uncorrelated."""
        s, lattice, q2 = self.pair_sum.scatterers, self.pair_sum.lattice, self._q_squared
        tables = self._tables()
        even = np.zeros(lattice.shape)
        odd = np.zeros(lattice.shape if s.wavelength is not None else (0, 0, 0))
        n_slabs = sum(1 for _ in self._slabs())
        self.engine.progress.start("transforms", len(self.basis.members) * n_slabs)
        for number, member in enumerate(self.basis.members):
            for group, along_x in self._transformed(number, add):
                factor = np.exp(0.5 * group.plan.blur * self._table_axis)
                _kernels.add_spectrum(
                    even, odd, along_x, q2, tables[member].real * factor,
                    -tables[member].imag * factor, self._step,
                )  # fmt: skip
        if constants is not None:
            # The same combinations of the basis, so that nothing is left near q = 0.
            products = self.basis.coefficients @ tables[list(self.basis.members)]
            flat = (
                np.empty((0, 1), dtype=np.complex128)
                if amplitudes is None
                else amplitudes.reshape(len(amplitudes), -1)
            )
            _kernels.add_uncorrelated(
                even.reshape(-1), odd.reshape(-1), flat, q2.reshape(-1),
                np.ascontiguousarray(products.real), np.ascontiguousarray(-products.imag),
                constants, np.array(s.pair_classes), self._step,
            )  # fmt: skip
        return even + 1j * odd if s.wavelength is not None else even

    def _transformed(
        self, number: int, add: Callable[..., None]
    ) -> Iterator[tuple[_Group, ComplexArray]]:
        """Transforms of one member's Gaussians, group by group, blur still in."""
        spectra = [group.plan.row_spectrum() for group in self.groups]
        used = [False] * len(self.groups)
        for rows in self._slabs():
            grids = [np.zeros((rows.stop - rows.start, *g.plan.shape[1:])) for g in self.groups]
            for terms, weights, index, placed in self._gaussians(number):
                add(self.groups[index].plan, grids[index], terms, placed, weights, rows.start)
                used[index] = True
            for group, grid, spectrum in zip(self.groups, grids, spectra, strict=True):
                group.plan.transform_rows(grid, spectrum, rows.start)
            self.engine.progress.step()
        for group, spectrum, is_used in zip(self.groups, spectra, used, strict=True):
            if is_used:
                yield group, group.plan.along_x(spectrum)

    def _slabs(self) -> Iterator[slice]:
        """Rows that are splatted at a time: all of them, or as many as memory allows."""
        n_x, n_y, n_z = self.groups[0].plan.shape
        a_row = 8.0 * n_y * n_z * len(self.groups)
        fixed = 16.0 * np.prod(self.pair_sum.lattice.shape) * (3 + len(self.groups))
        rows = int(max(self.engine.max_memory - fixed, 0.1 * self.engine.max_memory) // a_row)
        yield from iter_chunks(n_x, max(1, min(n_x, rows)))

    def _gaussians(
        self, number: int
    ) -> Iterator[tuple[PairTerms, FloatArray, int, PlacedGaussians]]:
        """Terms, weights, group and place of the Gaussians that go into one member's grid."""
        column = self.basis.coefficients[:, number]
        least_weight = self.tolerance**2
        for terms in self.pair_sum.terms([int(c) for c in np.flatnonzero(column)]):
            weights = terms.weights * column[terms.pair_class]
            for index, group in enumerate(self.groups):
                own = group.holds(terms.least)
                own = own[np.abs(weights[own]) > least_weight]
                if not len(own):
                    continue
                some = terms.take(own)
                placed = group.plan.place(some.separations, some.covariances)
                yield some, weights[own], index, placed

    # --- derivatives -----------------------------------------------------

    def _check_differentiable(self) -> None:
        if self.pair_sum.scatterers.wavelength is not None:
            raise InputError("derivatives by the covariance need real form factors: no wavelength")

    def _changes(
        self, terms: PairTerms, direction: Displacements, by_pairs: FloatArray | None
    ) -> FloatArray:
        """Change (n, 6) of the covariance of each term's Gaussian."""
        du = direction.u_aniso(len(self.pair_sum.scatterers))
        if terms.kind is Kind.SELF:
            return np.ascontiguousarray(2.0 * du[terms.first][:, _ROWS, _COLUMNS])
        both = du[terms.first] + terms.partner(du)
        changes = np.ascontiguousarray(both[:, _ROWS, _COLUMNS])
        if terms.kind is Kind.RELATIVE and by_pairs is not None:
            changes -= _both_ways(by_pairs[terms.listed])
        if terms.kind in (Kind.RELATIVE, Kind.JOINT) and direction.correlated is not None:
            changes -= _both_orders(direction, terms)
        return changes

    @cached_property
    def _atom_plan(self) -> SplatPlan:
        # F is coherent: near q = 0 its square is up to n_atoms times the sum of squares.
        tolerance = 0.1 * self.tolerance / len(self.pair_sum.scatterers)
        return SplatPlan.for_tolerance(self.pair_sum.lattice, tolerance)

    def _placed_atoms(self, element: int) -> tuple[IntArray, PlacedGaussians]:
        s = self.pair_sum.scatterers
        atoms = np.flatnonzero(s.index == element)
        covariances = np.ascontiguousarray(self.pair_sum.u_aniso[atoms][:, _ROWS, _COLUMNS])
        return atoms, self._atom_plan.place(s.positions[atoms], covariances)

    def amplitudes(self) -> ComplexArray:
        """Σ occ exp(iq·r − ½qᵀUq) over the atoms of each element, without form factors.

        Returns
        -------
        ndarray, shape (n_elements, *lattice.shape), complex128
            0 beyond q_max.
        """
        s, plan = self.pair_sum.scatterers, self._atom_plan
        unblur = np.exp(0.5 * plan.blur * self._table_axis)
        rows = np.empty((len(s.names), *self.pair_sum.lattice.shape), dtype=np.complex128)
        for element, row in enumerate(rows):
            atoms, placed = self._placed_atoms(element)
            grid = plan.real_space_grid()
            plan.add(grid, placed, s.occupancies[atoms])
            row[...] = plan.transform(grid)
            _kernels.scale_by(row.reshape(-1), self._q_squared.reshape(-1), unblur, self._step)
        return rows

    def _f_calc(self, amplitudes: ComplexArray) -> ComplexArray:
        f = np.ascontiguousarray(self.pair_sum.scatterers.form_factors(self._table_axis).real)
        total = np.zeros(self.pair_sum.lattice.shape, dtype=np.complex128)
        for row, table in zip(amplitudes, f, strict=True):
            _kernels.add_scaled(
                total.reshape(-1), row.reshape(-1), self._q_squared.reshape(-1), table, self._step
            )
        return total

    def _subtract_bragg_change(self, total: FloatArray | ComplexArray, du: FloatArray) -> None:
        """Take 2 Re(F* dF) from total."""
        f_calc = self._f_calc(self.amplitudes())
        s, plan = self.pair_sum.scatterers, self._atom_plan
        f = np.ascontiguousarray(s.form_factors(self._table_axis).real)
        change = np.zeros_like(f_calc)
        for element in range(len(s.names)):
            atoms, placed = self._placed_atoms(element)
            grid = plan.real_space_grid()
            packed = np.ascontiguousarray(du[atoms][:, _ROWS, _COLUMNS])
            plan.add_changes(grid, placed, packed, s.occupancies[atoms])
            factor = f[element] * np.exp(0.5 * plan.blur * self._table_axis)
            _kernels.add_scaled(
                change.reshape(-1), plan.transform(grid).reshape(-1),
                self._q_squared.reshape(-1), factor, self._step,
            )  # fmt: skip
        total -= 2.0 * (f_calc.real * change.real + f_calc.imag * change.imag)

    def _bragg_gradient(self, node_gradient: FloatArray) -> FloatArray:
        """Gradient (n, 3, 3) by U of −Σ node_gradient |F|²."""
        f_calc = self._f_calc(self.amplitudes())
        s, plan = self.pair_sum.scatterers, self._atom_plan
        f = np.ascontiguousarray(s.form_factors(self._table_axis).real)
        out = np.empty((len(s), 3, 3))
        values = -2.0 * node_gradient * np.conj(f_calc)
        for element in range(len(s.names)):
            atoms, placed = self._placed_atoms(element)
            factor = f[element] * np.exp(0.5 * plan.blur * self._table_axis)
            field = plan.adjoint_transform(self._scaled(values, factor))
            out[atoms] = plan.gather_gradients(field, placed, s.occupancies[atoms])
        return out


def bounded(
    lattice: HalfLattice, intensity: FloatArray | ComplexArray, q_squared: FloatArray
) -> FloatArray | ComplexArray:
    """Exact bounds, in place: no negative intensity, none at q = 0, none beyond q_max."""
    intensity[q_squared > lattice.q_max**2 * (1 + 1e-9)] = 0.0
    np.maximum(intensity.real, 0.0, out=intensity.real)
    if lattice.voxel is None:
        intensity[lattice.extent[0], lattice.extent[1], 0] = 0.0
    return intensity


def _both_orders(displacements: Displacements, terms: PairTerms) -> FloatArray:
    """V_ij + V_ji of each pair, packed (n, 6)."""
    correlated = displacements.correlated
    if correlated is None:
        return np.zeros((len(terms.first), 6))
    if isinstance(correlated, PairCovariance):
        v = correlated.pairs(terms.first, terms.second)
    else:
        v = correlated[terms.first, terms.second]
    return _both_ways(v)


def _both_ways(v: FloatArray) -> FloatArray:
    """V + Vᵀ of covariances (n,) or (n, 3, 3), packed (n, 6)."""
    if v.ndim == 1:
        packed = np.zeros((len(v), 6))
        packed[:, [0, 3, 5]] = 2.0 * v[:, None]
        return packed
    return np.ascontiguousarray((v + v.transpose(0, 2, 1))[:, _ROWS, _COLUMNS])
