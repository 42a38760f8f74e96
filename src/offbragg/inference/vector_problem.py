"""A fit as solvers see it: residuals of a vector and their derivatives, restraints included."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse.linalg import LinearOperator

from offbragg.conventions import BoolArray, FloatArray
from offbragg.inference.evaluator import Evaluator
from offbragg.inference.objective import ProjectedProblem
from offbragg.inference.watch import Watch
from offbragg.runtime import say


@dataclass(eq=False)
class VectorProblem:
    """Weighted residuals of the working voxels, then those of the restraints.

    Attributes
    ----------
    evaluate : Evaluator
    projected : ProjectedProblem
        Of the working voxels.
    working : ndarray, shape (n_unique,), bool
    watch : Watch
        Told of every misfit.
    has_sigma : bool
        Whether weighted residuals are in standard deviations; restraints stand beside them as they
        are then, else in units of the residuals' root mean square at the vector's start.
    """

    evaluate: Evaluator
    projected: ProjectedProblem
    working: BoolArray
    watch: Watch
    has_sigma: bool

    @cached_property
    def size(self) -> float:
        """Σ ω I² of the data, its background taken out."""
        return float(self.projected.data @ self.projected.data)

    @cached_property
    def unit(self) -> float:
        """What a restraint's residual of one expected departure counts as."""
        if self.has_sigma or not self.evaluate.restraints:
            return 1.0
        at_start = self.projected.residuals(self._model(self.evaluate.vector.start))
        return float(np.sqrt(np.mean(at_start**2)))

    def _model(self, x: FloatArray) -> FloatArray:
        return self.evaluate(x)[self.working]

    def residuals(self, x: FloatArray) -> FloatArray:
        """(n_working + n_rows,); NaN where the motion is not possible."""
        found = self.projected.residuals(self._model(x))
        square = float(found @ found)
        both = np.concatenate([found, self.unit * self.evaluate.expected(x)])
        if self.watch.saw(float(both @ both), x):
            cc = np.sqrt(max(1.0 - square / self.size, 0.0))
            say(self.evaluate.progress, f"fit, CC {cc:.3f}")
        return both

    def jacobian(self, x: FloatArray) -> FloatArray:
        """Their derivatives (n_working + n_rows, n_parameters), scale and background following."""
        derivatives = self.evaluate.derivatives(x)[self.working]
        by_data = self.projected.jacobian(self._model(x), derivatives)
        return np.concatenate([by_data, self.unit * self.evaluate.expected_derivatives(x)])

    def product(self, x: FloatArray, direction: FloatArray) -> FloatArray:
        """Derivatives along a direction (n_parameters,): one product of a map."""
        change = self.evaluate.product(x, direction)[self.working]
        moved = self.projected.jacobian(self._model(x), change[:, None])[:, 0]
        return np.concatenate([moved, self.unit * self.evaluate.expected_product(x, direction)])

    def transpose_product(self, x: FloatArray, values: FloatArray) -> FloatArray:
        """Derivative (n_parameters,) of ``values · residuals``: one gradient of a map."""
        n = int(np.count_nonzero(self.working))
        slopes = np.zeros(len(self.working))
        slopes[self.working] = self.projected.slopes(self._model(x), values[:n])
        by_data = self.evaluate.gradient(x, slopes)
        return by_data + self.evaluate.expected_gradient(x, self.unit * values[n:])

    def operator(self, x: FloatArray) -> LinearOperator:
        """The derivatives as an operator that never holds them."""
        n_rows = int(np.count_nonzero(self.working)) + len(self.evaluate.expected(x))
        return LinearOperator(
            (n_rows, len(x)),
            matvec=lambda direction: self.product(x, np.ravel(direction)),
            rmatvec=lambda values: self.transpose_product(x, np.ravel(values)),
            dtype=np.float64,
        )
