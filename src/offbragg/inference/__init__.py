"""From a map back to the parameters of a disorder model."""

from offbragg.inference.result import FitResult, FittedParameter
from offbragg.inference.solve import FitOptions, fit

__all__ = ["FitOptions", "FitResult", "FittedParameter", "fit"]
