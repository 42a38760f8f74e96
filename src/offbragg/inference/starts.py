"""Several starts of one fit: the objective has more than one minimum, and this shows it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbragg.conventions import BoolArray, FloatArray
from offbragg.inference.checkpoint import Checkpoint
from offbragg.inference.evaluator import Evaluator
from offbragg.inference.options import FitOptions
from offbragg.inference.solve import Solution, solve
from offbragg.inference.watch import Watch

_TRIES = 10


@dataclass(frozen=True)
class StartReached:
    """What one start of a fit led to.

    Attributes
    ----------
    misfit : float
        Sum of squares of the weighted residuals, as a fraction of the best start's.
    distance : float
        Largest difference of a number of the solver's vector from the best start's: of logarithms,
        of roots in units of their start, else of the number itself.
    converged : bool
    """

    misfit: float
    distance: float
    converged: bool


def solve_from_starts(
    evaluate: Evaluator,
    working: BoolArray,
    settings: FitOptions,
    rng: np.random.Generator,
    checkpoint: Checkpoint | None = None,
    first: FloatArray | None = None,
) -> tuple[Solution, tuple[StartReached, ...]]:
    """Solve from the given start, or ``first``, and from others; the best, and what each reached.

    A start where the motion is not possible is drawn again, ten times at most. Time that is up
    ends the whole.
    """
    vector, keep = evaluate.vector, None if checkpoint is None else checkpoint.keep
    watch = Watch.lasting(settings.max_seconds, keep)
    if settings.n_starts > 1:
        vector.perturbed(rng)  # refuses, before the work, a parameter that has no size
    start = vector.start if first is None else first
    solutions = [solve(evaluate, working, start, settings, watch)]
    while len(solutions) < settings.n_starts and not solutions[-1].is_stopped:
        start = _possible(evaluate, rng)
        solutions.append(solve(evaluate, working, start, settings, watch))
    best = min(solutions, key=lambda x: x.misfit)
    reached = tuple(
        StartReached(
            misfit=x.misfit / best.misfit if best.misfit > 0 else 1.0,
            distance=float(np.max(np.abs(x.x - best.x), initial=0.0)),
            converged=x.converged,
        )
        for x in solutions
    )
    return best, reached


def _possible(evaluate: Evaluator, rng: np.random.Generator) -> FloatArray:
    """Draw a start whose map can be computed; the first one after ten tries."""
    for _ in range(_TRIES):
        drawn = evaluate.vector.perturbed(rng)
        if np.all(np.isfinite(evaluate(drawn))):
            return drawn
    return evaluate.vector.start
