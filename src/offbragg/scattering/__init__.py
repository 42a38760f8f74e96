"""Structure factors and diffuse intensities of sets of atoms: arrays in, arrays out."""

from offbragg.scattering.form_factors import compute_form_factors, element_form_factor
from offbragg.scattering.gaussian import Displacements, diffuse_intensity, diffuse_on_lattice
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.structure_factors import (
    compute_structure_factors,
    structure_factors_on_lattice,
)

__all__ = [
    "Displacements",
    "HalfLattice",
    "compute_form_factors",
    "compute_structure_factors",
    "diffuse_intensity",
    "diffuse_on_lattice",
    "element_form_factor",
    "structure_factors_on_lattice",
]
