r"""Errors by resampling blocks of hkl: they do not take voxels as independent.

Blocks of the working voxels are drawn with replacement, as many as there are; a resample is the
fit with each voxel's weight multiplied by how often its block was drawn. What voxels of one block
share (overlapping pixels, a molecule's transform that varies slowly, what the model lacks) then
counts once, where the Gauss–Newton matrix counts every voxel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.errors import InputError
from offbragg.inference.result import FitResult, FittedParameter
from offbragg.runtime import SILENT, Progress

#: Resamples where no number is given: a standard error to 5 %.
N_RESAMPLES = 200
# Of fewer blocks the spread says little.
LEAST_BLOCKS = 10


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Errors of a fit's parameters by resampling.

    Attributes
    ----------
    parameters : dict of str to FittedParameter
        The fit's values, with errors and intervals of the resamples. Infinite errors are those of
        the Gauss–Newton matrix: the data do not determine the number.
    scale : FittedParameter
    covariance, correlations : ndarray, shape (n, n)
        Of all parameters' numbers, in order; 0 with what is not determined.
    n_resamples, n_blocks : int
    """

    parameters: dict[str, FittedParameter]
    scale: FittedParameter
    covariance: FloatArray
    correlations: FloatArray
    n_resamples: int
    n_blocks: int


def bootstrap(
    result: FitResult,
    n_resamples: int = N_RESAMPLES,
    *,
    refit: bool = False,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
    progress: Progress = SILENT,
) -> Bootstrap:
    """Errors of a fit's parameters by bootstrap over blocks of hkl.

    Parameters
    ----------
    result : FitResult
    n_resamples : int
        At least 2.
    refit : bool
        Fit anew to every resample. Otherwise one Gauss–Newton step from the optimum, with the
        derivatives that the fit worked out there: linear algebra alone.
    level : float
        What share of the resamples the intervals hold, between 0 and 1.
    rng : numpy.random.Generator, optional
        Draws the blocks; seeded with 0 where not given.
    progress : Progress

    Returns
    -------
    Bootstrap

    Raises
    ------
    InputError
        If there are fewer than ten blocks or two resamples, the level is out of range, or no
        derivatives are at hand and ``refit`` is not asked for.

    Notes
    -----
    Blocks are those that voxels are held out by (`FitOptions.block_edge`); they must be wider
    than what is correlated. An error from n blocks is itself uncertain by about 1/√(2n) of it.

    Examples
    --------
    >>> import offbragg as ob
    >>> from offbragg.made_crystal import make_peptide
    >>> peptide = make_peptide("GAS")
    >>> exact = ob.simulate(peptide, ob.RigidBody(0.1), ob.HklGrid.from_resolution(peptide.cell, 2))
    >>> noise = np.random.default_rng(0).normal(size=exact.grid.shape)
    >>> observed = ob.DiffuseMap(exact.grid, exact.intensity + 20 * noise, exact.space_group)
    >>> result = ob.fit(observed, peptide, ob.RigidBody(0.08))
    >>> found = bootstrap(result)
    >>> found.parameters["translation"].standard_error.shape, found.n_resamples
    ((3, 3), 200)
    """
    optimum = result.optimum
    if n_resamples < 2:
        raise InputError(f"n_resamples must be >= 2, got {n_resamples}")
    if not 0 < level < 1:
        raise InputError(f"level must be between 0 and 1, got {level}")
    check_enough_blocks(optimum.n_blocks)
    if optimum.design is None and not refit:
        raise InputError("bootstrap: no derivatives are at hand for so many numbers: refit=True")
    rng = rng or np.random.default_rng(0)
    n_blocks, vector = optimum.n_blocks, optimum.evaluate.vector
    rows, scales = [], []
    progress.start("bootstrap", n_resamples)
    for _ in range(n_resamples):
        drawn = rng.multinomial(n_blocks, np.full(n_blocks, 1.0 / n_blocks)).astype(np.float64)
        x, scale = optimum.refit(drawn) if refit else optimum.step(drawn)
        rows.append(np.concatenate([np.ravel(value) for value in vector.values(x).values()]))
        scales.append(scale)
        progress.step()
    return _summary(result, np.array(rows), np.array(scales), level)


def check_enough_blocks(n_blocks: int) -> None:
    """Check that the spread over so many blocks says something.

    Raises
    ------
    InputError
        If they are fewer than ten.
    """
    if n_blocks < LEAST_BLOCKS:
        raise InputError(
            f"bootstrap: expected at least {LEAST_BLOCKS} blocks of hkl, found {n_blocks}: "
            "set a smaller block_edge"
        )


def with_bootstrap_errors(result: FitResult, found: Bootstrap) -> FitResult:
    """Return a fit's result with the errors of a bootstrap in place of its own."""
    text = f" Errors by bootstrap over {found.n_blocks} blocks."
    return replace(
        result,
        parameters=found.parameters,
        scale=found.scale,
        correlations=found.correlations,
        message=result.message + text,
    )


def _summary(result: FitResult, samples: FloatArray, scales: FloatArray, level: float) -> Bootstrap:
    """Errors, intervals and correlations from resamples (n_resamples, n) and their scales."""
    given = result.parameters
    is_open = np.isinf(np.concatenate([np.ravel(p.standard_error) for p in given.values()]))
    covariance = np.atleast_2d(np.cov(samples, rowvar=False))
    covariance[is_open] = 0.0
    covariance[:, is_open] = 0.0
    errors = np.sqrt(np.diag(covariance))
    safe = np.where(errors > 0, errors, 1.0)
    correlations = covariance / safe[:, None] / safe
    np.fill_diagonal(correlations, 1.0)
    errors[is_open] = np.inf
    ends = 50.0 * (1.0 - level), 50.0 * (1.0 + level)
    limits = np.percentile(samples, ends, axis=0)
    limits[:, is_open] = [[-np.inf], [np.inf]]
    parameters, first = {}, 0
    for name, p in given.items():
        shape = np.shape(p.value)
        own = slice(first, first + int(np.prod(shape)))
        error = errors[own].reshape(shape)
        parameters[name] = replace(
            p,
            standard_error=error if shape else float(error),
            interval=limits[:, own].reshape(2, *shape),
        )
        first = own.stop
    scale = replace(
        result.scale,
        standard_error=float(np.std(scales, ddof=1)),
        interval=np.percentile(scales, ends),
    )
    return Bootstrap(
        parameters, scale, covariance, correlations, len(samples), result.optimum.n_blocks
    )
