"""Solvers: from a start to the least misfit, under watch."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import scipy.optimize

from offbragg.conventions import BoolArray, FloatArray
from offbragg.inference.evaluator import Evaluator
from offbragg.inference.objective import ProjectedProblem
from offbragg.inference.options import FitOptions
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


def gauss_newton(
    evaluate: Evaluator,
    problem: ProjectedProblem,
    working: BoolArray,
    start: FloatArray,
    settings: FitOptions,
    watch: Watch,
) -> Run:
    """Trust region, with all derivatives."""
    n = len(start)

    def residuals(x: FloatArray) -> FloatArray:
        found = problem.residuals(evaluate(x)[working])
        watch.saw(float(found @ found), x)
        return np.append(found, np.zeros(n))

    def jacobian(x: FloatArray) -> FloatArray:
        found = problem.jacobian(evaluate(x)[working], evaluate.derivatives(x)[working])
        return np.vstack([found, damping * np.eye(n)])

    try:
        at_start = problem.residuals(evaluate(start)[working])
        damping = DAMPING * float(np.sqrt(np.mean(at_start**2)))
        found = scipy.optimize.least_squares(
            residuals, start, jacobian, bounds=evaluate.vector.bounds, x_scale="jac",
            xtol=STEP_TOLERANCE, ftol=1e-9, gtol=None,
            max_nfev=max(2, settings.most_evaluations(len(start)) // (1 + len(start))),
        )  # fmt: skip
    except (StoppedEarlyError, KeyboardInterrupt) as stop:
        return _stopped(watch, stop)
    norms = np.linalg.norm(np.asarray(found.jac)[:-n], axis=0) * np.linalg.norm(found.fun)
    cosine = float(np.max(np.abs(found.grad) / np.where(norms > 0, norms, 1.0), initial=0.0))
    logger.info("fit: %s gradient cosine %.1e", found.message, cosine)
    message, is_done = str(found.message), bool(found.success)
    # What is left of a perfect fit is the tolerance of the maps, which may lean anywhere.
    level = np.linalg.norm(problem.root_weights * evaluate.data.take(working)[0])
    is_noise = np.linalg.norm(found.fun) < 2.0 * evaluate.rtol * level
    if is_done and cosine > MOST_COSINE and not is_noise:
        is_done = False
        message += f" But the gradient is not zero: cosine {cosine:.2f} with the residuals."
    return Run(found.x, is_done, message)


def l_bfgs(
    evaluate: Evaluator,
    problem: ProjectedProblem,
    working: BoolArray,
    start: FloatArray,
    settings: FitOptions,
    watch: Watch,
) -> Run:
    """Limited-memory quasi-Newton, with one gradient a step."""
    size = float(problem.data @ problem.data)

    def value_and_gradient(x: FloatArray) -> tuple[float, FloatArray]:
        model = evaluate(x)[working]
        if not np.all(np.isfinite(model)):
            # Far above any misfit, which is at most 1: the line search turns back.
            return _IMPOSSIBLE, np.zeros(len(x))
        part = problem.model_part(model)
        scale = problem.scale(part)
        rest = problem.data - scale * part
        # Scale and background follow; neither moves the value to first order.
        slopes = np.zeros(len(working))
        slopes[working] = -2.0 * scale * problem.root_weights * rest / size
        value = float(rest @ rest) / size
        watch.saw(value, x)
        return value, evaluate.gradient(x, slopes)

    lower, upper = evaluate.vector.bounds
    try:
        found = scipy.optimize.minimize(
            value_and_gradient, start, jac=True, method="L-BFGS-B",
            bounds=scipy.optimize.Bounds(lower, upper),
            options={
                "maxfun": max(2, settings.most_evaluations(len(start)) // 2), "maxiter": 10_000,
                "maxcor": 30, "ftol": 1e-8, "gtol": 1e-7,
            },
        )  # fmt: skip
    except (StoppedEarlyError, KeyboardInterrupt) as stop:
        return _stopped(watch, stop)
    logger.info("fit: %s largest slope %.1e", found.message, np.max(np.abs(found.jac)))
    best = found.x if watch.x is None else watch.x
    return Run(best, bool(found.success), str(found.message))


def _stopped(watch: Watch, stop: BaseException) -> Run:
    """Return the best so far of a solver that was stopped; nothing seen: it stays stopped."""
    if watch.x is None:
        raise stop
    reason = str(stop) if isinstance(stop, StoppedEarlyError) else "interrupted"
    return Run(watch.x, False, f"Stopped, {reason}: the best so far.", is_stopped=True)
