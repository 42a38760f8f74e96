r"""Diffuse intensity of one copy of a set of atoms, for any covariance of their displacements.

.. math:: I(\mathbf q) = \sum_{ij} a_i^* a_j \left[e^{\mathbf q^T V_{ij} \mathbf q} - 1\right],
          \quad a_i = f_i e^{i \mathbf q \cdot \mathbf r_i - \frac12 \mathbf q^T V_{ii} \mathbf q}

With ``D_ij = V_ii + V_jj − V_ij − V_ji``, the covariance of the relative displacement, this is the
transform of a Patterson function of one Gaussian per pair, less the Bragg part:

.. math:: I = \sum_{ij} f_i f_j \cos(\mathbf q \cdot \mathbf r_{ij})
          e^{-\frac12 \mathbf q^T D_{ij} \mathbf q} - |F|^2

At scattered q the first form is summed directly; on a lattice the second is splatted. Arrays in,
arrays out: no files, no symmetry.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import FloatArray, IntArray
from offbragg.errors import InputError
from offbragg.runtime import iter_chunks
from offbragg.scattering import _kernels
from offbragg.scattering.form_factors import element_form_factor, unique_elements
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.splat import SplatPlan
from offbragg.scattering.structure_factors import structure_factors_on_lattice

DEFAULT_RTOL = 1e-4
_UPPER = np.triu_indices(3)
_NO_ISOTROPIC, _NO_ANISOTROPIC, _NO_EXTRA = (
    np.empty((0, 0)),
    np.empty((0, 0, 0, 0)),
    np.empty((0, 0, 0)),
)
# Pairs whose Gaussians are made at once: about 72 bytes each.
_PAIRS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Displacements:
    """Second moments of the displacements of n atoms.

    Attributes
    ----------
    correlated : ndarray or None
        (n, n): covariance per Cartesian axis, isotropic; or (n, n, 3, 3): ``V_ij = ⟨δ_i δ_jᵀ⟩``
        [Å²]. The diagonal holds the mean-square displacements of this part.
    independent : ndarray, shape (n, 3, 3), or None
        Mean-square displacements U [Å²] of a further motion of each atom by itself.
    """

    correlated: FloatArray | None = None
    independent: FloatArray | None = None

    @property
    def isotropic(self) -> FloatArray:
        """The correlated part where it is (n, n), otherwise an empty array."""
        return (
            self.correlated
            if self.correlated is not None and self.correlated.ndim == 2
            else _NO_ISOTROPIC
        )

    @property
    def anisotropic(self) -> FloatArray:
        """The correlated part where it is (n, n, 3, 3), otherwise an empty array."""
        return (
            self.correlated
            if self.correlated is not None and self.correlated.ndim == 4
            else _NO_ANISOTROPIC
        )

    def check_shapes(self, n_atoms: int) -> None:
        """Check that both parts are for a number of atoms.

        Raises
        ------
        InputError
            If a part has another shape.
        """
        n = n_atoms
        for name, allowed in (
            ("correlated", ((n, n), (n, n, 3, 3))),
            ("independent", ((n, 3, 3),)),
        ):
            part = getattr(self, name)
            if part is not None and part.shape not in allowed:
                expected = " or ".join(str(shape) for shape in allowed)
                raise InputError(f"{name} displacements must be {expected}, got {part.shape}")

    def u_aniso(self, n_atoms: int) -> FloatArray:
        """Total mean-square displacements U = V_ii, shape (n_atoms, 3, 3) [Å²]."""
        total = np.zeros((n_atoms, 3, 3))
        if self.correlated is not None:
            diagonal = np.arange(n_atoms)
            own = self.correlated[diagonal, diagonal]
            total += own if own.ndim == 3 else own[:, None, None] * np.eye(3)
        if self.independent is not None:
            total += self.independent
        return total

    def __add__(self, other: Displacements) -> Displacements:
        """Second moments of the sum of two independent motions."""
        return Displacements(
            _sum_or_none(_promoted(self, other), _promoted(other, self)),
            _sum_or_none(self.independent, other.independent),
        )


def diffuse_intensity(
    q: FloatArray,
    positions: FloatArray,
    form_factors: NDArray[np.inexact],
    covariance: FloatArray,
    method: str = "auto",
    rtol: float = 1e-6,
) -> FloatArray:
    r"""Diffuse intensity at scattered q for a covariance, exact in the Gaussian approximation.

    .. math:: I(\mathbf q) = \sum_{ij} a_i^* a_j [e^{\mathbf q^T V_{ij} \mathbf q} - 1]

    Parameters
    ----------
    q : ndarray, shape (n_q, 3), float64
        Scattering vectors, Cartesian [Å⁻¹], 2π included.
    positions : ndarray, shape (n_atoms, 3), float64
        Cartesian [Å].
    form_factors : ndarray, shape (n_q, n_atoms), float64 or complex128
        At ``q``, occupancies included [electrons].
    covariance : ndarray, shape (n_atoms, n_atoms) or (n_atoms, n_atoms, 3, 3), float64
        ``V_ij`` [Å²]; the first form is isotropic, the covariance per Cartesian axis.
    method : {"auto", "direct"}
        "direct": the double sum over atoms, O(n_q n_atoms²), about 5 ns a term and core.
        "auto" takes it for scattered q.
    rtol : float
        Relative error asked for; the direct sum is exact to rounding.

    Returns
    -------
    ndarray, shape (n_q,), float64
        [e²], of this one copy.

    Raises
    ------
    InputError
        If a shape does not match, the covariance is not symmetric, or the method is unknown.

    Examples
    --------
    One atom, U = 0.1 Å²: f² (1 − exp(−q² U)).

    >>> q, one = np.array([[1.0, 0.0, 0.0]]), np.array([[0.1]])
    >>> diffuse_intensity(q, np.zeros((1, 3)), np.array([[6.0]]), one).round(4)
    array([3.4259])
    """
    if method not in ("auto", "direct"):
        raise InputError(f"method must be 'auto' or 'direct', got {method!r}")
    if not 0 < rtol < 1:
        raise InputError(f"rtol must be between 0 and 1, got {rtol}")
    q, positions = np.asarray(q, dtype=np.float64), np.asarray(positions, dtype=np.float64)
    n_q, n_atoms = len(q), len(positions)
    if q.shape != (n_q, 3) or positions.shape != (n_atoms, 3):
        raise InputError(f"q and positions must be (n, 3), got {q.shape} and {positions.shape}")
    form_factors = np.asarray(form_factors)
    if form_factors.shape != (n_q, n_atoms):
        raise InputError(f"form_factors must be {(n_q, n_atoms)}, got {form_factors.shape}")
    v = Displacements(check_covariance(covariance, n_atoms))
    intensity = np.empty(n_q)
    real = np.ascontiguousarray(form_factors.real, dtype=np.float64)
    imaginary = np.ascontiguousarray(form_factors.imag, dtype=np.float64)
    _kernels.diffuse_direct(q, positions, real, imaginary, v.isotropic, v.anisotropic, intensity)
    return intensity


def check_covariance(covariance: FloatArray, n_atoms: int) -> FloatArray:
    """Return a covariance as a contiguous array after checking its shape and symmetry.

    Raises
    ------
    InputError
        If it is neither (n, n) nor (n, n, 3, 3), not finite, or ``V_ji ≠ V_ijᵀ``.
    """
    v = np.ascontiguousarray(covariance, dtype=np.float64)
    if v.shape not in ((n_atoms, n_atoms), (n_atoms, n_atoms, 3, 3)):
        raise InputError(
            f"covariance must be {(n_atoms, n_atoms)} or {(n_atoms, n_atoms, 3, 3)}, got {v.shape}"
        )
    if not np.all(np.isfinite(v)):
        raise InputError("covariance must be finite, got NaN or infinity")
    mirrored = v.T if v.ndim == 2 else v.transpose(1, 0, 3, 2)
    if n_atoms and np.max(np.abs(v - mirrored)) > 1e-8 * max(float(np.max(np.abs(v))), 1e-30):
        raise InputError("covariance must be symmetric (V_ji = transpose of V_ij)")
    return v


def diffuse_on_lattice(
    lattice: HalfLattice,
    positions: FloatArray,
    elements: Sequence[str] | NDArray[np.str_],
    occupancies: FloatArray,
    displacements: Displacements,
    rtol: float = DEFAULT_RTOL,
) -> FloatArray:
    """Diffuse intensity on every node of a lattice, by splatting one Gaussian per pair of atoms.

    Parameters
    ----------
    lattice : HalfLattice
    positions : ndarray, shape (n_atoms, 3), float64
        Cartesian [Å].
    elements : sequence of str, length n_atoms
    occupancies : ndarray, shape (n_atoms,)
    displacements : Displacements
    rtol : float
        Largest error wanted, as a fraction of the mean intensity.

    Returns
    -------
    ndarray, ``lattice.shape``, float64
        [e²] of this one copy, never negative; 0 beyond ``lattice.q_max``.

    Notes
    -----
    Time O(n_atoms²) for the splatting, some thousand grid points a pair, plus one FFT per pair of
    elements. Memory: two real-space grids and a few lattices.

    Where the lattice asks for means over voxels, each pair is weighted by
    ``Π_k sinc(e_k · x_ij)``, x_ij the fractional separation and e_k the voxel's edges in hkl: the
    transform of a voxel, taken at the middle of the pair's Gaussian. Form factors and widths stay
    those at the node: an error of a few 1e-3 of the mean where a voxel is a small part of 1/U,
    more for the few voxels around q = 0.
    """
    displacements.check_shapes(len(positions))
    u_aniso = displacements.u_aniso(len(positions))
    if not np.any(u_aniso):
        return np.zeros(lattice.shape)
    if displacements.correlated is None:
        return uncorrelated_on_lattice(lattice, elements, occupancies, u_aniso, rtol)
    tolerance = rtol * _diffuse_fraction(lattice, u_aniso)
    if lattice.voxel is not None:
        return _averaged_over_voxels(lattice, positions, elements, occupancies, displacements, rtol)
    total = pair_sum_on_lattice(lattice, positions, elements, occupancies, displacements, tolerance)
    q_squared = lattice.q_squared()
    names, index = unique_elements(elements)
    for number, name in enumerate(names):
        weight = np.sum(occupancies[index == number] ** 2)
        total += weight * element_form_factor(name, q_squared) ** 2
    # F is coherent: near q = 0 the square is up to n_atoms times the sum of squares.
    f_tolerance = 0.1 * tolerance / len(positions)
    f_calc = structure_factors_on_lattice(
        lattice, positions, elements, occupancies, u_aniso, f_tolerance
    )
    total -= f_calc.real**2 + f_calc.imag**2
    return _bounded(lattice, total, q_squared)


def _averaged_over_voxels(
    lattice: HalfLattice,
    positions: FloatArray,
    elements: Sequence[str] | NDArray[np.str_],
    occupancies: FloatArray,
    displacements: Displacements,
    rtol: float,
) -> FloatArray:
    """Mean diffuse intensity over voxels: correlated less uncorrelated pairs, and self terms."""
    u_aniso = displacements.u_aniso(len(positions))
    tolerance = rtol * _diffuse_fraction(lattice, u_aniso)
    weights = voxel_weights(lattice, positions)
    atoms = (positions, elements, occupancies)
    total = uncorrelated_on_lattice(lattice, elements, occupancies, u_aniso, rtol)
    total += pair_sum_on_lattice(lattice, *atoms, displacements, tolerance, weights)
    apart = Displacements(independent=u_aniso)
    total -= pair_sum_on_lattice(lattice, *atoms, apart, tolerance, weights)
    return _bounded(lattice, total, lattice.q_squared())


def voxel_weights(lattice: HalfLattice, positions: FloatArray) -> FloatArray:
    """Weights (n_atoms, n_atoms) of pairs in means over voxels, ``Π_k sinc(e_k · x_ij)``.

    All are 1 where the lattice has no voxel.
    """
    weights = np.ones((len(positions), len(positions)))
    if lattice.voxel is not None:
        along_edges = positions @ lattice.cell.frac_matrix.T @ lattice.voxel.T
        for edge in along_edges.T:
            weights *= np.sinc(edge[:, None] - edge[None, :])
    return weights


def uncorrelated_on_lattice(
    lattice: HalfLattice,
    elements: Sequence[str] | NDArray[np.str_],
    occupancies: FloatArray,
    u_aniso: FloatArray,
    rtol: float = DEFAULT_RTOL,
) -> FloatArray:
    """Diffuse intensity of atoms that move independently, ``Σ f_i² [1 − exp(−qᵀU_i q)]``.

    Splats a Gaussian of covariance 2 U_i at the origin for each atom. Parameters and result are
    those of `diffuse_on_lattice`.
    """
    plan = SplatPlan.for_tolerance(lattice, 0.1 * rtol * _diffuse_fraction(lattice, u_aniso))
    q_squared = lattice.q_squared()
    unblur = plan.unblur(q_squared)
    total = np.zeros(lattice.shape)
    covariances = _packed(2 * plan.to_index @ u_aniso @ plan.to_index.T)
    names, index = unique_elements(elements)
    for number, name in enumerate(names):
        atoms = index == number
        weights = occupancies[atoms] ** 2
        grid = plan.real_space_grid()
        plan.add(grid, np.zeros((len(weights), 3)), covariances[atoms], weights)
        damped = plan.transform(grid).real * unblur
        total += element_form_factor(name, q_squared) ** 2 * (np.sum(weights) - damped)
    return _bounded(lattice, total, q_squared)


def pair_sum_on_lattice(
    lattice: HalfLattice,
    positions: FloatArray,
    elements: Sequence[str] | NDArray[np.str_],
    occupancies: FloatArray,
    displacements: Displacements,
    tolerance: float,
    pair_weights: FloatArray | None = None,
) -> FloatArray:
    """Sum ``w_ij f_i f_j cos(q·r_ij) exp(−½ qᵀD_ij q)`` over i ≠ j on every node of a lattice.

    Parameters
    ----------
    lattice, positions, elements, occupancies, displacements
        As for `diffuse_on_lattice`; empty displacements mean D = 0.
    tolerance : float
        Error of one pair as a fraction of its weight.
    pair_weights : ndarray, shape (n_atoms, n_atoms), optional
        Symmetric w_ij; 1 where not given. Pairs of weight below ``tolerance²`` are left out.

    Returns
    -------
    ndarray, ``lattice.shape``, float64
        [e²]; 0 beyond ``lattice.q_max``.
    """
    q_squared = lattice.q_squared()
    names, index = unique_elements(elements)
    form_factors = [element_form_factor(name, q_squared) for name in names]
    groups = _choose_groups(lattice, displacements, len(positions), len(names), tolerance)
    to_index = groups[0].plan.to_index
    fractions = positions @ to_index.T
    extra = _NO_EXTRA if displacements.independent is None else displacements.independent
    totals = [np.zeros(lattice.shape) for _ in groups]
    for a in range(len(names)):
        for b in range(a, len(names)):
            grids = [group.plan.real_space_grid() for group in groups]
            for first, second, same in _pair_blocks(index, a, b):
                centres, covariances, least = _kernels.pair_gaussians(
                    first, second, same, fractions,
                    displacements.isotropic, displacements.anisotropic, extra, to_index,
                )  # fmt: skip
                weights = 2.0 * _pairs(np.outer(occupancies[first], occupancies[second]), same)
                seen = weights != 0
                if pair_weights is not None:
                    weights = weights * _pairs(pair_weights[np.ix_(first, second)], same)
                    seen = np.abs(weights) > tolerance**2
                for group, grid in zip(groups, grids, strict=True):
                    own = seen & (least >= group.lower) & (least < group.upper)
                    group.plan.add(grid, centres[own], covariances[own], weights[own])
            for group, grid, total in zip(groups, grids, totals, strict=True):
                if np.any(grid):
                    total += group.plan.transform(grid).real * (form_factors[a] * form_factors[b])
    for group, total in zip(groups, totals, strict=True):
        total *= group.plan.unblur(q_squared)
    result: FloatArray = sum(totals[1:], totals[0])
    return result


@dataclass(frozen=True)
class _Group:
    """Pairs whose least variance [Å²] is in [lower, upper), and the plan that serves them."""

    lower: float
    upper: float
    plan: SplatPlan


def _choose_groups(
    lattice: HalfLattice,
    displacements: Displacements,
    n_atoms: int,
    n_elements: int,
    tolerance: float,
) -> list[_Group]:
    """One group of pairs, or two where wide Gaussians save more without blur than FFTs cost.

    Decided on a sample of pairs; the transforms cost about 12 touched points a grid point.
    """
    everything = _Group(-np.inf, np.inf, SplatPlan.for_tolerance(lattice, tolerance))
    least, mean = _sampled_variances(displacements, n_atoms)
    if len(least) == 0:
        return [everything]
    n_pairs = n_atoms * (n_atoms - 1) / 2
    transforms = 12.0 * n_elements * (n_elements + 1) / 2 * float(np.prod(everything.plan.shape))
    best = [everything]
    best_cost = n_pairs * float(np.mean(everything.plan.size_of(mean))) + transforms
    for threshold in np.quantile(least, (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)):
        plan = SplatPlan.for_tolerance(lattice, tolerance, max(float(threshold), 0.0))
        sizes = np.where(least < threshold, everything.plan.size_of(mean), plan.size_of(mean))
        cost = n_pairs * float(np.mean(sizes)) + 2 * transforms
        if cost < best_cost:
            best_cost = cost
            best = [
                _Group(-np.inf, float(threshold), everything.plan),
                _Group(float(threshold), np.inf, plan),
            ]
    return best


def _sampled_variances(
    displacements: Displacements, n_atoms: int, n_sample: int = 4000
) -> tuple[FloatArray, FloatArray]:
    """Least eigenvalue and mean of D_ij [Å²] over pairs spread evenly through the list."""
    if n_atoms < 2:
        return np.empty(0), np.empty(0)
    i, j = np.divmod(np.linspace(1, n_atoms**2 - 2, n_sample).astype(np.int64), n_atoms)
    i, j = i[i != j], j[i != j]
    d = np.zeros((len(i), 3, 3))
    v = displacements.isotropic
    if len(v):
        d += (v[i, i] + v[j, j] - 2 * v[i, j])[:, None, None] * np.eye(3)
    v = displacements.anisotropic
    if len(v):
        d += v[i, i] + v[j, j] - v[i, j] - v[i, j].transpose(0, 2, 1)
    if displacements.independent is not None:
        d += displacements.independent[i] + displacements.independent[j]
    least = np.linalg.eigvalsh(d)[:, 0].astype(np.float64)
    return least, np.trace(d, axis1=1, axis2=2) / 3


def _pair_blocks(index: IntArray, a: int, b: int) -> Iterator[tuple[IntArray, IntArray, bool]]:
    """Blocks (first, second, same) of the pairs of elements a and b, each a bounded number."""
    first, second = np.flatnonzero(index == a), np.flatnonzero(index == b)
    rows = max(1, _PAIRS_AT_ONCE // max(1, len(second)))
    if a != b:
        for chunk in iter_chunks(len(first), rows):
            yield first[chunk], second, False
        return
    for chunk in iter_chunks(len(first), rows):
        yield first[chunk], first[chunk], True
        if chunk.stop < len(first):
            yield first[chunk], first[chunk.stop :], False


def _pairs(table: FloatArray, same: bool) -> FloatArray:
    """Entries of a table in the order in which the kernel lists pairs."""
    return table[np.triu_indices(len(table), 1)] if same else table.ravel()


def _packed(matrices: FloatArray) -> FloatArray:
    """Upper triangles (n, 6) of symmetric matrices (n, 3, 3)."""
    return np.ascontiguousarray(matrices[:, _UPPER[0], _UPPER[1]])


def _diffuse_fraction(lattice: HalfLattice, u_aniso: FloatArray) -> float:
    """Fraction of the scattering that is diffuse, about: sets how exact its parts must be."""
    u_mean = float(np.mean(np.trace(u_aniso, axis1=1, axis2=2))) / 3
    # The mean over the sphere's volume is near the value at 0.77 q_max.
    return float(np.clip(-np.expm1(-0.6 * lattice.q_max**2 * u_mean), 1e-6, 1.0))


def _bounded(lattice: HalfLattice, intensity: FloatArray, q_squared: FloatArray) -> FloatArray:
    """Exact bounds: no negative intensity, none at q = 0, none beyond q_max."""
    wanted = q_squared <= lattice.q_max**2 * (1 + 1e-9)
    bounded: FloatArray = np.where(wanted, np.maximum(intensity, 0.0), 0.0)
    if lattice.voxel is None:
        bounded[lattice.extent[0], lattice.extent[1], 0] = 0.0
    return bounded


def _promoted(one: Displacements, other: Displacements) -> FloatArray | None:
    """The correlated part of one, as blocks where the other's is given in blocks."""
    if one.correlated is None or one.correlated.ndim == 4:
        return one.correlated
    if other.correlated is None or other.correlated.ndim == 2:
        return one.correlated
    return one.correlated[:, :, None, None] * np.eye(3)


def _sum_or_none(a: FloatArray | None, b: FloatArray | None) -> FloatArray | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b
