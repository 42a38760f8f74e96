"""Liquid-like motions: correlations between atoms that fall off with their distance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.spatial.distance

from offbragg.conventions import FloatArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.base import DisorderModel, Parameter
from offbragg.errors import InputError
from offbragg.scattering.form_factors import element_form_factor, unique_elements
from offbragg.scattering.gaussian import (
    DEFAULT_RTOL,
    Displacements,
    pair_sum_on_lattice,
    voxel_weights,
)
from offbragg.scattering.lattice import HalfLattice

KERNELS = ("exponential", "gaussian")
COHERENCES = ("asu", "cell")


@dataclass(frozen=True)
class LiquidLike(DisorderModel):
    r"""Liquid-like motions, ``V_ij = σ² Γ(r_ij) 1``; the structure's own ADPs are not used.

    .. math:: I = e^{-q^2\sigma^2} \sum_{ij} f_i f_j e^{i \mathbf q \cdot \mathbf r_{ij}}
              \left[e^{q^2 \sigma^2 \Gamma(r_{ij})} - 1\right]

    Attributes
    ----------
    rms_displacement : float
        σ [Å], per Cartesian axis.
    correlation_length : float
        γ [Å].
    kernel : {"exponential", "gaussian"}
        ``Γ = exp(−r/γ)`` or ``exp(−r²/2γ²)``.
    coherence : {"asu", "cell"}
        Which atoms are correlated: those of one copy, or of all copies in one unit cell (as
        placed by `AtomicStructure.to_p1`: actual distances, no minimum image).
    order : "exact" or int
        "exact", or the series in q²σ²Γ up to this power, self terms included: 1 is the form of
        Caspar, Clarage and co-workers.

    References
    ----------
    .. [1] Caspar, Clarage, Salunke & Clarage, Nature 332, 659 (1988).
    .. [2] Clarage, Clarage, Phillips, Sweet & Caspar, Proteins 12, 145 (1992).

    Examples
    --------
    >>> LiquidLike(rms_displacement=0.4, correlation_length=7.0).order
    'exact'
    """

    refinable: ClassVar[Mapping[str, Parameter]] = {
        "rms_displacement": Parameter("Å", 1e-3, 5.0),
        "correlation_length": Parameter("Å", 1e-2, 1e4),
    }

    rms_displacement: float
    correlation_length: float
    kernel: str = "exponential"
    coherence: str = "asu"
    order: str | int = "exact"

    def __post_init__(self) -> None:
        for name in ("rms_displacement", "correlation_length"):
            value = getattr(self, name)
            low_enough = value >= 0 if name == "rms_displacement" else value > 0
            if not (np.isfinite(value) and low_enough):
                raise InputError(f"{name} must be a positive number of Å, got {value}")
        if self.kernel not in KERNELS:
            raise InputError(f"kernel must be one of {' '.join(KERNELS)}, got {self.kernel!r}")
        if self.coherence not in COHERENCES:
            expected = " ".join(COHERENCES)
            raise InputError(f"coherence must be one of {expected}, got {self.coherence!r}")
        is_whole = isinstance(self.order, int | np.integer) and not isinstance(self.order, bool)
        if self.order != "exact" and not (is_whole and int(self.order) >= 1):
            raise InputError(f"order must be 'exact' or a whole number >= 1, got {self.order!r}")

    @property
    def is_truncated(self) -> bool:
        """Whether ``order`` cuts the series off: then no covariance gives the intensity."""
        return self.order != "exact"

    def correlation(self, positions: FloatArray) -> FloatArray:
        """Correlations Γ(r_ij), shape (n_atoms, n_atoms)."""
        distances = scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(positions))
        scaled = distances / self.correlation_length
        gamma: FloatArray
        gamma = np.exp(-scaled if self.kernel == "exponential" else -0.5 * scaled**2)
        return gamma

    def displacements(self, structure: AtomicStructure) -> Displacements:
        """Return ``σ² Γ(r_ij)``, isotropic [Å²]."""
        return Displacements(self.rms_displacement**2 * self.correlation(structure.positions))

    def coherent_unit(self, structure: AtomicStructure) -> AtomicStructure:
        """Return one copy, or all copies of the cell."""
        return structure.to_p1() if self.coherence == "cell" else structure

    def diffuse_on_lattice(
        self,
        lattice: HalfLattice,
        structure: AtomicStructure,
        adps: str = "model",
        rtol: float = DEFAULT_RTOL,
    ) -> FloatArray:
        """Diffuse intensity [e²] of one copy: exact, or the series up to ``order``."""
        if self.order == "exact":
            return super().diffuse_on_lattice(lattice, structure, adps, rtol)
        if adps != "model":
            raise InputError(f"adps={adps!r} needs order='exact', got order={self.order}")
        return self._series(lattice, structure, int(self.order), rtol)

    def _series(
        self, lattice: HalfLattice, structure: AtomicStructure, order: int, rtol: float
    ) -> FloatArray:
        """Sum over n of ``e^{-x} xⁿ/n! Φ_n``, x = q²σ², Φ_n = Σ_ij f_i f_j e^{iq·r_ij} Γⁿ."""
        q_squared = lattice.q_squared()
        x = q_squared * self.rms_displacement**2
        correlation = self.correlation(structure.positions)
        weights = voxel_weights(lattice, structure.positions)
        self_term = np.zeros(lattice.shape)
        names, index = unique_elements(structure.elements)
        for number, name in enumerate(names):
            weight = np.sum(structure.occupancies[index == number] ** 2)
            self_term += weight * element_form_factor(name, q_squared) ** 2
        total, power = np.zeros(lattice.shape), np.exp(-x)
        for n in range(1, order + 1):
            pairs = pair_sum_on_lattice(
                lattice, structure.positions, structure.elements, structure.occupancies,
                Displacements(), rtol, weights * correlation**n,
            )  # fmt: skip
            power *= x / n
            total += power * (self_term + pairs)
        within = q_squared <= lattice.q_max**2 * (1 + 1e-9)
        intensity: FloatArray = np.where(within, np.maximum(total, 0.0), 0.0)
        return intensity
