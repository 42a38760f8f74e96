"""Structure factors and diffuse intensities of sets of atoms: arrays in, arrays out."""

from offbragg.scattering.displacements import Displacements, LowRank, PairCovariance
from offbragg.scattering.engine import Engine
from offbragg.scattering.form_factors import compute_form_factors, element_form_factor
from offbragg.scattering.gaussian import diffuse_intensity
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.on_lattice import diffuse_on_lattice
from offbragg.scattering.pairs import PairBlock, Pairs
from offbragg.scattering.structure_factors import (
    compute_structure_factors,
    structure_factors_on_lattice,
)

__all__ = [
    "Displacements",
    "Engine",
    "HalfLattice",
    "LowRank",
    "PairBlock",
    "PairCovariance",
    "Pairs",
    "compute_form_factors",
    "compute_structure_factors",
    "diffuse_intensity",
    "diffuse_on_lattice",
    "element_form_factor",
    "structure_factors_on_lattice",
]
