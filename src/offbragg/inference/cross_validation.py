"""A model on the folds of a map: each voxel predicted by a fit that has not seen it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from offbragg.conventions import TWO_PI, BoolArray, FloatArray, IntArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.symmetry import laue_rotations
from offbragg.disorder.base import DisorderModel
from offbragg.inference.data import FitData
from offbragg.inference.evaluator import Evaluator
from offbragg.inference.held_out import blocks_of, choose_folds
from offbragg.inference.jackknife import correlation_without_blocks
from offbragg.inference.optimum import Optimum
from offbragg.inference.options import FitOptions
from offbragg.inference.parameters import ParameterVector
from offbragg.inference.restraints import restraints_of
from offbragg.inference.solve import Solution, coefficients_of, problem_of, solve, unsolved
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.shells import isotropic_shells, shell_mean
from offbragg.runtime import SILENT, Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CrossValidated:
    """One model's fits: to all voxels, and without each fold.

    Attributes
    ----------
    model : DisorderModel
        Fitted to all voxels.
    n_numbers : int
    cc, without : float and ndarray, shape (n_blocks,)
        Correlation of the anisotropic parts over all voxels, each predicted while it was held out;
        the same with each block left out of the sum.
    cc_working : float
        Of the fit to all voxels.
    cc_by_fold : ndarray, shape (n_folds,)
    converged : bool
        Of the fit to all voxels.
    """

    model: DisorderModel
    n_numbers: int
    cc: float
    without: FloatArray
    cc_working: float
    cc_by_fold: FloatArray
    converged: bool


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """A map's voxels, shared out among folds of whole blocks.

    Attributes
    ----------
    structure : AtomicStructure
    data : FitData
    settings : FitOptions
    folds, blocks : ndarray, shape (n_unique,), int64
        Fold, and block of hkl, of each unique voxel.
    """

    structure: AtomicStructure
    data: FitData
    settings: FitOptions
    folds: IntArray
    blocks: IntArray

    @classmethod
    def of(
        cls,
        observed: DiffuseMap,
        structure: AtomicStructure,
        settings: FitOptions,
        n_folds: int,
        rng: np.random.Generator,
    ) -> CrossValidation:
        """Draw the folds.

        Raises
        ------
        InputError
            If nothing is measured within the limits, or there are fewer blocks than folds.
        """
        data = FitData.of(observed, structure.require_cell(), settings.d_min, settings.d_max)
        rotations = laue_rotations(observed.laue_group or observed.space_group)
        edge = settings.block_edge
        folds = choose_folds(data.voxels.hkl, rotations, n_folds, rng, edge)
        blocks, _ = blocks_of(data.voxels.hkl, rotations, edge)
        return cls(structure, data, settings, folds, blocks)

    def run(self, model: DisorderModel, progress: Progress, *, refit: bool) -> CrossValidated:
        """Fit to all voxels, then without each fold, and judge each on what it has not seen.

        Not ``refit``: without a fold by one Gauss–Newton step from the fit to all, where there are
        derivatives for it.
        """
        every = np.ones(len(self.folds), dtype=bool)
        vector = self._vector(model)
        evaluate = self._evaluator(vector)
        whole = self._solved(evaluate, every, vector.start)
        optimum = None
        if len(whole.x) and not refit and self.settings.is_dense(len(whole.x)):
            optimum = self._optimum(evaluate, whole)
            if not whole.converged:
                logger.warning(
                    "%s: the fit did not converge, and one step from there may be far from the fit "
                    "without a fold: rank with refit",
                    type(model).__name__,
                )
        progress.step()
        predicted = np.empty(len(self.folds))
        by_fold = []
        for fold in range(int(self.folds.max()) + 1):
            held = self.folds == fold
            if optimum is None:
                solution = self._solved(evaluate, ~held, whole.x)
            else:
                solution = self._stepped(optimum, ~held)
            values = self._predicted(evaluate, ~held, solution)
            predicted[held] = values[held]
            by_fold.append(self._correlation(values, held)[0])
            progress.step()
        cc, without = self._correlation(predicted, every)
        return CrossValidated(
            model=vector.model_at(whole.x) if len(whole.x) else model,
            n_numbers=len(whole.x),
            cc=cc,
            without=without,
            cc_working=self._correlation(self._predicted(evaluate, every, whole), every)[0],
            cc_by_fold=np.array(by_fold),
            converged=whole.converged,
        )

    def _evaluator(self, vector: ParameterVector) -> Evaluator:
        unit = vector.model.coherent_unit(self.structure)
        return Evaluator(
            self.structure, vector, self.data, self.settings.adps,
            bool(self.settings.voxel_average), self.settings.rtol, SILENT,
            restraints_of(unit, **self.settings.expected_departures()),
        )  # fmt: skip

    def _vector(self, model: DisorderModel) -> ParameterVector:
        if not model.refinable:
            return ParameterVector(model, ())
        return ParameterVector.of(model, None, model.coherent_unit(self.structure))

    def _solved(self, evaluate: Evaluator, working: BoolArray, start: FloatArray) -> Solution:
        if len(start):
            return solve(evaluate, working, start, self.settings)
        return unsolved(evaluate, working, self.settings)

    def _optimum(self, evaluate: Evaluator, whole: Solution) -> Optimum:
        """The fit to all voxels with its derivatives."""
        every = np.ones(len(self.folds), dtype=bool)
        columns, _ = coefficients_of(evaluate, every, whole)
        problem = problem_of(evaluate, every, whole.background, whole.trust)
        return Optimum.of(
            evaluate, whole, every, self.settings, self.blocks, problem, columns,
            evaluate.derivatives(whole.x),
        )  # fmt: skip

    def _stepped(self, optimum: Optimum, working: BoolArray) -> Solution:
        """Where one step from the fit to all leads without some blocks."""
        multiplicity = np.zeros(optimum.n_blocks)
        multiplicity[optimum.blocks[working]] = 1.0
        x, scale = optimum.step(multiplicity)
        background = self.data.smooth(self.settings.background, self.settings.harmonics, working)
        whole = optimum.solution
        return replace(whole, x=x, scale=scale, background=background, trust=whole.trust[working])

    def _predicted(self, evaluate: Evaluator, working: BoolArray, solution: Solution) -> FloatArray:
        """Anisotropic parts (n_unique,), coefficients from the working voxels."""
        if not len(solution.x) and not self.settings.harmonics:
            # Nothing to fit that an anisotropic part would show.
            return self._less_isotropic(evaluate(solution.x))
        columns, coefficients = coefficients_of(evaluate, working, solution)
        n_directional = solution.background.n_directional
        varying = coefficients[0] * columns[:, 0]
        if n_directional:
            varying = varying + columns[:, -n_directional:] @ coefficients[-n_directional:]
        return self._less_isotropic(varying)

    def _less_isotropic(self, values: FloatArray) -> FloatArray:
        """Predictions (n_unique,) less their own isotropic part.

        That is free against the background and may differ much from fold to fold: beside each
        other, folds must not differ by it.
        """
        shell = isotropic_shells(self.data.q_length / TWO_PI)
        weights = self.data.voxels.n_equivalents.astype(np.float64)
        isotropic = shell_mean(values, shell, int(shell.max()) + 1, weights)
        predicted: FloatArray = values - isotropic[shell]
        return predicted

    def _correlation(self, values: FloatArray, chosen: BoolArray) -> tuple[float, FloatArray]:
        """Correlation of anisotropic parts, each voxel as often as it has equivalents."""
        return correlation_without_blocks(
            self.data.voxels.intensity[chosen],
            values[chosen],
            isotropic_shells(self.data.q_length[chosen] / TWO_PI),
            self.blocks[chosen],
            self.data.voxels.n_equivalents[chosen].astype(np.float64),
        )
