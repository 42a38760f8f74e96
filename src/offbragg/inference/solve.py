"""The vector of parameters that fits the working voxels best, in rounds of trust."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from offbragg.conventions import TWO_PI, BoolArray, FloatArray
from offbragg.errors import InputError
from offbragg.inference.evaluator import Evaluator
from offbragg.inference.losses import HUBER
from offbragg.inference.objective import ProjectedProblem, background_coefficients
from offbragg.inference.options import FitOptions
from offbragg.inference.smooth import SmoothFunctions
from offbragg.inference.solvers import Run, gauss_newton, l_bfgs, truncated_newton
from offbragg.inference.vector_problem import VectorProblem
from offbragg.inference.watch import Watch
from offbragg.maps.shells import isotropic_shells, shell_mean

logger = logging.getLogger(__name__)

# A map that varies less than this beyond its background, as a fraction, is rounding.
LEAST_VARIATION = 1e-7
# A robust loss: rounds of weighted fits at most, and the change of weights that ends them.
MOST_ROUNDS, SAME_TRUST = 6, 0.02


# Where a fit expects fewer photons than this share of its shell's mean, so many are expected.
LEAST_EXPECTED = 0.05

Solver = Callable[[VectorProblem, FloatArray, int], Run]


@dataclass(frozen=True, eq=False)
class Solution:
    """Where a solver stopped.

    Attributes
    ----------
    x : ndarray, shape (n_vector,)
    background : SmoothFunctions
    residuals : ndarray, shape (n_working,)
        Weighted, at the best scale and background.
    scale : float
        The best scale.
    trust : ndarray, shape (n_working,)
        What each voxel's weight is multiplied with: 1, or less where a robust loss doubts it.
    converged : bool
    message : str
        Why it stopped.
    is_stopped : bool
        Whether time was up or it was interrupted.
    unit : float
        What a restraint's residual of one expected departure counted as.
    """

    x: FloatArray
    background: SmoothFunctions
    residuals: FloatArray
    scale: float
    trust: FloatArray
    converged: bool
    message: str
    is_stopped: bool = False
    unit: float = 1.0

    @property
    def misfit(self) -> float:
        """Sum of squares of the residuals."""
        return float(self.residuals @ self.residuals)


def solve(
    evaluate: Evaluator,
    working: BoolArray,
    start: FloatArray,
    settings: FitOptions,
    watch: Watch | None = None,
) -> Solution:
    """Weighted least squares over the working voxels; with a watch, until that runs out.

    Raises
    ------
    InputError
        If the voxels are too few, or do not vary beyond an isotropic background.
    """
    vector = evaluate.vector
    background = evaluate.data.smooth(settings.background, settings.harmonics, working)
    n_voxels = int(np.count_nonzero(working))
    n_functions = background.basis(evaluate.data.q[:1]).shape[1]
    is_matrix_free = settings.solver in ("l-bfgs", "truncated-newton")
    if n_voxels <= n_functions + len(start) + 1 and not is_matrix_free:
        raise InputError(
            f"fit: {n_voxels} unique voxels cannot determine {len(start)} numbers of "
            f"parameters, a scale and a background of {n_functions} functions"
        )
    solver = _solver_for(settings, len(start))
    has_sigma = evaluate.data.voxels.sigma is not None
    x, trust = start, np.ones(n_voxels)
    watch = Watch.lasting(settings.max_seconds) if watch is None else watch
    for _ in range(1 if settings.loss == "squares" else MOST_ROUNDS):
        problem = problem_of(evaluate, working, background, trust)
        whole = VectorProblem(evaluate, problem, working, watch.anew(), has_sigma)
        run = solver(whole, x, settings.most_evaluations(len(start)))
        x = run.x
        model_values = evaluate(x)[working]
        residuals, before = problem.residuals(model_values), trust
        if settings.loss == "huber":
            trust = _huber_trust(residuals / np.sqrt(trust), has_sigma)
        elif settings.loss == "poisson":
            trust = _poisson_trust(evaluate, working, residuals / problem.root_weights)
        if run.is_stopped or np.max(np.abs(trust - before)) < SAME_TRUST:
            break
    scale = problem.scale(problem.model_part(model_values))
    lower, upper = vector.bounds
    names = vector.names_of_numbers
    at_bound = sorted(
        {n for n, v, low, high in zip(names, x, lower, upper, strict=True)
         if min(v - low, high - v) < 1e-3}
    )  # fmt: skip
    message = run.message
    if at_bound:
        message += f" At a bound: {', '.join(at_bound)}."
    converged = run.converged and not at_bound
    return Solution(
        x, background, residuals, scale, before, converged, message, run.is_stopped, whole.unit
    )


def unsolved(evaluate: Evaluator, working: BoolArray, settings: FitOptions) -> Solution:
    """Return what a model without anything to refine is, beside the same smooth functions."""
    background = evaluate.data.smooth(settings.background, settings.harmonics, working)
    trust, x = np.ones(int(np.count_nonzero(working))), np.empty(0)
    problem = problem_of(evaluate, working, background, trust)
    values = evaluate(x)[working]
    scale = problem.scale(problem.model_part(values))
    return Solution(
        x, background, problem.residuals(values), scale, trust, True, "Nothing to refine."
    )


def _huber_trust(residuals: FloatArray, has_sigma: bool) -> FloatArray:
    """Weights (n,) of Huber's loss: 1 up to HUBER standard deviations, beyond it their inverse."""
    size = 1.4826 * float(np.median(np.abs(residuals)))
    # σ may be too small for all voxels alike; they are not doubted for that.
    size = max(size, 1.0) if has_sigma else max(size, np.finfo(float).tiny)
    trust: FloatArray = 1.0 / np.maximum(np.abs(residuals) / (HUBER * size), 1.0)
    return trust


