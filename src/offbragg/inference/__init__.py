"""From a map back to the parameters of a disorder model."""

from offbragg.inference.covariance_objective import CovarianceObjective
from offbragg.inference.fitting import fit
from offbragg.inference.options import FitOptions
from offbragg.inference.ranking import RankedModel, rank_models, standard_models
from offbragg.inference.result import FitResult, FittedParameter

__all__ = [
    "CovarianceObjective",
    "FitOptions",
    "FitResult",
    "FittedParameter",
    "RankedModel",
    "fit",
    "rank_models",
    "standard_models",
]
