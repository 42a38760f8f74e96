"""From a map back to the parameters of a disorder model."""

from offbragg.inference.covariance_objective import CovarianceObjective
from offbragg.inference.ranking import RankedModel, rank_models, standard_models
from offbragg.inference.result import FitResult, FittedParameter
from offbragg.inference.solve import FitOptions, fit

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
