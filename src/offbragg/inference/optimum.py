"""A fit at its optimum: what is needed to say how it would have come out with other weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from offbragg.conventions import BoolArray, FloatArray, IntArray
from offbragg.inference.evaluator import Evaluator
from offbragg.inference.objective import ProjectedProblem
from offbragg.inference.options import FitOptions
from offbragg.inference.solve import Solution, solve
from offbragg.inference.uncertainty import Uncertainty

# Combinations of columns of the design below this share of the largest are none.
_LEAST_SINGULAR = 1e-5
# A voxel of no weight stays in a refit, with so little: the background's range is that of all.
_NO_WEIGHT = 1e-12


@dataclass(frozen=True, eq=False)
class Optimum:
    """Where a fit stopped, with the derivatives there.

    Attributes
    ----------
    evaluate : Evaluator
        Without maps or operators kept.
    solution : Solution
    working : ndarray, shape (n_unique,), bool
    settings : FitOptions
    blocks : ndarray, shape (n_working,), int64
        Block of hkl of each working voxel, 0 … n_blocks − 1.
    design : ndarray, shape (n_working, 1 + n_functions + n_vector), or None
        √ω times the derivatives of scale · model + background by the scale, the background and
        the solver's vector. None where derivatives were not worked out.
    expected : ndarray, shape (n_rows, 1 + n_vector), or None
        Residuals of the restraints, as they counted, and their derivatives; with ``design``.
    uncertainty : Uncertainty or None
        Of the vector, restraints counted in.
    """

    evaluate: Evaluator
    solution: Solution
    working: BoolArray
    settings: FitOptions
    blocks: IntArray
    design: FloatArray | None
    expected: FloatArray | None = None
    uncertainty: Uncertainty | None = None

    @classmethod
    def of(
        cls,
        evaluate: Evaluator,
        solution: Solution,
        working: BoolArray,
        settings: FitOptions,
        block_of: IntArray,
        problem: ProjectedProblem,
        columns: FloatArray,
        derivatives: FloatArray | None,
        uncertainty: Uncertainty | None = None,
    ) -> Optimum:
        """Put together the design from model and background (n_working, 1 + n_functions)."""
        design = expected = None
        if derivatives is not None:
            whole = np.concatenate([columns, solution.scale * derivatives], axis=1)
            design = problem.root_weights[:, None] * whole
            x = solution.x
            expected = solution.unit * np.column_stack(
                [evaluate.expected(x), evaluate.expected_derivatives(x)]
            )
        blocks = np.unique(block_of[working], return_inverse=True)[1].astype(np.int64)
        bare = replace(evaluate, _last={}, _operators={})
        return cls(bare, solution, working, settings, blocks, design, expected, uncertainty)

    @property
    def n_blocks(self) -> int:
        """Blocks with working voxels."""
        return int(self.blocks.max()) + 1

    @cached_property
    def _scaled(self) -> tuple[FloatArray, FloatArray]:
        """The design with columns of length 1, and their lengths."""
        if self.design is None:
            raise ValueError("no derivatives are at hand")
        lengths = np.linalg.norm(self.design, axis=0)
        lengths = np.where(lengths > 0, lengths, 1.0)
        return self.design / lengths, lengths

    def step(self, multiplicity: FloatArray) -> tuple[FloatArray, float]:
        """Vector and scale after one Gauss–Newton step with other weights.

        The least squares of scale, background and vector together, linear about the optimum;
        restraints count as they did.

        Parameters
        ----------
        multiplicity : ndarray, shape (n_blocks,), float64
            What the weight of each block's voxels is multiplied with.
        """
        scaled, norms = self._scaled
        weighted = multiplicity[self.blocks][:, None] * scaled
        normal, right = weighted.T @ scaled, weighted.T @ self.solution.residuals
        n_vector = len(self.solution.x)
        own = slice(len(norms) - n_vector, None)
        if self.expected is not None:
            rows = self.expected[:, 1:] / norms[own]
            normal[own, own] += rows.T @ rows
            right[own] -= rows.T @ self.expected[:, 0]
        values, vectors = np.linalg.eigh(normal)
        is_known = values > _LEAST_SINGULAR**2 * values[-1]
        known = vectors[:, is_known]
        change = known @ (known.T @ right / values[is_known]) / norms
        lower, upper = self.evaluate.vector.bounds
        moved = self.solution.x + change[own]
        return np.clip(moved, lower, upper), self.solution.scale + float(change[0])

    def refit(self, multiplicity: FloatArray) -> tuple[FloatArray, float]:
        """Vector and scale of a fit with other weights, from the optimum; as `step` otherwise.

        Weights that a robust loss took off stay off.
        """
        data = self.evaluate.data
        weights = np.ones(len(self.working))
        weights[self.working] = multiplicity[self.blocks] * self.solution.trust
        sigma = 1.0 if data.voxels.sigma is None else data.voxels.sigma
        widened = sigma / np.sqrt(np.maximum(weights, _NO_WEIGHT))
        reweighted = replace(data, voxels=replace(data.voxels, sigma=widened))
        evaluate = replace(self.evaluate, data=reweighted, _last={}, _operators={})
        settings = replace(self.settings, loss="squares")
        solution = solve(evaluate, self.working, self.solution.x, settings)
        return solution.x, solution.scale
