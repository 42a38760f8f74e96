"""`infer_covariance`: how residues move together, from the map alone, judged on unseen blocks.

A model of few numbers, fitted first, is the start and the yardstick. What it leaves unexplained is
put down to changes of the covariance of groups of atoms, in smooth fields and with a penalty, and
to smooth functions of direction that no structure is needed for. To first order that is a linear
problem: the penalty is chosen by leaving out each block of hkl, in closed form. The covariance is
then made a possible one, and its exact map judged on folds of blocks that it has not seen.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from offbragg.conventions import BoolArray, FloatArray, IntArray
from offbragg.crystal.structure import AtomicStructure
from offbragg.disorder.base import DisorderModel
from offbragg.errors import InputError
from offbragg.inference.block_ridge import BlockRidge
from offbragg.inference.fitting import fit
from offbragg.inference.inferred import InferredCovariance, Score
from offbragg.inference.linear_problem import InferOptions, LinearProblem, check_base, check_groups
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.wrong_indexing import wrongly_indexed
from offbragg.runtime import SILENT, Progress

# In mean squares of a penalised column: from hardly any penalty to one that leaves little.
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
# Of the motion; more than this cut off is worth a warning.
_MUCH_CLIPPED = 0.1


def infer_covariance(
    observed: DiffuseMap,
    structure: AtomicStructure,
    model: DisorderModel,
    *,
    groups: IntArray | None = None,
    rng: np.random.Generator | None = None,
    progress: Progress = SILENT,
    **options: Any,
) -> InferredCovariance:
    """Infer the covariance of groups of atoms from a map, starting from a simple model.

    Parameters
    ----------
    observed : DiffuseMap
        Weighted as in `fit`.
    structure : AtomicStructure
        Best without hydrogens and waters; time grows with the square of the atoms.
    model : DisorderModel
        Refined first; liquid-like motions, as a rule. Of one copy's atoms.
    groups : ndarray, shape (n_atoms,), int64, optional
        Group of each atom, 0 … n − 1, whose atoms change alike; residues where not given.
    smoothing : float
        Length over which displacements of groups change alike [Å].
    reach : float
        Distance over which changes of covariances fade [Å].
    harmonics : {0, 2, 4, 6, 8}
        Degree of smooth functions of direction fitted beside the model, see `Harmonics`.
    background, d_min, d_max, block_edge, rtol
        As for `fit`.
    n_folds : int
        Folds of whole blocks for the exact score.
    n_resamples : int
        Resamples of blocks for the errors of correlations; about 50 are enough.
    null : bool
        Do the same to first order for the map as if indexed wrongly.
    max_memory : float
        Bytes that the design may take; fields are left out, with a warning, until it does.
    rng : numpy.random.Generator, optional
        Draws folds and resamples; seeded with 0 where not given.
    progress : Progress

    Returns
    -------
    InferredCovariance

    Raises
    ------
    InputError
        As `fit`; if motions of the model reach beyond one copy, groups do not match the atoms, or
        the model does not resemble the map.

    Notes
    -----
    Changes are of the blocks V_rs as a whole, so a pair of atoms of two residues changes as its
    residues do. What the map does not determine stays as the base model has it.
    """
    settings = _as_options(options)
    check_base(model, structure)
    if groups is not None:
        check_groups(groups, structure)
    rng = rng or np.random.default_rng(0)
    progress.start("infer", settings.n_folds + 4 + settings.n_resamples)
    base = fit(
        observed, structure, model, held_out=0.0, d_min=settings.d_min, d_max=settings.d_max,
        background=settings.background, rtol=settings.rtol, rng=rng,
    )  # fmt: skip
    progress.step()
    problem = LinearProblem.of(observed, structure, base.model, groups, settings)
    progress.step()
    penalty, by_penalty = _best_penalty(problem, problem.ridge)
    reference = problem.left_out_unpenalised()
    smooth = problem.left_out_unpenalised(with_model=False)
    progress.step()
    exact = _exact_score(problem, penalty, rng, progress)
    inferred, clipped = problem.possible_covariance(problem.ridge.solve(penalty * problem.unit))
    calculated = problem.simulated(inferred)
    coefficients = problem.scaled(calculated, np.ones(problem.n_voxels, dtype=bool))
    working = problem.varying(calculated, coefficients) * problem.roots
    model_map = problem.model_map(observed, calculated, coefficients)
    rest = observed.intensity.astype(np.float64) - model_map.intensity
    progress.step()
    errors = _correlation_errors(problem, penalty, rng, progress)
    null = _null_score(problem, observed, penalty) if settings.null else None
    spectrum = problem.ridge.spectrum(penalty * problem.unit)
    return InferredCovariance(
        model=inferred,
        base=base,
        residues=problem.named(problem.of_groups(inferred)),
        base_residues=problem.named(problem.of_groups(base.model)),
        correlation_errors=errors,
        penalty=penalty,
        cc_by_penalty=by_penalty,
        n_numbers=problem.fields.n_numbers,
        n_determined=float(spectrum.sum()),
        spectrum=spectrum,
        linear=problem.score(reference, problem.left_out(problem.ridge, penalty)),
        exact=exact,
        null=null,
        cc_smooth=problem.correlation(smooth)[0],
        cc_working=problem.correlation(working)[0],
        clipped=clipped,
        model_map=model_map,
        residual_map=replace(model_map, intensity=rest, sigma=observed.sigma),
        message=_message(problem, penalty, exact, null, clipped),
    )


def _as_options(options: dict[str, Any]) -> InferOptions:
    known = [f.name for f in fields(InferOptions)]
    for name in options:
        if name not in known:
            raise InputError(
                f"infer_covariance has no option {name!r}, expected one of {', '.join(known)}"
            )
    return InferOptions(**options)


def _best_penalty(
    problem: LinearProblem,
    ridge: BlockRidge,
    rows: BoolArray | None = None,
    start: float = PENALTIES[-1],
) -> tuple[float, dict[float, float]]:
    """Change the penalty as long as blocks that are left out are predicted better."""
    found: dict[float, float] = {}

    def correlation(penalty: float) -> float:
        if penalty not in found:
            found[penalty] = problem.correlation(problem.left_out(ridge, penalty), rows)[0]
        return found[penalty]

    place = PENALTIES.index(start)
    for step in (-1, 1):
        while 0 <= place + step < len(PENALTIES) and (
            correlation(PENALTIES[place + step]) > correlation(PENALTIES[place])
        ):
            place += step
    return PENALTIES[place], found


def _exact_score(
    problem: LinearProblem, start: float, rng: np.random.Generator, progress: Progress
) -> Score:
    """Judge exact maps of possible covariances on folds; penalties are chosen without them."""
    folds, alone = problem.folds(rng), problem.simulated(problem.base)
    base, changed = np.empty(problem.n_voxels), np.empty(problem.n_voxels)
    for fold in range(int(folds.max()) + 1):
        held = folds == fold
        working = problem.ridge.take(~held)
        penalty, _ = _best_penalty(problem, working, ~held, start)
        inferred, _ = problem.possible_covariance(working.solve(penalty * problem.unit))
        for target, calculated in ((base, alone), (changed, problem.simulated(inferred))):
            coefficients = problem.scaled(calculated, ~held)
            target[held] = problem.varying(calculated, coefficients)[held]
        progress.step()
    return problem.score(base * problem.roots, changed * problem.roots)


def _null_score(problem: LinearProblem, observed: DiffuseMap, penalty: float) -> Score:
    """To first order, for the map as if indexed wrongly."""
    wrong = wrongly_indexed(observed)
    place, inside = wrong.grid.index_of(problem.data.voxels.hkl)
    values = wrong.intensity[tuple(np.where(inside[:, None], place, 0).T)].astype(np.float64)
    rows = inside & np.isfinite(values)
    turned = problem.with_intensity(values, rows)
    changed = turned.ridge.predict_left_out(penalty * problem.unit, turned.is_varying)
    return turned.score(turned.left_out_unpenalised(), changed)


def _correlation_errors(
    problem: LinearProblem, penalty: float, rng: np.random.Generator, progress: Progress
) -> FloatArray | None:
    """Scatter of the groups' correlations over resamples of blocks, to first order."""
    n_resamples = problem.settings.n_resamples
    if not n_resamples:
        return None
    found = []
    n_blocks = int(problem.ridge.block.max()) + 1
    for _ in range(n_resamples):
        times = np.bincount(rng.integers(n_blocks, size=n_blocks), minlength=n_blocks)
        weights = times[problem.ridge.block].astype(np.float64)
        theta = problem.ridge.solve(penalty * problem.unit, weights)
        found.append(problem.named(problem.changed_groups(theta)).correlation)
        progress.step()
    scatter: FloatArray = np.std(found, axis=0, ddof=1)
    return scatter


def _message(
    problem: LinearProblem, penalty: float, exact: Score, null: Score | None, clipped: float
) -> str:
    """Say in words what the figures are worth."""
    said = []
    if exact.gain < 2.0 * exact.gain_error:
        said.append(
            "The map does not show that residues move otherwise than the base model has it: the "
            f"gain on unseen blocks is {exact.gain:.3f} ± {exact.gain_error:.3f}."
        )
    if null is not None and null.gain > 2.0 * null.gain_error:
        said.append(
            "Part of the gain is what these functions explain of any map: with the wrong indexing "
            f"they gain {null.gain:.3f} ± {null.gain_error:.3f}. A higher degree of harmonics "
            "takes that away."
        )
    if penalty in (PENALTIES[0], PENALTIES[-1]):
        said.append(f"The penalty is at the end of its range, {penalty:g}.")
    if clipped > _MUCH_CLIPPED:
        said.append(
            f"{100 * clipped:.0f} % of the motion was cut off to make the covariance a possible "
            "one: it is not well determined."
        )
    if problem.n_dropped:
        said.append(
            f"{problem.n_dropped} of the smoothest fields' companions were left out to stay within "
            "max_memory."
        )
    return " ".join(said) or "No warnings."
