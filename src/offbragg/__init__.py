"""Macromolecular diffuse X-ray scattering, from images to maps to correlated motions."""

from offbragg import inference, scattering
from offbragg.crystal.ensembles import read_ensemble
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.structure import AtomicStructure, read_structure
from offbragg.crystal.tls import read_tls_groups
from offbragg.differentiable import MapOperator
from offbragg.disorder import (
    BasisCovariance,
    Covariance,
    ElasticNetwork,
    Ensemble,
    FreeAdps,
    LatticeCovariance,
    LatticeVibrations,
    LiquidLike,
    RigidBodies,
    RigidBody,
    Uncorrelated,
)
from offbragg.errors import FormatError, InputError, MissingFileError, OffbraggError
from offbragg.inference import (
    FitResult,
    InferredCovariance,
    RankedModel,
    fit,
    infer_covariance,
    rank_models,
)
from offbragg.maps.comparison import Comparison, compare
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.friedel_split import FriedelSplit, split_friedel
from offbragg.maps.importers import import_map
from offbragg.maps.io import read_map, write_map
from offbragg.maps.patterson import DeltaPdf, DeltaPdfOptions, compute_delta_pdf
from offbragg.maps.statistics import statistics
from offbragg.maps.symmetrize import MergeResult, merge
from offbragg.reduction.experiment import Experiment, read_experiments
from offbragg.reduction.expose import ExposeOptions, expose
from offbragg.reduction.image_geometry import ImageGeometry
from offbragg.reduction.image_reader import read_image_geometry
from offbragg.reduction.options import MapOptions
from offbragg.reduction.pipeline import compute_map
from offbragg.simulation import simulate

__all__ = [
    "AtomicStructure",
    "BasisCovariance",
    "Comparison",
    "Covariance",
    "DeltaPdf",
    "DeltaPdfOptions",
    "DiffuseMap",
    "ElasticNetwork",
    "Ensemble",
    "Experiment",
    "ExposeOptions",
    "FitResult",
    "FormatError",
    "FreeAdps",
    "FriedelSplit",
    "HklGrid",
    "ImageGeometry",
    "InferredCovariance",
    "InputError",
    "LatticeCovariance",
    "LatticeVibrations",
    "LiquidLike",
    "MapOperator",
    "MapOptions",
    "MergeResult",
    "MissingFileError",
    "OffbraggError",
    "RankedModel",
    "RigidBodies",
    "RigidBody",
    "Uncorrelated",
    "compare",
    "compute_delta_pdf",
    "compute_map",
    "expose",
    "fit",
    "import_map",
    "infer_covariance",
    "inference",
    "merge",
    "rank_models",
    "read_ensemble",
    "read_experiments",
    "read_image_geometry",
    "read_map",
    "read_structure",
    "read_tls_groups",
    "scattering",
    "simulate",
    "split_friedel",
    "statistics",
    "write_map",
]
