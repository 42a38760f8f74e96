"""From a map back to the parameters of a disorder model."""

from offbragg.inference.bootstrap import Bootstrap, bootstrap
from offbragg.inference.covariance_objective import CovarianceObjective
from offbragg.inference.first_order import start_from_map
from offbragg.inference.fitting import fit
from offbragg.inference.infer import infer_covariance
from offbragg.inference.inferred import InferredCovariance, Score
from offbragg.inference.low_rank import coarse_fields, low_rank_start
from offbragg.inference.options import FitOptions
from offbragg.inference.pair_errors import pair_errors
from offbragg.inference.ranking import RankedModel, rank_models, standard_models
from offbragg.inference.result import FitResult, FittedParameter

__all__ = [
    "Bootstrap",
    "CovarianceObjective",
    "FitOptions",
    "FitResult",
    "FittedParameter",
    "InferredCovariance",
    "RankedModel",
    "Score",
    "bootstrap",
    "coarse_fields",
    "fit",
    "infer_covariance",
    "low_rank_start",
    "pair_errors",
    "rank_models",
    "standard_models",
    "start_from_map",
]
