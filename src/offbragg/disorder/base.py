"""What every disorder model is: parameters θ, and the covariance V(θ) of a structure's atoms."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import ComplexArray, FloatArray, IntArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.errors import ExcessiveMotionError, InputError
from offbragg.scattering.displacements import Displacements
from offbragg.scattering.engine import Engine
from offbragg.scattering.lattice import HalfLattice
from offbragg.scattering.on_lattice import diffuse_on_lattice

ADPS = ("model", "file")
# A remainder U − V_ii this little below zero [Å²] is rounding in the file's last digit.
REMAINDER_TOLERANCE = 1e-4


ENGINE = Engine()


@dataclass(frozen=True)
class Parameter:
    """A number, or an array of numbers, of a model that a fit may refine.

    Attributes
    ----------
    unit : str
    lower, upper : float
        Bounds of every number.
    shape : tuple of int
        Of the array; () for a single number.
    is_covariance : bool
        Whether it must stay symmetric and positive semi-definite.
    """

    unit: str
    lower: float = 0.0
    upper: float = np.inf
    shape: tuple[int, ...] = ()
    is_covariance: bool = False


class DisorderModel(ABC):
    """A model of how the atoms of one copy of a structure move.

    A model is a frozen dataclass of its parameters with one method, `displacements`. From that
    follow simulation and sums of models; from `tangent` and `pullback`, which are adjoint to each
    other, fits of the parameters named in ``refinable``.
    """

    refinable: ClassVar[Mapping[str, Parameter]] = {}

    @property
    def is_truncated(self) -> bool:
        """Whether the intensity is an approximation that no covariance gives exactly."""
        return False

    @property
    def has_closed_form(self) -> bool:
        """Whether `diffuse_on_lattice` has a way of its own, without a covariance of the unit."""
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
            If ``adps`` is neither; `ExcessiveMotionError` if a remainder is not positive
            semi-definite: names the atom.
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
        engine: Engine = ENGINE,
    ) -> FloatArray | ComplexArray:
        """Diffuse intensity [e²] of one copy on a lattice; models with a closed form override it.

        Parameters and result are those of `offbragg.scattering.diffuse_on_lattice`.
        """
        return diffuse_on_lattice(
            lattice,
            structure.positions,
            structure.elements,
            structure.occupancies,
            self.with_adps(structure, adps),
            engine,
            alternatives_of(structure) if engine.altlocs == "exclusive" else None,
        )

    def parameters(self, structure: AtomicStructure) -> dict[str, FloatArray]:
        """Return the values of the refinable parameters, arrays of their shapes, by name."""
        return {name: np.asarray(getattr(self, name), np.float64) for name in self.refinable}

    def with_parameters(self, values: Mapping[str, ArrayLike]) -> Self:
        """Return the model with some parameters changed.

        Raises
        ------
        InputError
            If the model has no such parameter, or its value is not a possible one.
        """
        changes: dict[str, Any] = {}
        for name, value in values.items():
            if name not in self.refinable:
                known = ", ".join(self.refinable) or "none"
                raise InputError(f"{type(self).__name__} has parameters {known}, got {name!r}")
            array = np.asarray(value, dtype=np.float64)
            changes[name] = float(array) if array.ndim == 0 else array
        moved: Self = replace(self, **changes)  # type: ignore[type-var]
        return moved

    def tangent(
        self, structure: AtomicStructure, direction: Mapping[str, ArrayLike]
    ) -> Displacements:
        """Return dV for a change dθ of parameters: the derivative of `displacements` [Å²].

        Parameters
        ----------
        structure : AtomicStructure
        direction : mapping of str to number or array
            Change of each parameter that changes, of its shape.
        """
        check_names(self, direction)
        zeros = np.zeros((structure.n_atoms, structure.n_atoms))
        return Displacements(zeros)

    def pullback(
        self, structure: AtomicStructure, gradient: Displacements
    ) -> dict[str, FloatArray]:
        """Return dO/dθ from dO/dV, the adjoint of `tangent`.

        Parameters
        ----------
        structure : AtomicStructure
        gradient : Displacements
            ``correlated`` (n, n, 3, 3) or, for isotropic models, (n, n); ``independent``
            (n, 3, 3) or None: derivatives by every element of V as if each were free, so that
            ``dO = Σ gradient · dV`` over all elements.

        Returns
        -------
        dict of str to ndarray
            One array a refinable parameter, of its shape.
        """
        if self.refinable:
            raise InputError(f"{type(self).__name__} has no derivative by its parameters")
        return {}

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
                raise InputError(
                    "a sum needs models with a covariance (order='exact', "
                    f"approximation='gaussian'), got {model!r}"
                )

    @property
    def refinable(self) -> Mapping[str, Parameter]:  # type: ignore[override]
        """Parameters of every model, as ``name_of_model.name``."""
        return {
            f"{prefix}.{name}": parameter
            for prefix, model in self.named()
            for name, parameter in model.refinable.items()
        }

    @property
    def has_closed_form(self) -> bool:
        """Whether a model reaches across copies."""
        return any(model.has_closed_form for model in self.models)

    def named(self) -> list[tuple[str, DisorderModel]]:
        """Return the models with names: ``liquid_like``, and ``liquid_like_2`` for a second one."""
        named: list[tuple[str, DisorderModel]] = []
        counts: dict[str, int] = {}
        for model in self.models:
            kind = re.sub("(?<!^)(?=[A-Z])", "_", type(model).__name__).lower()
            counts[kind] = counts.get(kind, 0) + 1
            named.append((kind if counts[kind] == 1 else f"{kind}_{counts[kind]}", model))
        return named

    def parameters(self, structure: AtomicStructure) -> dict[str, FloatArray]:
        """Return the values of all models' parameters."""
        return {
            f"{prefix}.{name}": value
            for prefix, model in self.named()
            for name, value in model.parameters(structure).items()
        }

    def with_parameters(self, values: Mapping[str, ArrayLike]) -> SumOfModels:
        """Return the sum with some parameters changed."""
        check_names(self, values)
        return SumOfModels(
            tuple(model.with_parameters(own) for model, own in self._shared_out(values))
        )

    def tangent(
        self, structure: AtomicStructure, direction: Mapping[str, ArrayLike]
    ) -> Displacements:
        """Return the sum of the models' dV for a change of their parameters [Å²]."""
        check_names(self, direction)
        total = Displacements()
        for model, own in self._shared_out(direction):
            if own:
                total = total + model.tangent(structure, own)
        return total

    def pullback(
        self, structure: AtomicStructure, gradient: Displacements
    ) -> dict[str, FloatArray]:
        """Return dO/dθ of all models' parameters: V is a sum, so each sees the same dO/dV."""
        return {
            f"{prefix}.{name}": value
            for prefix, model in self.named()
            for name, value in model.pullback(structure, gradient).items()
        }

    def _shared_out(
        self, values: Mapping[str, ArrayLike]
    ) -> list[tuple[DisorderModel, dict[str, ArrayLike]]]:
        """Each model with what concerns it."""
        return [
            (
                model,
                {n[len(prefix) + 1 :]: v for n, v in values.items() if n.startswith(prefix + ".")},
            )
            for prefix, model in self.named()
        ]

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


