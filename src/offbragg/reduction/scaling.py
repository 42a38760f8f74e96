r"""Scaling: smooth corrections that make equivalent observations agree.

.. math:: I_o = \prod_m m(x_o) \Big[\prod_b b(x_o)\, I_{h(o)} + \sum_c c(x_o)\Big] + \text{noise}

with I_h one number for each orbit of equivalent voxels; m multiplies all that is counted
(absorption, the detector), b only what the crystal scatters (beam, illuminated volume), c is added
to it (air, loop, mother liquor). Factors are exponentials of smooth functions, so they stay
positive, and absorption is linear in its path. Levenberg–Marquardt on the coefficients of all of
them together; at each step the I_h of least squares follow (variable projection), so their number
costs nothing. Weights are those of the counts that the model *expects*, never of an observation's
own. How smooth each correction is, and whether it is one at all, the observations tell
(`smoothness`); what they do not tell is settled by convention (`undetermined`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from offbragg.errors import InputError
from offbragg.reduction.scaling_model import Correction, Scaling, ScalingData
from offbragg.reduction.scaling_problem import ScalingProblem
from offbragg.runtime import SILENT, Progress, say

logger = logging.getLogger(__name__)

# Steps at most, and the change of the misfit, as a fraction, that ends them.
_MOST_STEPS, _SMALL_CHANGE = 20, 5e-4
# Damping at first, in units of the equations' diagonal.
_DAMPING = 1e-3


def fit_scaling(
    data: ScalingData,
    corrections: Sequence[Correction],
    *,
    most_observations: int = 500_000,
    rng: np.random.Generator | None = None,
    progress: Progress = SILENT,
) -> Scaling:
    """Find the corrections that make equivalent observations agree.

    Parameters
    ----------
    data : ScalingData
    corrections : sequence of Correction
    most_observations : int
        Orbits are drawn at random until they have so many: some thousand coefficients need no
        more, and what is left over judges them.
    rng : numpy.random.Generator, optional
        Draws the orbits; seeded with 0 where not given.
    progress : Progress

    Returns
    -------
    Scaling
        Factors of mean 1 over the observations; offsets whose least along all axes but the first,
        at each place of that, is 0.

    Raises
    ------
    InputError
        If there is no orbit with two observations.

    Notes
    -----
    Time goes with observations × splines at a point (3 an axis): half a million, four corrections,
    about a minute.
    """
    used = data.drawn(most_observations, rng or np.random.default_rng(0))
    if not len(used.intensity):
        raise InputError("scaling: expected orbits with two observations or more, found none")
    problem = ScalingProblem(used, tuple(corrections))
    state = np.zeros(problem.n_coefficients)
    misfit = [problem.misfit(state)]
    converged, damping = False, _DAMPING
    for step in range(_MOST_STEPS):
        problem.learn_errors(state)
        misfit[-1] = problem.misfit(state)
        state, damping = problem.improved(state, damping)
        misfit.append(problem.misfit(state))
        say(progress, f"scaling, step {step + 1}: misfit {misfit[-1]:.4f}")
        if abs(misfit[-2] - misfit[-1]) <= _SMALL_CHANGE * misfit[-1]:
            converged = True
            break
    logger.info("scaling: misfit %s", " ".join(f"{x:.4f}" for x in misfit))
    coefficients = tuple(problem.normalised(state))
    return Scaling(tuple(corrections), coefficients, converged, np.array(misfit))
