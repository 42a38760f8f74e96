"""Models of how atoms move: parameters → covariance of the displacements."""

from offbragg.disorder.base import DisorderModel, Parameter, SumOfModels
from offbragg.disorder.bases import basis_of, start_in_basis
from offbragg.disorder.basis import BasisCovariance, principal_components
from offbragg.disorder.bodies import bodies_of, tls_basis
from offbragg.disorder.correlations import covariance_by_distance
from offbragg.disorder.covariance import Covariance
from offbragg.disorder.elastic_network import ElasticNetwork
from offbragg.disorder.ensemble import Ensemble
from offbragg.disorder.fields import smooth_fields
from offbragg.disorder.free_adps import FreeAdps
from offbragg.disorder.gaussian_test import compare_gaussian
from offbragg.disorder.lattice_covariance import LatticeCovariance
from offbragg.disorder.lattice_vibrations import LatticeVibrations
from offbragg.disorder.liquid_like import LiquidLike
from offbragg.disorder.residues import principal_motions, residue_correlations
from offbragg.disorder.rigid_bodies import RigidBodies
from offbragg.disorder.rigid_body import RigidBody
from offbragg.disorder.uncorrelated import Uncorrelated

__all__ = [
    "BasisCovariance",
    "Covariance",
    "DisorderModel",
    "ElasticNetwork",
    "Ensemble",
    "FreeAdps",
    "LatticeCovariance",
    "LatticeVibrations",
    "LiquidLike",
    "Parameter",
    "RigidBodies",
    "RigidBody",
    "SumOfModels",
    "Uncorrelated",
    "basis_of",
    "bodies_of",
    "compare_gaussian",
    "covariance_by_distance",
    "principal_components",
    "principal_motions",
    "residue_correlations",
    "smooth_fields",
    "start_in_basis",
    "tls_basis",
]
