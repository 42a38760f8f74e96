"""`InferredCovariance`: what `infer_covariance` found, and what it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from offbragg.conventions import FloatArray
from offbragg.disorder.covariance import Covariance
from offbragg.disorder.residues import ResidueCorrelations
from offbragg.inference.result import FitResult
from offbragg.maps.diffuse_map import DiffuseMap


@dataclass(frozen=True, eq=False)
class Score:
    """Correlations of the anisotropic parts over voxels that a fit has not seen.

    Attributes
    ----------
    base : float
        Of the model that was given, beside backgrounds and harmonics.
    cc : float
        With the covariance changed.
    gain, gain_error : float
        Their difference, and its standard error by the jackknife over blocks.
    """

    base: float
    cc: float
    gain: float
    gain_error: float


@dataclass(frozen=True, eq=False)
class InferredCovariance:
    """The outcome of `infer_covariance`.

    Attributes
    ----------
    model : Covariance
        Of all atoms of the structure: the base's, changed, and made positive semi-definite.
    base : FitResult
        The fit of the model that was given.
    residues, base_residues : ResidueCorrelations
        How groups move together, in the model and in its base.
    correlation_errors : ndarray, shape (n_groups, n_groups), or None
        Standard errors of ``residues.correlation`` over resampled blocks; None without resamples.
    penalty : float
        In mean squares of a penalised column.
    cc_by_penalty : mapping of float to float
        Correlation over all voxels, each block predicted by the fit without it.
    n_numbers : int
        Numbers of the change of the covariance.
    n_determined : float
        How many of them the data decide rather than the penalty.
    spectrum : ndarray, shape (n_numbers,)
        The data's share in each independent combination, largest first.
    linear : Score
        To first order, by blocks left out one at a time.
    exact : Score
        Of the exact maps of covariances that are possible, by folds of blocks; the penalty is
        chosen anew in each without the fold. The figure to quote.
    null : Score or None
        ``linear`` for the map as if indexed wrongly: what these functions explain of anything.
    cc_smooth : float
        As ``linear.base``, with the scaled model left out: smooth functions alone.
    cc_working : float
        Of the model's exact map on the voxels that it was fitted to.
    clipped : float
        Share of the total motion that was cut off to make the covariance a possible one.
    model_map, residual_map : DiffuseMap
        Scale times model, backgrounds and harmonics; the map less that.
    message : str
        Warnings, in words.
    """

    model: Covariance
    base: FitResult
    residues: ResidueCorrelations
    base_residues: ResidueCorrelations
    correlation_errors: FloatArray | None
    penalty: float
    cc_by_penalty: Mapping[float, float]
    n_numbers: int
    n_determined: float
    spectrum: FloatArray
    linear: Score
    exact: Score
    null: Score | None
    cc_smooth: float
    cc_working: float
    clipped: float
    model_map: DiffuseMap
    residual_map: DiffuseMap
    message: str
