"""From a map back to the parameters of a disorder model."""

from offbragg.inference.bootstrap import Bootstrap, bootstrap
from offbragg.inference.covariance_objective import CovarianceObjective
from offbragg.inference.fitting import fit
from offbragg.inference.options import FitOptions
from offbragg.inference.ranking import RankedModel, rank_models, standard_models
from offbragg.inference.result import FitResult, FittedParameter

__all__ = [
    "Bootstrap",
    "CovarianceObjective",
    "FitOptions",
    "FitResult",
    "FittedParameter",
    "RankedModel",
    "bootstrap",
    "fit",
    "rank_models",
    "standard_models",
]
