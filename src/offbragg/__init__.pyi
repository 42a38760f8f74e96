# What `import offbragg` offers: each name is imported when it is first used.
from . import inference, scattering
from .crystal.ensembles import read_ensemble
from .crystal.grid import HklGrid
from .crystal.structure import AtomicStructure, read_structure
from .crystal.tls import read_tls_groups
from .differentiable import MapOperator
from .disorder import (
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
from .errors import FormatError, InputError, MissingFileError, OffbraggError
from .inference import (
    FitResult,
    InferredCovariance,
    RankedModel,
    fit,
    infer_covariance,
    rank_models,
)
from .maps.comparison import Comparison, compare
from .maps.diffuse_map import DiffuseMap
from .maps.export import export_map
from .maps.friedel_split import FriedelSplit, split_friedel
from .maps.importers import import_map
from .maps.io import read_map, write_map
from .maps.patterson import DeltaPdf, DeltaPdfOptions, compute_delta_pdf
from .maps.statistics import statistics
from .maps.symmetrize import MergeResult, merge
from .reduction.experiment import Experiment, read_experiments
from .reduction.expose import ExposeOptions, expose
from .reduction.image_geometry import ImageGeometry
from .reduction.image_reader import read_image_geometry
from .reduction.options import MapOptions
from .reduction.pipeline import compute_map
from .simulation import simulate

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
    "export_map",
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
