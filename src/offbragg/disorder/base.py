"""What every disorder model is: parameters θ, and the covariance V(θ) of a structure's atoms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.errors import InputError
from offbragg.scattering.gaussian import DEFAULT_RTOL, Displacements, diffuse_on_lattice
from offbragg.scattering.lattice import HalfLattice

ADPS = ("model", "file")
# A remainder U − V_ii this little below zero [Å²] is rounding in the file's last digit.
REMAINDER_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Parameter:
    """A number of a model that a fit may refine: its unit and its bounds."""

    unit: str
    lower: float = 0.0
    upper: float = np.inf


class DisorderModel(ABC):
    """A model of how the atoms of one copy of a structure move.

    A model is a frozen dataclass of its parameters with one method, `displacements`. From that
    follow simulation, sums of models and fits of the parameters named in ``refinable``.
    """

    refinable: ClassVar[Mapping[str, Parameter]] = {}

    @property
    def is_truncated(self) -> bool:
        """Whether the intensity is an approximation that no covariance gives exactly."""
        return False

    @abstractmethod
    def displacements(self, structure: AtomicStructure) -> Displacements:
        """Return the second moments of the displacements of the structure's atoms [Å²]."""

    def coherent_unit(self, structure: AtomicStructure) -> AtomicStructure:
        """Return the atoms that move together: by default one copy, the asymmetric unit."""
        return structure

    def with_adps(self, structure: AtomicStructure, adps: str) -> Displacements:
        """Return the displacements with V_ii as the model has it, or filled up to the file's U.

        Parameters
        ----------
        structure : AtomicStructure
        adps : {"model", "file"}
            "model": as `displacements`. "file": the remainder ``U_i − V_ii`` is added as motion
            of each atom by itself, so that the total is the file's U_i.

        Raises
        ------
        InputError
            If ``adps`` is neither, or a remainder is not positive semi-definite: names the atom.
        """
        if adps not in ADPS:
            raise InputError(f"adps must be 'model' or 'file', got {adps!r}")
        own = self.displacements(structure)
        if adps == "model":
            return own
        return own + Displacements(independent=_remainder(structure, own))

    def diffuse_on_lattice(
        self,
        lattice: HalfLattice,
        structure: AtomicStructure,
        adps: str = "model",
        rtol: float = DEFAULT_RTOL,
    ) -> FloatArray:
        """Diffuse intensity [e²] of one copy on a lattice; models with a closed form override it.

        Parameters and result are those of `offbragg.scattering.gaussian.diffuse_on_lattice`.
        """
        return diffuse_on_lattice(
            lattice,
            structure.positions,
            structure.elements,
            structure.occupancies,
            self.with_adps(structure, adps),
            rtol,
        )

    def __add__(self, other: DisorderModel) -> SumOfModels:
        """Model of two independent motions at once: covariances add, intensities do not."""
        return SumOfModels((*_terms(self), *_terms(other)))


@dataclass(frozen=True)
class SumOfModels(DisorderModel):
    """Independent motions at once, ``V = Σ_m V_m``.

    Attributes
    ----------
    models : tuple of DisorderModel
    """

    models: tuple[DisorderModel, ...]

    def __post_init__(self) -> None:
        for model in self.models:
            if model.is_truncated:
                raise InputError(f"a sum needs models of order='exact', got {model!r}")

    def displacements(self, structure: AtomicStructure) -> Displacements:
        """Return the sum of the models' second moments [Å²]."""
        total = Displacements()
        for model in self.models:
            total = total + model.displacements(structure)
        return total

    def coherent_unit(self, structure: AtomicStructure) -> AtomicStructure:
        """Return the atoms that move together, which must be the same for every model.

        Raises
        ------
        InputError
            If one model moves the asymmetric unit and another the whole cell.
        """
        units = [model.coherent_unit(structure) for model in self.models]
        if len({unit.n_atoms for unit in units}) > 1:
            raise InputError("the models of a sum must move the same atoms: all asu or all cell")
        return units[0]


def _terms(model: DisorderModel) -> tuple[DisorderModel, ...]:
    return model.models if isinstance(model, SumOfModels) else (model,)


def _remainder(structure: AtomicStructure, own: Displacements) -> FloatArray:
    remainder = structure.u_aniso - own.u_aniso(structure.n_atoms)
    values, vectors = np.linalg.eigh(remainder)
    if not len(values):
        return remainder
    worst = int(np.argmin(values[:, 0]))
    if values[worst, 0] < -REMAINDER_TOLERANCE:
        raise InputError(
            f"adps='file': the model moves atom {structure.label(worst)} by more than its ADP: "
            f"U - V has eigenvalue {values[worst, 0]:.4f} Å², expected >= 0"
        )
    clipped = np.maximum(values, 0.0)
    filled: FloatArray = (vectors * clipped[:, None, :]) @ vectors.transpose(0, 2, 1)
    return filled
