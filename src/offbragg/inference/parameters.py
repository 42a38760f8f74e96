"""Between a model's named parameters and the vector that a solver moves.

Every chart keeps its parameters possible whatever the vector: positive numbers move as their
logarithm, covariances as a root R of ``M = s R Rᵀ s``, s the sizes of the coordinates at the start.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from offbragg.conventions import FloatArray, IntArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.base import DisorderModel, Parameter, SumOfModels
from offbragg.disorder.rigid_body import RigidBody, motion_matrix
from offbragg.errors import InputError

# A covariance starts with this much more on its diagonal, scaled to 1: where a root is singular its
# gradient is zero, and it would stay so.
_JITTER = 1e-4
# Spread of other starts: of logarithms, of roots in units of the first, of a number's own size.
OTHER_STARTS = 0.5
_TENSORS = ("translation", "libration", "screw")


class Chart(ABC):
    """Some parameters of a model as functions of a stretch of the vector."""

    names: tuple[str, ...]

    @property
    @abstractmethod
    def start(self) -> FloatArray:
        """Where the solver starts, (n,)."""

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bounds (n,)."""
        unbounded = np.full(len(self.start), np.inf)
        return -unbounded, unbounded

    def perturbed(self, rng: np.random.Generator) -> FloatArray:
        """Draw another start (n,): as far off as one is when one does not know."""
        lower, upper = self.bounds
        spread = OTHER_STARTS * self.sizes
        if np.any(spread == 0):
            raise InputError(
                f"n_starts: {self.names[0]} starts at 0, so there is no size to draw others by"
            )
        drawn = self.start + spread * rng.normal(size=len(self.start))
        inside: FloatArray = np.clip(drawn, lower, upper)
        return inside

    @property
    def sizes(self) -> FloatArray:
        """What a change by all of itself is for each number; 1 for logarithms and roots."""
        return np.ones(len(self.start))

    @abstractmethod
    def values(self, x: FloatArray) -> dict[str, FloatArray]:
        """Parameters by name."""

    @abstractmethod
    def push(self, x: FloatArray, dx: FloatArray) -> dict[str, FloatArray]:
        """Their changes for a change of x."""

    @abstractmethod
    def pull(self, x: FloatArray, slopes: Mapping[str, FloatArray]) -> FloatArray:
        """Derivative by x (n,) from those by the parameters: the transpose of `push`."""


@dataclass(frozen=True, eq=False)
class Numbers(Chart):
    """A number or an array of numbers, free within bounds; as logarithms where all are positive."""

    name: str
    initial: FloatArray
    limits: Parameter

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The one name."""
        return (self.name,)

    @property
    def _is_log(self) -> bool:
        return self.limits.lower > 0

    @property
    def sizes(self) -> FloatArray:
        """1 for logarithms, else the root mean square at the start."""
        start = self.start
        size = 1.0 if self._is_log else float(np.sqrt(np.mean(start**2)))
        return np.full(len(start), size)

    def _inside(self, values: FloatArray) -> FloatArray:
        flat = np.ravel(values).astype(np.float64)
        return np.log(flat) if self._is_log else flat

    @property
    def start(self) -> FloatArray:
        """Initial values."""
        return self._inside(self.initial)

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """The parameter's own."""
        n = self.initial.size
        lower, upper = (np.full(n, x) for x in (self.limits.lower, self.limits.upper))
        return self._inside(lower), self._inside(upper)

    def values(self, x: FloatArray) -> dict[str, FloatArray]:
        """The values."""
        flat = np.exp(x) if self._is_log else x
        return {self.name: flat.reshape(self.initial.shape)}

    def push(self, x: FloatArray, dx: FloatArray) -> dict[str, FloatArray]:
        """Values times dx for logarithms, dx otherwise."""
        return {self.name: (self._slopes(x) * dx).reshape(self.initial.shape)}

    def pull(self, x: FloatArray, slopes: Mapping[str, FloatArray]) -> FloatArray:
        """As `push`: it is diagonal."""
        return self._slopes(x) * np.ravel(slopes[self.name])

    def _slopes(self, x: FloatArray) -> FloatArray:
        return np.exp(x) if self._is_log else np.ones(len(x))


