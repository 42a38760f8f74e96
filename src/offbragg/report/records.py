"""Fits, inferences and rankings as pages need them: made here, or read from the files of commands.

What a command wrote is less than what it had: the model is known by its text alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np

from offbragg.disorder.base import DisorderModel
from offbragg.disorder.residues import ResidueCorrelations, labelled_correlations
from offbragg.inference.inferred import InferredCovariance, Score
from offbragg.inference.ranking import RankedModel
from offbragg.inference.result import FitResult, FittedParameter
from offbragg.maps.diffuse_map import DiffuseMap


@dataclass(frozen=True, eq=False)
class FitRecord:
    """What a page tells of a fit; the fields are those of `FitResult`, the model is its text."""

    model: str
    parameters: Mapping[str, FittedParameter]
    scale: FittedParameter
    n_numbers: int
    n_determined: float
    undetermined: str
    statistics: Mapping[str, Any]
    converged: bool
    message: str
    model_map: DiffuseMap
    residues: ResidueCorrelations | None = None

    @classmethod
    def of(cls, found: FitResult) -> FitRecord:
        """Take it from a fit."""
        return cls(
            repr(found.model), found.parameters, found.scale, found.n_numbers, found.n_determined,
            found.told_undetermined, found.statistics, found.converged, found.message,
            found.model_map, found.residues,
        )  # fmt: skip

    @classmethod
    def read(cls, figures: Mapping[str, Any], model_map: DiffuseMap) -> FitRecord:
        """Take it from what `fit` wrote in parameters.json.

        Raises
        ------
        KeyError, TypeError, ValueError
            If something is missing or of another kind.
        """
        determined = figures["n_determined"]
        return cls(
            model=str(figures["model"]),
            parameters={n: _parameter(p) for n, p in figures["parameters"].items()},
            scale=_parameter(figures["scale"]),
            n_numbers=int(figures["n_numbers"]),
            n_determined=np.nan if determined is None else float(determined),
            undetermined=str(figures["undetermined"]),
            statistics={name: s for name, s in figures["statistics"].items() if s is not None},
            converged=bool(figures["converged"]),
            message=str(figures["message"]),
            model_map=model_map,
            residues=_residues(figures),
        )

    def sets(self) -> dict[str, Mapping[str, Any]]:
        """Statistics of the working and, where there are any, of the held-out voxels."""
        return {name: s for name, s in self.statistics.items() if s is not None}


@dataclass(frozen=True, eq=False)
class InferredRecord:
    """What a page tells of an inference; fields are those of `InferredCovariance`."""

    base_model: str
    exact: Score
    linear: Score
    null: Score | None
    cc_smooth: float
    cc_working: float
    penalty: float
    cc_by_penalty: Mapping[float, float]
    n_numbers: int
    n_determined: float
    clipped: float
    message: str
    residues: ResidueCorrelations
    base_residues: ResidueCorrelations | None
    correlation_errors: np.ndarray | None
    model_map: DiffuseMap
    base_map: DiffuseMap | None

    @classmethod
    def of(cls, found: InferredCovariance) -> InferredRecord:
        """Take it from an inference."""
        own = {f.name for f in fields(cls)} & set(vars(found))
        return cls(
            base_model=repr(found.base.model),
            base_map=found.base.model_map,
            **{name: getattr(found, name) for name in own},
        )

    @classmethod
    def read(cls, figures: Mapping[str, Any], model_map: DiffuseMap) -> InferredRecord:
        """Take it from what `infer` wrote in inferred.json.

        Raises
        ------
        KeyError, TypeError, ValueError
            If something is missing or of another kind.
        """
        residues = _residues(figures)
        if residues is None:
            raise KeyError("residues")
        null, errors = figures["null"], figures["correlation_errors"]
        plain = ("cc_smooth", "cc_working", "penalty", "n_numbers", "n_determined", "clipped")
        return cls(
            base_model=str(figures["base"]["model"]),
            exact=Score(**figures["exact"]),
            linear=Score(**figures["linear"]),
            null=None if null is None else Score(**null),
            cc_by_penalty={float(x): float(y) for x, y in figures["cc_by_penalty"].items()},
            message=str(figures["message"]),
            residues=residues,
            base_residues=None,
            correlation_errors=None if errors is None else np.array(errors, dtype=np.float64),
            model_map=model_map,
            base_map=None,
            **{name: figures[name] for name in plain},
        )


def read_ranking(figures: Mapping[str, Any]) -> list[RankedModel]:
    """Take a ranking from what `rank` wrote.

    Raises
    ------
    KeyError, TypeError, ValueError
        If something is missing or of another kind.
    """
    arrays = ("cc_by_fold", "cc_without")
    return [
        RankedModel(
            **{
                **{field.name: entry[field.name] for field in fields(RankedModel)},
                # Pages ask a model for its text alone.
                "model": cast("DisorderModel", _Text(entry["model"])),
                **{name: np.array(entry[name], dtype=np.float64) for name in arrays},
            }
        )
        for entry in figures["ranking"]
    ]


class _Text(str):
    """Text that represents itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _parameter(entry: Mapping[str, Any]) -> FittedParameter:
    """A parameter; None, which stands for what is not a finite number, is NaN again."""
    value, error = (_numbers(entry[name]) for name in ("value", "standard_error"))
    return FittedParameter(value, error, str(entry["unit"]))


def _numbers(value: Any) -> Any:
    array = np.array(value, dtype=np.float64)
    return float(array) if array.ndim == 0 else array


def _residues(figures: Mapping[str, Any]) -> ResidueCorrelations | None:
    """How residues move together, where a file says it."""
    labels, covariance = figures.get("residues"), figures.get("covariance")
    if not labels or covariance is None:
        return None
    return labelled_correlations(labels, covariance)
