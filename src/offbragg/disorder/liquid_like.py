"""Liquid-like motions: correlations between atoms that fall off with their distance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import ComplexArray, FloatArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.symmetry import space_group_operations
from offbragg.disorder.base import ENGINE, DisorderModel, Parameter, check_names
from offbragg.disorder.distance_kernel import DistanceKernel, DistancePairs, reach_of
from offbragg.disorder.halos import halo_series
from offbragg.errors import InputError
from offbragg.scattering.displacements import Displacements, as_scalars
from offbragg.scattering.engine import Engine
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.pair_nufft import PairNufft
from offbragg.scattering.pair_terms import PairSum
from offbragg.scattering.pairs import PairBlock, PairValues
from offbragg.scattering.scatterers import Scatterers

KERNELS = ("exponential", "gaussian")
COHERENCES = ("asu", "cell", "crystal")
FORMS = ("pairs", "convolution")
# Up to so many atoms the covariance is kept as a matrix; beyond, it is made where it is needed.
_LARGEST_MATRIX = 3000
# Part of the kernel's integral over space that the default cut-off of a crystal leaves out.
_TAIL = 1e-3


@dataclass(frozen=True)
class LiquidLike(DisorderModel):
    r"""Liquid-like motions, ``V_ij = σ² Γ(r_ij) 1``; the structure's own ADPs are not used.

    .. math:: I = e^{-q^2\sigma^2} \sum_{ij} f_i f_j e^{i \mathbf q \cdot \mathbf r_{ij}}
              \left[e^{q^2 \sigma^2 \Gamma(r_{ij})} - 1\right]

    Attributes
    ----------
    rms_displacement : float, 3 floats or (3, 3)
        σ [Å]: per Cartesian axis; along x, y and z; or the symmetric square root of the tensor,
        ``V_ij = σσᵀ Γ``. Tensors are in the frame of the asymmetric unit; where motions reach
        across copies they must have the symmetry of the space group.
    correlation_length : float
        γ [Å].
    kernel : {"exponential", "gaussian"}
        ``Γ = exp(−r/γ)`` or ``exp(−r²/2γ²)``.
    coherence : {"asu", "cell", "crystal"}
        Which atoms are correlated: those of one copy; of all copies in one unit cell (as placed by
        `AtomicStructure.to_p1`: actual distances, no minimum image); or all of the crystal, across
        the borders of copies and cells.
    order : "exact" or int
        "exact", or the series in q²σ²Γ up to this power, self terms included: 1 is the form of
        Caspar, Clarage and co-workers.
    cutoff : float or None
        Distance [Å] beyond which atoms are uncorrelated. None: none within a copy or cell; in a
        crystal where the kernel has a thousandth of its integral left (11.2 γ for "exponential").
        A cut kernel is no longer positive semi-definite: intensities a little below zero are
        set to zero.
    form : {"pairs", "convolution"}
        "convolution", for coherence "crystal" and whole orders: the Bragg comb convoluted with
        the kernel's transform. Fast; form factors are taken at the Bragg positions and self terms
        are smeared, an approximation of order (size of an atom) / γ.

    References
    ----------
    .. [1] Caspar, Clarage, Salunke & Clarage, Nature 332, 659 (1988).
    .. [2] Clarage, Clarage, Phillips, Sweet & Caspar, Proteins 12, 145 (1992).

    Examples
    --------
    >>> LiquidLike(rms_displacement=0.4, correlation_length=7.0).order
    'exact'
    """

    rms_displacement: float | tuple[float, ...] | tuple[tuple[float, ...], ...]
    correlation_length: float
    kernel: str = "exponential"
    coherence: str = "asu"
    order: str | int = "exact"
    cutoff: float | None = None
    form: str = "pairs"

    def __post_init__(self) -> None:
        object.__setattr__(self, "rms_displacement", _as_sigma(self.rms_displacement))
        for name in ("correlation_length", "cutoff"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise InputError(f"{name} must be a positive number of Å, got {value}")
        for name, allowed in (
            ("kernel", KERNELS), ("coherence", COHERENCES), ("form", FORMS)
        ):  # fmt: skip
            if getattr(self, name) not in allowed:
                expected = " ".join(allowed)
                raise InputError(f"{name} must be one of {expected}, got {getattr(self, name)!r}")
        is_whole = isinstance(self.order, int | np.integer) and not isinstance(self.order, bool)
        if self.order != "exact" and not (is_whole and int(self.order) >= 1):
            raise InputError(f"order must be 'exact' or a whole number >= 1, got {self.order!r}")
        if self.form == "convolution" and (self.coherence != "crystal" or self.order == "exact"):
            raise InputError("form='convolution' needs coherence='crystal' and a whole order")
        if self.order != "exact" and np.ndim(self.rms_displacement) > 0:
            raise InputError("order must be 'exact' where rms_displacement is anisotropic")

    @property
    def refinable(self) -> Mapping[str, Parameter]:  # type: ignore[override]
        """σ, in the form that it has, and γ."""
        shape = np.shape(self.rms_displacement)
        # Off the diagonal of a tensor σ either sign is possible.
        lower = 1e-3 if len(shape) < 2 else -5.0
        return {
            "rms_displacement": Parameter("Å", lower, 5.0, shape, is_covariance=len(shape) == 2),
            "correlation_length": Parameter("Å", 1e-2, 1e4),
        }

    @property
    def is_truncated(self) -> bool:
        """Whether ``order`` cuts the series off: then no covariance gives the intensity."""
        return self.order != "exact"

    @property
    def has_closed_form(self) -> bool:
        """Whether motions reach across copies: then no matrix over one unit holds them."""
        return self.coherence == "crystal" or self.cutoff is not None

    @property
    def u(self) -> float | FloatArray:
        """Mean-square displacement per axis, or tensor (3, 3) [Å²]."""
        sigma = np.asarray(self.rms_displacement)
        if sigma.ndim == 0:
            return float(sigma) ** 2
        return np.diag(sigma**2) if sigma.ndim == 1 else sigma @ sigma

    def correlation_at(self, distances: FloatArray) -> FloatArray:
        """Correlation Γ at distances [Å]."""
        scaled = distances / self.correlation_length
        gamma = np.exp(-scaled if self.kernel == "exponential" else -0.5 * scaled**2)
        if self.cutoff is not None:
            gamma = np.where(distances < self.cutoff, gamma, 0.0)
        result: FloatArray = gamma
        return result

    def correlation(self, positions: FloatArray) -> FloatArray:
        """Correlations Γ(r_ij), shape (n_atoms, n_atoms)."""
        return DistanceKernel(positions, self.correlation_at, 1.0).dense()

    def displacements(self, structure: AtomicStructure) -> Displacements:
        """Return ``σ² Γ(r_ij)`` [Å²]."""
        if self.has_closed_form:
            cutoff = self.cutoff or reach_of(self.kernel, self.correlation_length, _TAIL)
            pairs = DistancePairs(
                structure, self.correlation_at, self.u, cutoff, self.coherence == "crystal"
            )
            own = np.broadcast_to(self.u * np.eye(3) if np.ndim(self.u) == 0 else self.u, (3, 3))
            independent = np.broadcast_to(own, (structure.n_atoms, 3, 3)).copy()
            return Displacements(independent=independent, pairs=pairs)
        kernel = DistanceKernel(structure.positions, self.correlation_at, self.u)
        small = structure.n_atoms <= _LARGEST_MATRIX
        return Displacements(kernel.dense() if small else kernel)

    def coherent_unit(self, structure: AtomicStructure) -> AtomicStructure:
        """Return one copy, or all copies of the cell.

        Raises
        ------
        InputError
            If motions reach across copies and the tensor σ has not the symmetry of the group.
        """
        if self.coherence != "asu" and np.ndim(self.u) == 2:
            cell = structure.require_cell()
            rotations = space_group_operations(structure.space_group).rotations
            turns = cell.orth_matrix @ rotations @ cell.frac_matrix
            turned = turns @ np.asarray(self.u) @ turns.transpose(0, 2, 1)
            if not np.allclose(turned, self.u, atol=1e-6 * np.max(np.abs(self.u))):
                raise InputError(
                    f"rms_displacement must have the symmetry of {structure.space_group} where "
                    f"coherence={self.coherence!r}"
                )
        whole = self.coherence == "cell" or self.form == "convolution"
        return structure.to_p1() if whole else structure

    def diffuse_on_lattice(
        self,
        lattice: HalfLattice,
        structure: AtomicStructure,
        adps: str = "model",
        engine: Engine = ENGINE,
    ) -> FloatArray | ComplexArray:
        """Diffuse intensity [e²] of one copy: exact, or the series up to ``order``."""
        if self.order == "exact":
            return super().diffuse_on_lattice(lattice, structure, adps, engine)
        if adps != "model":
            raise InputError(f"adps={adps!r} needs order='exact', got order={self.order}")
        if engine.method not in ("auto", "pair-nufft"):
            raise InputError(f"method {engine.method!r} needs order='exact', got {self.order}")
        if self.form == "convolution":
            if lattice.voxel is not None or engine.wavelength is not None:
                raise InputError("form='convolution' has no means over voxels and no wavelength")
            return halo_series(
                lattice, structure, float(self.u), self.correlation_length, self.kernel,
                int(self.order),
            )  # fmt: skip
        scatterers = Scatterers(
            structure.positions, structure.elements, structure.occupancies, engine.wavelength
        )
        pair_sum = PairSum(lattice, scatterers, self.displacements(structure))
        return PairNufft(pair_sum, engine, int(self.order)).intensity()

    def tangent(
        self, structure: AtomicStructure, direction: Mapping[str, ArrayLike]
    ) -> Displacements:
        """Return ``dV = dU Γ + U dΓ/dγ dγ`` [Å²], ``dU = σ dσ + dσ σ``; pairs in order."""
        check_names(self, direction)
        u, du, d_length = self.u, self._u_change(direction), 0.0
        if "correlation_length" in direction:
            d_length = float(np.asarray(direction["correlation_length"]))

        def change(distances: FloatArray) -> FloatArray:
            gamma = self.correlation_at(distances)
            slope = self._length_slope(distances) * d_length
            return _scaled(gamma, du) + _scaled(slope, u)

        if self.has_closed_form:
            n, own = structure.n_atoms, du * np.eye(3) if np.ndim(du) == 0 else du
            pairs = self.displacements(structure).pairs
            assert pairs is not None
            values = [change(_distances(block)) for block in pairs.blocks()]
            empty = np.empty((0, *np.shape(u)))
            return Displacements(
                independent=np.broadcast_to(own, (n, 3, 3)).copy(),
                pairs=PairValues(pairs, np.concatenate([empty, *values])),
            )
        return Displacements(change(_all_distances(structure)))

    def pullback(
        self, structure: AtomicStructure, gradient: Displacements
    ) -> dict[str, FloatArray]:
        """Return dO/dσ and dO/dγ, the adjoint of `tangent`."""
        u = self.u
        by_u, by_length = np.zeros(np.shape(u)), 0.0
        if self.has_closed_form:
            if gradient.independent is not None:
                own = gradient.independent.sum(axis=0)
                by_u = by_u + (np.trace(own) if np.ndim(u) == 0 else own)
            parts = gradient.pairs.blocks() if gradient.pairs is not None else ()
            sums = [(_distances(block), block.covariance) for block in parts]
        elif gradient.correlated is not None:
            by_v = np.asarray(gradient.correlated)
            by_v = as_scalars(by_v) if np.ndim(u) == 0 else by_v
            sums = [(_all_distances(structure), by_v)]
        else:
            sums = []
        for distances, by_v in sums:
            gamma, slope = self.correlation_at(distances), self._length_slope(distances)
            axes = distances.ndim
            by_u = by_u + np.tensordot(gamma, by_v, axes)
            by_length += float(np.sum(np.tensordot(slope, by_v, axes) * u))
        return {
            "rms_displacement": self._by_sigma(by_u),
            "correlation_length": np.asarray(by_length),
        }

    def _u_change(self, direction: Mapping[str, ArrayLike]) -> float | FloatArray:
        """Change of U for a change of σ, in the form of `u`."""
        sigma = np.asarray(self.rms_displacement)
        change = np.asarray(direction.get("rms_displacement", np.zeros(sigma.shape)), np.float64)
        if sigma.ndim == 0:
            return float(2.0 * sigma * change)
        if sigma.ndim == 1:
            return np.diag(2.0 * sigma * change)
        u_change: FloatArray = sigma @ change + change @ sigma
        return u_change

    def _by_sigma(self, by_u: FloatArray) -> FloatArray:
        """Derivatives by σ from those by every element of U."""
        sigma = np.asarray(self.rms_displacement)
        if sigma.ndim == 0:
            return np.asarray(2.0 * sigma * by_u)
        if sigma.ndim == 1:
            diagonal: FloatArray = 2.0 * sigma * np.diag(by_u)
            return diagonal
        by_sigma: FloatArray = sigma @ by_u + by_u @ sigma
        return by_sigma

    def _length_slope(self, distances: FloatArray) -> FloatArray:
        """Derivative of Γ by γ at distances [Å], [Å⁻¹]."""
        power = 1 if self.kernel == "exponential" else 2
        scaled = (distances / self.correlation_length) ** power
        slope: FloatArray = self.correlation_at(distances) * scaled / self.correlation_length
        return slope


def _scaled(scalars: FloatArray, u: float | FloatArray) -> FloatArray:
    """Scalars of any shape times a number, or times a tensor (3, 3)."""
    if np.ndim(u) == 0:
        product: FloatArray = scalars * u
        return product
    tensors: FloatArray = scalars[..., None, None] * np.asarray(u)
    return tensors


def _distances(block: PairBlock) -> FloatArray:
    """Distances of a block's pairs [Å]."""
    lengths: FloatArray = np.linalg.norm(block.separation, axis=1)
    return lengths


