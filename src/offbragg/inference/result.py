"""`FitResult`: what a fit found, how sure it is, and how well it does on held-out voxels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from offbragg.conventions import FloatArray
from offbragg.disorder.base import DisorderModel
from offbragg.maps.diffuse_map import DiffuseMap


@dataclass(frozen=True)
class FittedParameter:
    """A refined number.

    Attributes
    ----------
    value, standard_error : float
        The error is that of the Gauss–Newton matrix, for independent voxels; it is scaled by the
        residuals where the map has no σ, or where they are larger than σ says.
    unit : str
    """

    value: float
    standard_error: float
    unit: str


@dataclass(frozen=True)
class FitResult:
    """The outcome of `fit`.

    Attributes
    ----------
    parameters : mapping of str to FittedParameter
    correlations : ndarray, shape (n_parameters, n_parameters)
        Of the parameters' errors, in their order.
    scale : FittedParameter
        Map units per e² of a unit cell.
    model : DisorderModel
        With the refined parameters.
    model_map : DiffuseMap
        Scale times model plus background, at the map's hkl within the fit's limits. The
        background is its mean in shells of 0.01 Å⁻¹, so that the anisotropic part has none of it.
    statistics : mapping
        "working" and "held_out": ``n_unique``, ``n``, ``cc``, ``r``, ``cc_anisotropic``,
        ``r_anisotropic``, ``chi2_reduced`` (None without σ); "held_out" None where nothing is.
    background : mapping
        ``q`` [Å⁻¹] and ``intensity``, a table of the isotropic background.
    converged : bool
    message : str
        Why the fit stopped, and warnings.
    n_evaluations : int
        Simulations made.
    """

    parameters: Mapping[str, FittedParameter]
    correlations: FloatArray
    scale: FittedParameter
    model: DisorderModel
    model_map: DiffuseMap
    statistics: Mapping[str, Any]
    background: Mapping[str, FloatArray]
    converged: bool
    message: str
    n_evaluations: int
