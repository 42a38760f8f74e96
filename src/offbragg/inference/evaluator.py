"""A model's intensities at the voxels of a fit, and their derivatives, for a solver's vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from offbragg.conventions import FloatArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.differentiable import MapOperator
from offbragg.disorder.base import DisorderModel
from offbragg.errors import ExcessiveMotionError
from offbragg.inference.data import FitData
from offbragg.inference.parameters import ParameterVector
from offbragg.inference.restraints import Restraint
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.runtime import SILENT, Progress
from offbragg.scattering.displacements import Displacements, as_blocks
from offbragg.scattering.engine import Engine
from offbragg.simulation import simulate

# Step of finite differences, where a model's map has no derivatives, in a parameter's logarithm or
# unit: the error of a simulation, about 1e-6 of its mean, is far below the difference.
DIFFERENCE_STEP = 5e-3


@dataclass(eq=False)
class Evaluator:
    """Maps and derivatives for a solver's vector; the last ones are kept.

    Attributes
    ----------
    structure : AtomicStructure
    vector : ParameterVector
    data : FitData
    adps : {"model", "file"}
    voxel_average : bool
    rtol : float
    progress : Progress
    restraints : sequence of Restraint
        On the model's V, remainder of "file" not included.
    n_evaluations : int
        Maps, products and gradients made so far.
    """

    structure: AtomicStructure
    vector: ParameterVector
    data: FitData
    adps: str = "model"
    voxel_average: bool = False
    rtol: float = 5e-4
    progress: Progress = SILENT
    restraints: Sequence[Restraint] = ()
    n_evaluations: int = 0
    _last: dict[bytes, FloatArray] = field(default_factory=dict)
    _operators: dict[bytes, MapOperator] = field(default_factory=dict)

    def full(self, x: FloatArray) -> DiffuseMap:
        """Simulate the map for a solver's vector."""
        self._count()
        return simulate(
            self.structure,
            self.vector.model_at(x),
            self.data.own_grid,
            adps=self.adps,
            voxel_average=self.voxel_average,
            rtol=self.rtol,
        )

    def at_voxels(self, computed: NDArray[np.floating]) -> FloatArray:
        """Values (n_unique,) of a whole map at the unique voxels."""
        return computed.reshape(-1)[self.data.voxels.index].astype(np.float64)

    def __call__(self, x: FloatArray) -> FloatArray:
        """Intensities (n_unique,); NaN where an atom would move by more than its ADP allows."""
        key = x.tobytes()
        if key not in self._last:
            self._last.clear()
            try:
                self._last[key] = self.at_voxels(self.full(x).intensity)
            except ExcessiveMotionError:
                if np.array_equal(x, self.vector.start):
                    raise
                self._last[key] = np.full(len(self.data.voxels.index), np.nan)
        return self._last[key]

    def derivatives(self, x: FloatArray) -> FloatArray:
        """Derivatives (n_unique, n_parameters) by the vector: one product for each."""
        if self.vector.model_at(x).is_truncated:
            return self._differences(x)
        return np.stack([self.product(x, direction) for direction in np.eye(len(x))], axis=1)

    def product(self, x: FloatArray, direction: FloatArray) -> FloatArray:
        """Derivative (n_unique,) along a direction (n_parameters,): one product."""
        model = self.vector.model_at(x)
        if model.is_truncated:
            along: FloatArray = self._differences(x) @ direction
            return along
        unit, operator = model.coherent_unit(self.structure), self._operator(x, model)
        change = model.tangent(unit, self.vector.push(x, direction))
        if self.adps == "file":
            # The remainder gives way to what the model takes: V_ii stays.
            own = change.u_aniso(unit.n_atoms)
            change = change + Displacements(independent=-own)
        self._count()
        return self.at_voxels(operator.product(change))

    def gradient(self, x: FloatArray, slopes: FloatArray) -> FloatArray:
        """Derivative by the vector (n_parameters,) of ``Σ slopes · intensity``: one gradient."""
        model = self.vector.model_at(x)
        if model.is_truncated:
            by_vector: FloatArray = self._differences(x).T @ slopes
            return by_vector
        unit, operator = model.coherent_unit(self.structure), self._operator(x, model)
        by_map = np.zeros(self.data.own_grid.size)
        by_map[self.data.voxels.index] = slopes
        self._count()
        by_v = operator.gradient(by_map.reshape(self.data.own_grid.shape))
        if self.adps == "file":
            by_v = _with_fixed_diagonal(by_v)
        return self.vector.pull(x, model.pullback(unit, by_v))

    def expected(self, x: FloatArray) -> FloatArray:
        """Residuals (n_rows,) of the restraints, in units of the departures they expect."""
        if not self.restraints:
            return np.empty(0)
        model = self.vector.model_at(x)
        v = model.displacements(model.coherent_unit(self.structure))
        return np.concatenate([part.rows(v) - part.target for part in self.restraints])

    def expected_product(self, x: FloatArray, direction: FloatArray) -> FloatArray:
        """Derivative (n_rows,) of the restraints' residuals along a direction."""
        if not self.restraints:
            return np.empty(0)
        model = self.vector.model_at(x)
        change = model.tangent(model.coherent_unit(self.structure), self.vector.push(x, direction))
        return np.concatenate([part.rows(change) for part in self.restraints])

    def expected_derivatives(self, x: FloatArray) -> FloatArray:
        """Derivatives (n_rows, n_parameters) of the restraints' residuals."""
        columns = [self.expected_product(x, direction) for direction in np.eye(len(x))]
        return np.stack(columns, axis=1) if columns else np.empty((0, 0))

    def expected_gradient(self, x: FloatArray, slopes: FloatArray) -> FloatArray:
        """Derivative by the vector (n_parameters,) of ``Σ slopes · expected``."""
        if not self.restraints:
            return np.zeros(len(x))
        model, total, start = self.vector.model_at(x), Displacements(), 0
        for part in self.restraints:
            stop = start + len(part.target)
            total = total + part.pull(slopes[start:stop])
            start = stop
        by_model = model.pullback(model.coherent_unit(self.structure), total)
        return self.vector.pull(x, by_model)

    def _operator(self, x: FloatArray, model: DisorderModel) -> MapOperator:
        key = x.tobytes()
        if key not in self._operators:
            unit = model.coherent_unit(self.structure)
            self._operators.clear()
            self._operators[key] = MapOperator(
                unit,
                model.with_adps(unit, self.adps),
                self.data.own_grid,
                Engine(rtol=self.rtol),
                voxel_average=self.voxel_average,
            )
        return self._operators[key]

    def _differences(self, x: FloatArray) -> FloatArray:
        """Forward differences (n_unique, n_parameters); towards the inside at an upper bound."""
        here, upper = self(x), self.vector.bounds[1]
        columns = []
        for number in range(len(x)):
            is_inside = x[number] + DIFFERENCE_STEP <= upper[number]
            step = DIFFERENCE_STEP if is_inside else -DIFFERENCE_STEP
            moved = x.copy()
            moved[number] += step
            columns.append((self.at_voxels(self.full(moved).intensity) - here) / step)
        return np.stack(columns, axis=1)

    def _count(self) -> None:
        self.n_evaluations += 1
        self.progress.step()


def _with_fixed_diagonal(by_v: Displacements) -> Displacements:
    """Derivatives by a model's V where the independent remainder keeps every V_ii as it is."""
    own = by_v.independent
    if own is None:
        return by_v
    if by_v.pairs is not None:
        return Displacements(None, None, by_v.pairs)
    if by_v.correlated is None:
        return Displacements()
    correlated = np.array(by_v.correlated)
    every = np.arange(len(own))
    if correlated.ndim == 2:
        correlated[every, every] -= np.trace(own, axis1=1, axis2=2)
    else:
        correlated = as_blocks(correlated)
        correlated[every, every] -= own
    return Displacements(correlated)
