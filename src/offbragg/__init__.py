"""Macromolecular diffuse X-ray scattering, from images to maps to correlated motions."""

from offbragg import scattering
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.structure import AtomicStructure, read_structure
from offbragg.disorder import Covariance, LiquidLike, RigidBody, Uncorrelated
from offbragg.errors import FormatError, InputError, MissingFileError, OffbraggError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.simulation import simulate

__all__ = [
    "AtomicStructure",
    "Covariance",
    "DiffuseMap",
    "FormatError",
    "HklGrid",
    "InputError",
    "LiquidLike",
    "MissingFileError",
    "OffbraggError",
    "RigidBody",
    "Uncorrelated",
    "read_structure",
    "scattering",
    "simulate",
]