def _poisson_trust(evaluate: Evaluator, working: BoolArray, misses: FloatArray) -> FloatArray:
    """Weights (n,) that make variances those of the photons the fit expects.

    A voxel's σ² is that of the mean intensity I₀ of its shell; of expected intensity μ it is
    ``σ² μ / I₀``. Least squares with these variances is stationary where the Poisson likelihood
    is: both need ``Σ (I − μ) ∂μ / μ = 0``. ``misses`` are I − μ (n,) in the map's units.
    """
    intensity, _ = evaluate.data.take(working)
    shell = isotropic_shells(evaluate.data.q_length[working] / TWO_PI)
    level = shell_mean(intensity, shell, int(shell.max()) + 1)[shell]
    if not np.all(level > 0):
        raise InputError("loss='poisson': expected counts, found a shell whose mean is not above 0")
    trust: FloatArray = level / np.maximum(intensity - misses, LEAST_EXPECTED * level)
    return trust


def _solver_for(settings: FitOptions, n_numbers: int) -> Solver:
    if settings.is_dense(n_numbers):
        return gauss_newton
    return truncated_newton if settings.solver == "truncated-newton" else l_bfgs


def trusted_sigma(evaluate: Evaluator, working: BoolArray, trust: FloatArray) -> FloatArray | None:
    """σ of the working voxels, larger where they are doubted; None where all count alike."""
    sigma = evaluate.data.take(working)[1]
    if sigma is None and np.all(trust == 1.0):
        return None
    widened: FloatArray = (1.0 if sigma is None else sigma) / np.sqrt(trust)
    return widened


def coefficients_of(
    evaluate: Evaluator, working: BoolArray, solution: Solution
) -> tuple[FloatArray, FloatArray]:
    """Model and smooth functions (n_unique, 1 + n_functions), and their coefficients."""
    columns = np.column_stack([evaluate(solution.x), solution.background.basis(evaluate.data.q)])
    intensity, _ = evaluate.data.take(working)
    sigma = trusted_sigma(evaluate, working, solution.trust)
    return columns, background_coefficients(intensity, sigma, columns[working])


def problem_of(
    evaluate: Evaluator, working: BoolArray, background: SmoothFunctions, trust: FloatArray
) -> ProjectedProblem:
    """Return the least-squares problem of the working voxels, its background projected out."""
    intensity, _ = evaluate.data.take(working)
    sigma = trusted_sigma(evaluate, working, trust)
    basis = background.basis(evaluate.data.q[working])
    problem = ProjectedProblem.build(intensity, sigma, basis)
    level = np.linalg.norm(problem.root_weights * intensity)
    if np.linalg.norm(problem.data) <= LEAST_VARIATION * level:
        raise InputError("fit: expected a map that varies beyond an isotropic background")
    return problem