@dataclass(frozen=True, eq=False)
class Root(Chart):
    """A symmetric positive semi-definite matrix by the lower triangle of a root.

    ``initial`` is (k, k), or (n, n, 3, 3), which stands for 3n × 3n.
    """

    name: str
    initial: FloatArray

    def __post_init__(self) -> None:
        if not np.any(np.diag(self._flat(self.initial)) > 0):
            raise InputError(f"{self.name} must start above 0 to be refined")

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The one name."""
        return (self.name,)

    @property
    def start(self) -> FloatArray:
        """Cholesky factor of the initial matrix, scaled, with a little more on its diagonal."""
        sizes = self._sizes
        scaled = self._flat(self.initial) / sizes[:, None] / sizes
        values, vectors = np.linalg.eigh(scaled + _JITTER * np.eye(len(scaled)))
        whole = (vectors * np.maximum(values, _JITTER)) @ vectors.T
        lower: FloatArray = np.linalg.cholesky(whole)[self._triangle]
        return lower

    @property
    def _sizes(self) -> FloatArray:
        variances = np.diag(self._flat(self.initial))
        # Coordinates that stand still get the least size of those that move.
        least = np.min(variances[variances > 0])
        sizes: FloatArray = np.sqrt(np.where(variances > 0, variances, least))
        return sizes

    @property
    def _triangle(self) -> tuple[IntArray, IntArray]:
        rows, columns = np.tril_indices(len(self._flat(self.initial)))
        return rows.astype(np.int64), columns.astype(np.int64)

    def _root(self, x: FloatArray) -> FloatArray:
        root = np.zeros(self._flat(self.initial).shape)
        root[self._triangle] = x
        return root * self._sizes[:, None]

    def _flat(self, matrix: FloatArray) -> FloatArray:
        if matrix.ndim == 2:
            return matrix
        n = len(matrix)
        return matrix.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)

    def _shaped(self, matrix: FloatArray) -> FloatArray:
        if self.initial.ndim == 2:
            return matrix
        n = len(self.initial)
        return np.ascontiguousarray(matrix.reshape(n, 3, n, 3).transpose(0, 2, 1, 3))

    def values(self, x: FloatArray) -> dict[str, FloatArray]:
        """R Rᵀ."""
        root = self._root(x)
        return {self.name: self._shaped(root @ root.T)}

    def push(self, x: FloatArray, dx: FloatArray) -> dict[str, FloatArray]:
        """DR Rᵀ + R dRᵀ."""
        half = self._root(dx) @ self._root(x).T
        return {self.name: self._shaped(half + half.T)}

    def pull(self, x: FloatArray, slopes: Mapping[str, FloatArray]) -> FloatArray:
        """(G + Gᵀ) R, lower triangle."""
        g = self._flat(slopes[self.name])
        by_root = self._sizes[:, None] * ((g + g.T) @ self._root(x))
        lower: FloatArray = by_root[self._triangle]
        return lower


@dataclass(frozen=True, eq=False)
class RigidMotion(Chart):
    """T, L and S of a rigid body by one root of [[T, Sᵀ], [S, L]]."""

    prefix: str
    whole: Root

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The three tensors'."""
        return tuple(self.prefix + name for name in _TENSORS)

    @property
    def start(self) -> FloatArray:
        """The root's."""
        return self.whole.start

    def values(self, x: FloatArray) -> dict[str, FloatArray]:
        """Blocks of R Rᵀ."""
        return self._blocks(self.whole.values(x)["motion"])

    def push(self, x: FloatArray, dx: FloatArray) -> dict[str, FloatArray]:
        """Blocks of its change."""
        return self._blocks(self.whole.push(x, dx)["motion"])

    def pull(self, x: FloatArray, slopes: Mapping[str, FloatArray]) -> FloatArray:
        """The root's, S counted in both its places."""
        t, l, s = (slopes[name] for name in self.names)  # noqa: E741
        return self.whole.pull(x, {"motion": np.block([[t, 0.5 * s.T], [0.5 * s, l]])})

    def _blocks(self, motion: FloatArray) -> dict[str, FloatArray]:
        blocks = (motion[:3, :3], motion[3:, 3:], motion[3:, :3])
        return dict(zip(self.names, blocks, strict=True))