def _all_distances(structure: AtomicStructure) -> FloatArray:
    """Distances (n_atoms, n_atoms) of a unit's atoms [Å]."""
    return DistanceKernel(structure.positions, lambda r: r, 1.0).dense()


def _as_sigma(value: ArrayLike) -> float | tuple[float, ...] | tuple[tuple[float, ...], ...]:
    """σ as a number or as nested tuples, checked."""
    try:
        sigma = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"rms_displacement must be numbers of Å, got {value!r}") from None
    if sigma.shape not in ((), (3,), (3, 3)):
        raise InputError(f"rms_displacement must be 1, 3 or (3, 3) numbers, got {sigma.shape}")
    lowest = np.linalg.eigvalsh(sigma).min() if sigma.ndim == 2 else sigma.min()
    if not np.all(np.isfinite(sigma)) or lowest < 0:
        raise InputError(f"rms_displacement must be a positive number of Å, got {value!r}")
    if sigma.ndim == 2 and not np.allclose(sigma, sigma.T):
        raise InputError(f"rms_displacement must be symmetric, got {sigma.tolist()}")
    if sigma.ndim == 0:
        return float(sigma)
    if sigma.ndim == 1:
        return tuple(float(x) for x in sigma)
    return tuple(tuple(float(x) for x in row) for row in sigma)
