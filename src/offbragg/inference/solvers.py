"""Solvers: from a start to the least misfit, under watch."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import scipy.optimize

from offbragg.conventions import FloatArray
from offbragg.inference.vector_problem import VectorProblem
from offbragg.inference.watch import StoppedEarlyError, Watch

logger = logging.getLogger(__name__)

STEP_TOLERANCE = 1e-5
# Where steps have become small, residuals may lean on no derivative by more than this cosine.
MOST_COSINE = 0.05
# Gauss-Newton is damped by so much of the residuals' size for a change of a number by all of
# itself: nothing for what is seen at all, and it moves no minimum; but what no voxel shows, as the
# trace of S, stays where it is. Else it is walked along, a trust region a step, to the edge of the
# possible.
DAMPING = 1e-2
# The equations of a step of the truncated solver are solved so well, in so many iterations at most:
# early steps need only the direction.
INNER_TOLERANCE, MOST_INNER = 1e-2, 30
# L-BFGS ends so where its line search finds nothing lower. With slopes below this, as a fraction of
# the data's square, that is the tolerance of the maps, not a search gone wrong.
_LINE_SEARCH_FAILED, _SLOPE_OF_MAPS = 2, 1e-4
# What a misfit counts as where the motion is not possible; others are at most 1.
_IMPOSSIBLE = 10.0


@dataclass(frozen=True, eq=False)
class Run:
    """Where a solver ended, whether it got there by itself, and what it says.

    Attributes
    ----------
    x : ndarray, shape (n_vector,)
    converged : bool
    message : str
    is_stopped : bool
        Whether time was up or it was interrupted: no further round is wanted.
    """

    x: FloatArray
    converged: bool
    message: str
    is_stopped: bool = False


def gauss_newton(problem: VectorProblem, start: FloatArray, most_evaluations: int) -> Run:
    """Trust region, with all derivatives."""
    n = len(start)

    def residuals(x: FloatArray) -> FloatArray:
        return np.append(problem.residuals(x), np.zeros(n))

    def jacobian(x: FloatArray) -> FloatArray:
        return np.vstack([problem.jacobian(x), damping * np.eye(n)])

    try:
        at_start = problem.residuals(start)
        damping = DAMPING * float(np.sqrt(np.mean(at_start**2)))
        found = scipy.optimize.least_squares(
            residuals, start, jacobian, bounds=problem.evaluate.vector.bounds, x_scale="jac",
            xtol=STEP_TOLERANCE, ftol=1e-9, gtol=None,
            max_nfev=max(2, most_evaluations // (1 + n)),
        )  # fmt: skip
    except (StoppedEarlyError, KeyboardInterrupt) as stop:
        return _stopped(problem.watch, stop)
    norms = np.linalg.norm(np.asarray(found.jac)[:-n], axis=0)
    size = norms * np.linalg.norm(found.fun)
    cosine = float(np.max(np.abs(found.grad) / np.where(size > 0, size, 1.0), initial=0.0))
    logger.info("fit: %s gradient cosine %.1e", found.message, cosine)
    message, is_done = str(found.message), bool(found.success)
    # What is left of a perfect fit is the tolerance of the maps, which may lean anywhere.
    evaluate, weights = problem.evaluate, problem.projected.root_weights
    level = np.linalg.norm(weights * evaluate.data.take(problem.working)[0])
    is_noise = np.linalg.norm(found.fun) < 2.0 * evaluate.rtol * level
    if is_done and cosine > MOST_COSINE and not is_noise:
        is_done = False
        message += f" But the gradient is not zero: cosine {cosine:.2f} with the residuals."
    return Run(found.x, is_done, message)


def truncated_newton(problem: VectorProblem, start: FloatArray, most_evaluations: int) -> Run:
    """Trust region without the derivatives as a matrix: products and gradients of maps alone.

    A step is the Gauss–Newton step as far as `MOST_INNER` iterations of least squares find it,
    within the plane of that and the gradient (Branch, Coleman and Li, 1999).
    """
    try:
        found = scipy.optimize.least_squares(
            problem.residuals, start, problem.operator, bounds=problem.evaluate.vector.bounds,
            xtol=STEP_TOLERANCE, ftol=1e-7, gtol=None, tr_solver="lsmr",
            tr_options={"atol": INNER_TOLERANCE, "btol": INNER_TOLERANCE, "maxiter": MOST_INNER},
            max_nfev=max(2, most_evaluations // (2 * MOST_INNER)),
        )  # fmt: skip
    except (StoppedEarlyError, KeyboardInterrupt) as stop:
        return _stopped(problem.watch, stop)
    slope = float(np.max(np.abs(found.grad), initial=0.0)) / problem.size
    logger.info("fit: %s largest slope %.1e", found.message, slope)
    return Run(found.x, bool(found.success), str(found.message))


def l_bfgs(problem: VectorProblem, start: FloatArray, most_evaluations: int) -> Run:
    """Limited-memory quasi-Newton, with one gradient a step."""

    def value_and_gradient(x: FloatArray) -> tuple[float, FloatArray]:
        found = problem.residuals(x)
        if not np.all(np.isfinite(found)):
            # Far above any misfit, which is about 1 at most: the line search turns back.
            return _IMPOSSIBLE, np.zeros(len(x))
        gradient = 2.0 * problem.transpose_product(x, found) / problem.size
        return float(found @ found) / problem.size, gradient

    lower, upper = problem.evaluate.vector.bounds
    watch = problem.watch
    try:
        found = scipy.optimize.minimize(
            value_and_gradient, start, jac=True, method="L-BFGS-B",
            bounds=scipy.optimize.Bounds(lower, upper),
            options={
                "maxfun": max(2, most_evaluations // 2), "maxiter": 10_000,
                "maxcor": 30, "ftol": 1e-8, "gtol": 1e-7,
            },
        )  # fmt: skip
    except (StoppedEarlyError, KeyboardInterrupt) as stop:
        return _stopped(watch, stop)
    slope = float(np.max(np.abs(found.jac)))
    logger.info("fit: %s largest slope %.1e", found.message, slope)
    best = found.x if watch.x is None else watch.x
    if found.status == _LINE_SEARCH_FAILED and slope < _SLOPE_OF_MAPS:
        return Run(best, True, "No step lowers the misfit: slopes are below the maps' tolerance.")
    return Run(best, bool(found.success), str(found.message))


def _stopped(watch: Watch, stop: BaseException) -> Run:
    """Return the best so far of a solver that was stopped; nothing seen: it stays stopped."""
    if watch.x is None:
        raise stop
    reason = str(stop) if isinstance(stop, StoppedEarlyError) else "interrupted"
    return Run(watch.x, False, f"Stopped, {reason}: the best so far.", is_stopped=True)