@dataclass(frozen=True, eq=False)
class ParameterVector:
    """The refined parameters of a model, each as a chart has it.

    Attributes
    ----------
    model : DisorderModel
        Where the fit starts; parameters that are not refined stay as here.
    charts : tuple of Chart
    """

    model: DisorderModel
    charts: tuple[Chart, ...]

    @classmethod
    def of(
        cls, model: DisorderModel, refine: Sequence[str] | None, structure: AtomicStructure
    ) -> ParameterVector:
        """Take the named parameters, or all that the model can refine.

        Raises
        ------
        InputError
            If the model has no such parameter, or none at all, or one starts out of bounds.
        """
        known = ", ".join(model.refinable) or "none"
        names = tuple(model.refinable) if refine is None else tuple(refine)
        if isinstance(refine, str):
            names = (refine,)
        kind = type(model).__name__
        for name in names:
            if name not in model.refinable:
                raise InputError(f"refine: {kind} has no parameter {name!r}, expected {known}")
        if len(set(names)) < len(names):
            raise InputError(f"refine: expected each name once, got {' '.join(names)}")
        if not names:
            raise InputError(f"refine: expected a parameter of {kind} ({known}), got none")
        charts: list[Chart] = []
        values = model.parameters(structure)
        for prefix, part in _parts(model):
            own = [name for name in names if name.startswith(prefix)]
            own = [name for name in own if name[len(prefix) :] in part.refinable]
            charts += _charts(part, prefix, own, values)
        return cls(model, tuple(charts))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the refined parameters."""
        return tuple(name for chart in self.charts for name in chart.names)

    def limits(self, name: str) -> Parameter:
        """Unit and bounds of a parameter."""
        return self.model.refinable[name]

    @property
    def start(self) -> FloatArray:
        """Where the solver starts, (n,)."""
        return np.concatenate([np.empty(0), *(chart.start for chart in self.charts)])

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bounds of the solver's vector."""
        lower, upper = zip(*(chart.bounds for chart in self.charts), strict=True)
        return np.concatenate(lower), np.concatenate(upper)

    def perturbed(self, rng: np.random.Generator) -> FloatArray:
        """Draw another start (n,).

        Raises
        ------
        InputError
            If a parameter without bounds starts at zero: it has no size.
        """
        return np.concatenate([np.empty(0), *(chart.perturbed(rng) for chart in self.charts)])

    @property
    def sizes(self) -> FloatArray:
        """What a change by all of itself is for each number (n,); 1 where it starts at zero."""
        sizes = np.concatenate([np.empty(0), *(chart.sizes for chart in self.charts)])
        return np.where(sizes > 0, sizes, 1.0)

    @property
    def names_of_numbers(self) -> tuple[str, ...]:
        """The parameter that each number of the vector belongs to."""
        return tuple(chart.names[0] for chart in self.charts for _ in chart.start)

    def values(self, x: FloatArray) -> dict[str, FloatArray]:
        """Parameters by name for a solver's vector."""
        return {
            name: value
            for chart, own in self._shared_out(x)
            for name, value in chart.values(own).items()
        }

    def model_at(self, x: FloatArray) -> DisorderModel:
        """Return the model with the parameters of a solver's vector."""
        return self.model.with_parameters(self.values(x))

    def push(self, x: FloatArray, dx: FloatArray) -> dict[str, FloatArray]:
        """Changes of the parameters for a change of the vector, of those that change."""
        return {
            name: value
            for (chart, own), (_, change) in zip(
                self._shared_out(x), self._shared_out(dx), strict=True
            )
            if np.any(change)
            for name, value in chart.push(own, change).items()
        }

    def pull(self, x: FloatArray, slopes: Mapping[str, FloatArray]) -> FloatArray:
        """Derivative by the vector from those by the parameters: the transpose of `push`."""
        return np.concatenate([chart.pull(own, slopes) for chart, own in self._shared_out(x)])

    def jacobian(self, x: FloatArray) -> dict[str, FloatArray]:
        """Derivatives of each parameter by the vector, (size of the parameter, n)."""
        values = self.values(x)
        result = {name: np.zeros((value.size, len(x))) for name, value in values.items()}
        for number, unit in enumerate(np.eye(len(x))):
            for name, change in self.push(x, unit).items():
                result[name][:, number] = np.ravel(change)
        return result

    def _shared_out(self, x: FloatArray) -> list[tuple[Chart, FloatArray]]:
        ends = np.cumsum([len(chart.start) for chart in self.charts])
        return list(zip(self.charts, np.split(x, ends[:-1]) if len(ends) else (), strict=True))


def _parts(model: DisorderModel) -> list[tuple[str, DisorderModel]]:
    """The models of a sum with the prefixes of their parameters; a model alone without."""
    if isinstance(model, SumOfModels):
        return [(f"{name}.", part) for name, part in model.named()]
    return [("", model)]


def _charts(
    model: DisorderModel, prefix: str, names: Sequence[str], values: Mapping[str, FloatArray]
) -> list[Chart]:
    """Charts of some parameters of one model."""
    if isinstance(model, RigidBody) and f"{prefix}screw" in names:
        missing = [name for name in _TENSORS if f"{prefix}{name}" not in names]
        if missing:
            raise InputError(
                f"refine: screw needs translation and libration with it, got no {missing[0]}"
            )
        motion = motion_matrix(model.translation, model.libration, model.screw)
        return [RigidMotion(prefix, Root("motion", motion))]
    charts: list[Chart] = []
    for name in names:
        limits, value = model.refinable[name[len(prefix) :]], values[name]
        if limits.is_covariance:
            charts.append(Root(name, value))
            continue
        if not np.all((limits.lower <= value) & (value <= limits.upper)):
            given = f"{float(value):g}" if value.ndim == 0 else str(value.tolist())
            raise InputError(
                f"{name} must start between {limits.lower:g} and {limits.upper:g} {limits.unit}, "
                f"got {given}"
            )
        charts.append(Numbers(name, value, limits))
    return charts
