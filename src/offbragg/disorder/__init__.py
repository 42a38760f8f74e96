"""Models of how atoms move: parameters → covariance of the displacements."""

from offbragg.disorder.base import DisorderModel, Parameter, SumOfModels
from offbragg.disorder.covariance import Covariance
from offbragg.disorder.liquid_like import LiquidLike
from offbragg.disorder.rigid_body import RigidBody
from offbragg.disorder.uncorrelated import Uncorrelated

__all__ = [
    "Covariance",
    "DisorderModel",
    "LiquidLike",
    "Parameter",
    "RigidBody",
    "SumOfModels",
    "Uncorrelated",
]
