"""Macromolecular diffuse X-ray scattering, from images to maps to correlated motions."""

from offbragg import inference, scattering
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.structure import AtomicStructure, read_structure
from offbragg.disorder import Covariance, LiquidLike, RigidBody, Uncorrelated
from offbragg.errors import FormatError, InputError, MissingFileError, OffbraggError
from offbragg.inference import FitResult, fit
from offbragg.maps.comparison import Comparison, compare
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.importers import import_map
from offbragg.maps.io import read_map, write_map
from offbragg.maps.statistics import statistics
from offbragg.maps.symmetrize import MergeResult, merge
from offbragg.reduction.experiment import Experiment, read_experiments
from offbragg.reduction.expose import ExposeOptions, expose
from offbragg.reduction.options import MapOptions
from offbragg.reduction.pipeline import compute_map
from offbragg.simulation import simulate

__all__ = [
    "AtomicStructure",
    "Comparison",
    "Covariance",
    "DiffuseMap",
    "Experiment",
    "ExposeOptions",
    "FitResult",
    "FormatError",
    "HklGrid",
    "InputError",
    "LiquidLike",
    "MapOptions",
    "MergeResult",
    "MissingFileError",
    "OffbraggError",
    "RigidBody",
    "Uncorrelated",
    "compare",
    "compute_map",
    "expose",
    "fit",
    "import_map",
    "inference",
    "merge",
    "read_experiments",
    "read_map",
    "read_structure",
    "scattering",
    "simulate",
    "statistics",
    "write_map",
]
