"""`FitResult`: what a fit found, how sure it is, and how well it does on held-out voxels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.disorder.base import DisorderModel
from offbragg.disorder.residues import ResidueCorrelations
from offbragg.inference.optimum import Optimum
from offbragg.inference.starts import StartReached
from offbragg.maps.diffuse_map import DiffuseMap


@dataclass(frozen=True)
class FittedParameter:
    """A refined number, or array of numbers.

    Attributes
    ----------
    value, standard_error : float or ndarray
        The error is that of the Gauss–Newton matrix, for independent voxels; it is scaled by the
        residuals where the map has no σ, or where they are larger than σ says; or that of a
        bootstrap. Infinite: the map does not determine it. NaN: not worked out.
    unit : str
    interval : ndarray, shape (2, …), or None
        Lower and upper end of the bootstrap's interval, of 95 % where nothing else was asked for.
        None without a bootstrap.
    """

    value: float | FloatArray
    standard_error: float | FloatArray
    unit: str
    interval: FloatArray | None = None

    def numbers(self, name: str) -> list[tuple[str, float, float, str]]:
        """Every number as (name, value, standard error, unit); of a symmetric matrix each once.

        >>> FittedParameter(0.4, 0.1, "Å").numbers("sigma")
        [('sigma', 0.4, 0.1, 'Å')]
        >>> two = FittedParameter(np.eye(2), np.full((2, 2), 0.1), "Å²").numbers("t")
        >>> [row[0] for row in two]
        ['t[0,0]', 't[0,1]', 't[1,1]']
        """
        value, error = np.asarray(self.value), np.asarray(self.standard_error)
        is_symmetric = value.ndim == 2 and np.array_equal(value, value.T)
        return [
            (
                name + (f"[{','.join(str(i) for i in index)}]" if index else ""),
                float(value[index]),
                float(error[index]),
                self.unit,
            )
            for index in np.ndindex(value.shape)
            if not (is_symmetric and index[0] > index[1])
        ]


@dataclass(frozen=True)
class FitResult:
    """The outcome of `fit`.

    Attributes
    ----------
    parameters : mapping of str to FittedParameter
    correlations : ndarray, shape (n, n)
        Of the errors of all parameters' numbers, in their order.
    scale : FittedParameter
        Map units per e² of a unit cell.
    model : DisorderModel
        With the refined parameters.
    model_map : DiffuseMap
        Scale times model plus background, at the map's hkl within the fit's limits. The
        background is its mean in shells of 0.01 Å⁻¹, so that the anisotropic part has none of it.
    residual_map : DiffuseMap
        The map less ``model_map``, where both are; with the map's σ.
    statistics : mapping
        "working" and "held_out": ``n_unique``, ``n``, ``cc``, ``r``, ``cc_anisotropic``,
        ``r_anisotropic``, ``chi2_reduced`` (None without σ) and ``shells``: the same CC and R in
        ten shells of equal volume, the same for both, column → list, ``d_max`` and ``d_min`` [Å]
        first, None where a figure is not defined. "held_out" is None where nothing is held out.
    residues : ResidueCorrelations or None
        How residues move together in the fitted model; None where motions reach across copies.
    background : mapping
        ``q`` [Å⁻¹] and ``intensity``, a table of the isotropic background.
    n_numbers : int
        Numbers that were refined.
    n_determined : float
        How many of them the map determines, about: ``Σ 1/(1 + error²)`` over independent
        combinations, the error as a share of the parameter.
    spectrum : ndarray
        These errors, smallest first.
    converged : bool
    message : str
        Why the fit stopped, and warnings.
    n_evaluations : int
        Maps, and products and gradients of maps, made.
    optimum : Optimum
        What `bootstrap` needs.
    starts : tuple of StartReached
        What each start led to, the given one first.
    """

    parameters: Mapping[str, FittedParameter]
    correlations: FloatArray
    scale: FittedParameter
    model: DisorderModel
    model_map: DiffuseMap
    residual_map: DiffuseMap
    statistics: Mapping[str, Any]
    residues: ResidueCorrelations | None
    background: Mapping[str, FloatArray]
    n_numbers: int
    n_determined: float
    spectrum: FloatArray
    converged: bool
    message: str
    n_evaluations: int
    optimum: Optimum
    starts: tuple[StartReached, ...] = ()

    @property
    def told_undetermined(self) -> str:
        """What the map does not say, in words; empty where it says all.

        Numbers whose standard error is infinite, and parameters of which no number is above two
        errors. A factor P of V is left out: it may be turned within its columns, which moves
        nothing, and `pair_errors` tells of V.
        """
        unknown, small = [], []
        for name, p in self.parameters.items():
            if name.rpartition(".")[2] == "factor":
                continue
            rows = p.numbers(name)
            n_open = sum(np.isinf(error) for _, _, error, _ in rows)
            if n_open:
                unknown.append(f"{name} ({n_open} of {len(rows)} numbers)")
            known = [(value, error) for _, value, error, _ in rows if np.isfinite(error)]
            if known and all(abs(value) < 2.0 * error for value, error in known):
                small.append(name)
        parts = []
        if unknown:
            parts.append(f"Not determined by this map: {', '.join(unknown)}.")
        if small:
            parts.append(f"Not told from zero, all below two errors: {', '.join(small)}.")
        return " ".join(parts)
