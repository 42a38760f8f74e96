"""Between a model's named parameters and the vector that a solver moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.disorder.base import DisorderModel, Parameter, SumOfModels
from offbragg.errors import InputError


@dataclass(frozen=True)
class ParameterVector:
    """The refined parameters of a model; those that must be positive move as their logarithm.

    Attributes
    ----------
    model : DisorderModel
        Where the fit starts; parameters that are not refined stay as here.
    names : tuple of str
    """

    model: DisorderModel
    names: tuple[str, ...]

    @classmethod
    def of(cls, model: DisorderModel, refine: Sequence[str] | None) -> ParameterVector:
        """Take the named parameters, or all that the model can refine.

        Raises
        ------
        InputError
            If the model has no such parameter, or none at all, or one starts out of bounds; or
            the model is a sum, of which nothing can be refined yet.
        """
        if isinstance(model, SumOfModels):
            raise InputError("refine: expected one model, got a sum: it cannot be refined yet")
        numbers = [
            name
            for name, limits in model.refinable.items()
            if limits.shape == np.shape(getattr(model, name)) == ()
        ]
        known = ", ".join(numbers) or "none"
        names = tuple(numbers) if refine is None else tuple(refine)
        if isinstance(refine, str):
            names = (refine,)
        kind = type(model).__name__
        for name in names:
            if name in model.refinable and name not in numbers:
                raise InputError(f"refine: {name} of {kind} is an array: only numbers are refined")
            if name not in numbers:
                raise InputError(f"refine: {kind} has no parameter {name!r}, expected {known}")
        if len(set(names)) < len(names):
            raise InputError(f"refine: expected each name once, got {' '.join(names)}")
        if not names:
            raise InputError(f"refine: expected a parameter of {kind} ({known}), got none")
        vector = cls(model, names)
        for name in names:
            limits, value = vector.limits(name), getattr(model, name)
            if not limits.lower <= value <= limits.upper:
                raise InputError(
                    f"{name} must start between {limits.lower:g} and {limits.upper:g} "
                    f"{limits.unit}, got {value:g}"
                )
        return vector

    def limits(self, name: str) -> Parameter:
        """Unit and bounds of a parameter."""
        return self.model.refinable[name]

    @property
    def start(self) -> FloatArray:
        """Where the solver starts."""
        return np.array([self._inside(name, getattr(self.model, name)) for name in self.names])

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bounds of the solver's vector."""
        limits = [self.limits(name) for name in self.names]
        lower = [self._inside(n, x.lower) for n, x in zip(self.names, limits, strict=True)]
        upper = [self._inside(n, x.upper) for n, x in zip(self.names, limits, strict=True)]
        return np.array(lower), np.array(upper)

    def values(self, vector: FloatArray) -> dict[str, float]:
        """Parameters by name for a solver's vector."""
        return {
            name: float(np.exp(x)) if self._is_log(name) else float(x)
            for name, x in zip(self.names, vector, strict=True)
        }

    def slopes(self, vector: FloatArray) -> FloatArray:
        """d(parameter)/d(vector): turns errors of the vector into errors of the parameters."""
        values = self.values(vector)
        return np.array([values[name] if self._is_log(name) else 1.0 for name in self.names])

    def model_at(self, vector: FloatArray) -> DisorderModel:
        """The model with the parameters of a solver's vector."""
        changes: dict[str, Any] = self.values(vector)
        moved: DisorderModel = replace(self.model, **changes)  # type: ignore[type-var]
        return moved

    def _is_log(self, name: str) -> bool:
        return self.limits(name).lower > 0

    def _inside(self, name: str, value: float) -> float:
        return float(np.log(value)) if self._is_log(name) else float(value)