def alternatives_of(structure: AtomicStructure) -> tuple[IntArray, IntArray]:
    """Group (−1: none) and alternative of each atom: altlocs of one residue exclude each other.

    Returns
    -------
    groups, alternatives : ndarray, shape (n_atoms,), int64
    """
    names: dict[tuple[object, ...], int] = {}
    groups = np.full(structure.n_atoms, -1, dtype=np.int64)
    for atom in np.flatnonzero(structure.altlocs != ""):
        # Altlocs may be of different residue types: copy, chain and number make the group.
        residue = (structure.copies[atom], structure.chains[atom], structure.residue_numbers[atom])
        groups[atom] = names.setdefault(residue, len(names))
    alternatives = np.unique(structure.altlocs, return_inverse=True)[1].astype(np.int64)
    return groups, alternatives


def check_names(model: DisorderModel, names: Mapping[str, object]) -> None:
    """Check that a model has refinable parameters of these names.

    Raises
    ------
    InputError
        If it has not.
    """
    for name in names:
        if name not in model.refinable:
            known = ", ".join(model.refinable) or "none"
            raise InputError(f"{type(model).__name__} has parameters {known}, got {name!r}")


def _terms(model: DisorderModel) -> tuple[DisorderModel, ...]:
    return model.models if isinstance(model, SumOfModels) else (model,)


def _remainder(structure: AtomicStructure, own: Displacements) -> FloatArray:
    remainder = structure.u_aniso - own.u_aniso(structure.n_atoms)
    values, vectors = np.linalg.eigh(remainder)
    if not len(values):
        return remainder
    worst = int(np.argmin(values[:, 0]))
    if values[worst, 0] < -REMAINDER_TOLERANCE:
        raise ExcessiveMotionError(
            f"adps='file': the model moves atom {structure.label(worst)} by more than its ADP: "
            f"U - V has eigenvalue {values[worst, 0]:.4f} Å², expected >= 0"
        )
    clipped = np.maximum(values, 0.0)
    filled: FloatArray = (vectors * clipped[:, None, :]) @ vectors.transpose(0, 2, 1)
    return filled
