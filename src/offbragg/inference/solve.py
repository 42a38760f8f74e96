"""`fit`: the parameters of a disorder model from a map, by weighted least squares."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.optimize

from offbragg.conventions import TWO_PI, BoolArray, FloatArray
from offbragg.crystal.cell import check_cells_agree
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.symmetry import laue_rotations
from offbragg.disorder.base import DisorderModel
from offbragg.errors import InputError
from offbragg.inference.background import Background
from offbragg.inference.data import FitData
from offbragg.inference.evaluator import Evaluator
from offbragg.inference.held_out import choose_held_out
from offbragg.inference.objective import ProjectedProblem, background_coefficients
from offbragg.inference.parameters import ParameterVector
from offbragg.inference.result import FitResult, FittedParameter
from offbragg.inference.uncertainty import Uncertainty, estimate_uncertainty
from offbragg.inference.weights import with_expected_sigma
from offbragg.maps.comparison import compare
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.equivalents import symmetry_orbits
from offbragg.maps.provenance import make_step
from offbragg.maps.shells import isotropic_shells, shell_mean
from offbragg.runtime import SILENT, Progress

logger = logging.getLogger(__name__)

STEP_TOLERANCE = 1e-5
# A map that varies less than this beyond its background, as a fraction, is rounding.
LEAST_VARIATION = 1e-7
SOLVERS = ("auto", "gauss-newton", "l-bfgs")
# "auto" solves by Gauss-Newton up to so many numbers: each costs a product a step.
MOST_DENSE = 30
# Errors are worked out for so many numbers at most: each costs a product, once.
MOST_WITH_ERRORS = 400
_IMPOSSIBLE = 10.0


@dataclass(frozen=True)
class FitOptions:
    """What `fit` is told beside map, structure and model; see there."""

    refine: tuple[str, ...] | None = None
    adps: str = "model"
    d_min: float | None = None
    d_max: float | None = None
    background: str = "smooth"
    held_out: float = 0.1
    block_edge: int | None = None
    max_evaluations: int = 60
    voxel_average: bool | None = None
    rtol: float = 5e-4
    solver: str = "auto"

    def __post_init__(self) -> None:
        for name in ("d_min", "d_max", "max_evaluations", "block_edge"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} must be > 0, got {value}")
        if self.solver not in SOLVERS:
            raise InputError(f"solver must be one of {' '.join(SOLVERS)}, got {self.solver!r}")


def fit(
    observed: DiffuseMap,
    structure: AtomicStructure,
    model: DisorderModel,
    refine: Sequence[str] | None = None,
    *,
    rng: np.random.Generator | None = None,
    progress: Progress = SILENT,
    **options: Any,
) -> FitResult:
    """Refine parameters of a disorder model, or of a sum of models, against a map.

    Equivalent voxels are averaged first, so that each measurement counts once. Scale and
    isotropic background are profiled out at every step.

    Parameters
    ----------
    observed : DiffuseMap
        Weighted by 1/σ² where it has σ, by 1 otherwise; σ as `with_expected_sigma` gives it where
        the map has counts of averaged pixels.
    structure : AtomicStructure
        Its cell gives q; the map's hkl decide which voxels are computed.
    model : DisorderModel
        With the values to start from. Covariances (T, L, M, C, V) stay positive semi-definite,
        positive numbers positive.
    refine : sequence of str, optional
        Names of the parameters to refine; all that the model can refine where not given.
    adps : {"model", "file"}
        As for `simulate`.
    d_min, d_max : float, optional
        Limits of resolution [Å].
    background : {"smooth", "shells", "none"}
        See `Background`. With "shells" and a map without σ, least squares is the same as the
        highest correlation of the anisotropic parts.
    held_out : float
        Fraction of the voxels kept out of the fit, in contiguous blocks of hkl with all their
        symmetry equivalents.
    block_edge : int, optional
        Edge of these blocks, in reciprocal-lattice units.
    max_evaluations : int
        Maps and derivatives of maps to make at most, those for the errors at the end aside.
    voxel_average : bool, optional
        Compare with the model's means over voxels; where not given, if the map has counts of
        averaged pixels.
    rtol : float
        Largest error of a simulation, as a fraction of its mean intensity.
    solver : {"auto", "gauss-newton", "l-bfgs"}
        "gauss-newton": trust region, one product a number and step. "l-bfgs": one gradient a
        step, however many numbers. "auto": the first up to 30 numbers.
    rng : numpy.random.Generator, optional
        Draws the blocks; seeded with 0 where not given.
    progress : Progress

    Returns
    -------
    FitResult

    Raises
    ------
    InputError
        If nothing is measured within the limits, a name is unknown, an option is out of range,
        the map does not vary beyond an isotropic background, or the structure's cell is more than
        3 % off the map's.

    Notes
    -----
    A few numbers cost 10 to 40 simulations in all; many, two to three simulations a step.
    """
    settings = _as_options(refine, options)
    if settings.voxel_average is None:
        settings = replace(settings, voxel_average=observed.count is not None)
    vector = ParameterVector.of(model, settings.refine, model.coherent_unit(structure))
    observed = with_expected_sigma(observed)
    cell = structure.require_cell()
    check_cells_agree(cell, observed.cell, "structure and map")
    data = FitData.of(observed, cell, settings.d_min, settings.d_max)
    rotations = laue_rotations(observed.laue_group or observed.space_group)
    held_out = choose_held_out(
        data.voxels.hkl, rotations, settings.held_out, rng or np.random.default_rng(0),
        settings.block_edge,
    )  # fmt: skip
    if held_out.all():
        raise InputError(
            f"fit: held_out = {settings.held_out:g} leaves none of {len(held_out)} unique voxels"
        )
    evaluate = Evaluator(
        structure, vector, data, settings.adps, bool(settings.voxel_average), settings.rtol,
        progress,
    )  # fmt: skip
    progress.start("fit", settings.max_evaluations)
    solution = solve(evaluate, ~held_out, vector.start, settings)
    return _assemble(observed, evaluate, solution, ~held_out, settings)


def _as_options(refine: Sequence[str] | None, options: dict[str, Any]) -> FitOptions:
    unknown = set(options) - set(FitOptions.__dataclass_fields__)
    if unknown:
        expected = ", ".join(FitOptions.__dataclass_fields__)
        raise InputError(f"fit has no option {sorted(unknown)[0]!r}, expected one of {expected}")
    names = (refine,) if isinstance(refine, str) else refine
    return FitOptions(refine=None if names is None else tuple(names), **options)


@dataclass(frozen=True, eq=False)
class Solution:
    """Where a solver stopped.

    Attributes
    ----------
    x : ndarray, shape (n_vector,)
    background : Background
    residuals : ndarray, shape (n_working,)
        Weighted, at the best scale and background.
    scale : float
        The best scale.
    converged : bool
    message : str
        Why it stopped.
    """

    x: FloatArray
    background: Background
    residuals: FloatArray
    scale: float
    converged: bool
    message: str


def solve(
    evaluate: Evaluator, working: BoolArray, start: FloatArray, settings: FitOptions
) -> Solution:
    """Weighted least squares over the working voxels.

    Raises
    ------
    InputError
        If the voxels are too few, or do not vary beyond an isotropic background.
    """
    vector = evaluate.vector
    background = evaluate.data.background(settings.background, working)
    n_voxels = int(np.count_nonzero(working))
    n_functions = background.basis(evaluate.data.q_length[:1]).shape[1]
    if n_voxels <= n_functions + len(start) + 1 and settings.solver != "l-bfgs":
        raise InputError(
            f"fit: {n_voxels} unique voxels cannot determine {len(start)} numbers of "
            f"parameters, a scale and a background of {n_functions} functions"
        )
    problem = _problem(evaluate, working, background)
    is_dense = settings.solver == "gauss-newton" or (
        settings.solver == "auto" and len(start) <= MOST_DENSE
    )
    run = _gauss_newton if is_dense else _l_bfgs
    x, is_done, message = run(evaluate, problem, working, start, settings)
    model_values = evaluate(x)[working]
    residuals = problem.residuals(model_values)
    scale = problem.scale(problem.model_part(model_values))
    lower, upper = vector.bounds
    names = vector.names_of_numbers
    at_bound = sorted(
        {n for n, v, low, high in zip(names, x, lower, upper, strict=True)
         if min(v - low, high - v) < 1e-3}
    )  # fmt: skip
    if at_bound:
        message += f" At a bound: {', '.join(at_bound)}."
    return Solution(x, background, residuals, scale, is_done and not at_bound, message)


def _problem(evaluate: Evaluator, working: BoolArray, background: Background) -> ProjectedProblem:
    intensity, sigma = evaluate.data.take(working)
    basis = background.basis(evaluate.data.q_length[working])
    problem = ProjectedProblem.build(intensity, sigma, basis)
    level = np.linalg.norm(problem.root_weights * intensity)
    if np.linalg.norm(problem.data) <= LEAST_VARIATION * level:
        raise InputError("fit: expected a map that varies beyond an isotropic background")
    return problem


def _gauss_newton(
    evaluate: Evaluator,
    problem: ProjectedProblem,
    working: BoolArray,
    start: FloatArray,
    settings: FitOptions,
) -> tuple[FloatArray, bool, str]:
    """Trust region, with all derivatives."""

    def residuals(x: FloatArray) -> FloatArray:
        return problem.residuals(evaluate(x)[working])

    def jacobian(x: FloatArray) -> FloatArray:
        return problem.jacobian(evaluate(x)[working], evaluate.derivatives(x)[working])

    found = scipy.optimize.least_squares(
        residuals, start, jacobian, bounds=evaluate.vector.bounds, x_scale="jac",
        xtol=STEP_TOLERANCE, ftol=1e-9, gtol=None,
        max_nfev=max(2, settings.max_evaluations // (1 + len(start))),
    )  # fmt: skip
    norms = np.linalg.norm(np.asarray(found.jac), axis=0) * np.linalg.norm(found.fun)
    cosine = np.max(np.abs(found.grad) / np.where(norms > 0, norms, 1.0), initial=0.0)
    logger.info("fit: %s gradient cosine %.1e", found.message, cosine)
    return found.x, bool(found.success), str(found.message)


def _l_bfgs(
    evaluate: Evaluator,
    problem: ProjectedProblem,
    working: BoolArray,
    start: FloatArray,
    settings: FitOptions,
) -> tuple[FloatArray, bool, str]:
    """Limited-memory quasi-Newton, with one gradient a step."""
    size = float(problem.data @ problem.data)
    best: list[tuple[float, FloatArray]] = []

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
        if not best or value < best[0][0]:
            best[:] = [(value, x.copy())]
        return value, evaluate.gradient(x, slopes)

    lower, upper = evaluate.vector.bounds
    found = scipy.optimize.minimize(
        value_and_gradient, start, jac=True, method="L-BFGS-B",
        bounds=scipy.optimize.Bounds(lower, upper),
        options={
            "maxfun": max(2, settings.max_evaluations // 2), "maxiter": 10_000, "maxcor": 30,
            "ftol": 1e-8, "gtol": 1e-7,
        },
    )  # fmt: skip
    logger.info("fit: %s largest slope %.1e", found.message, np.max(np.abs(found.jac)))
    return best[0][1], bool(found.success), str(found.message)


def _assemble(
    observed: DiffuseMap,
    evaluate: Evaluator,
    solution: Solution,
    working: BoolArray,
    settings: FitOptions,
) -> FitResult:
    vector, data, x = evaluate.vector, evaluate.data, solution.x
    computed = evaluate.full(x)
    calculated = evaluate.at_voxels(computed.intensity)
    intensity, sigma = data.take(working)
    basis = solution.background.basis(data.q_length)
    columns = np.column_stack([calculated, basis])
    coefficients = background_coefficients(intensity, sigma, columns[working])
    inflation = _inflation(solution, sigma, columns.shape[1])
    values = vector.values(x)
    uncertainty, scale_error = _errors(evaluate, solution, working, calculated, inflation)
    parameters = {}
    for name, value in values.items():
        error = (
            np.full(value.shape, np.nan)
            if uncertainty is None
            else uncertainty.errors[name].reshape(value.shape)
        )
        parameters[name] = FittedParameter(
            _number_or_array(value), _number_or_array(error), vector.limits(name).unit
        )
    model_map = _model_map(
        observed, computed, evaluate, solution.background, coefficients, settings
    )
    message = solution.message
    if uncertainty is None:
        message += f" No errors: more than {MOST_WITH_ERRORS} numbers."
    if coefficients[0] <= 0:
        message += " The scale is not positive: the model does not resemble the map."
    q_table = np.linspace(float(data.q_length.min()), float(data.q_length.max()), 200)
    background = solution.background.basis(q_table) @ coefficients[1:]
    n = sum(value.size for value in values.values())
    return FitResult(
        parameters=parameters,
        correlations=np.full((n, n), np.nan) if uncertainty is None else uncertainty.correlations,
        scale=FittedParameter(float(coefficients[0]), scale_error, "map units / e²"),
        model=vector.model_at(x),
        model_map=model_map,
        statistics=_statistics(observed, model_map, data, working, columns @ coefficients),
        background={"q": q_table, "intensity": background},
        n_numbers=len(x),
        n_determined=np.nan if uncertainty is None else uncertainty.n_determined,
        spectrum=np.empty(0) if uncertainty is None else uncertainty.spectrum,
        converged=bool(solution.converged and coefficients[0] > 0),
        message=message,
        n_evaluations=evaluate.n_evaluations,
    )


def _number_or_array(value: FloatArray) -> float | FloatArray:
    return float(value) if value.ndim == 0 else value


def _inflation(solution: Solution, sigma: FloatArray | None, n_linear: int) -> float:
    """Variance of a weighted residual; never below 1 where the map has σ."""
    n = len(solution.residuals) - len(solution.x) - n_linear
    reduced = float(solution.residuals @ solution.residuals) / max(n, 1)
    return reduced if sigma is None else max(reduced, 1.0)


def _errors(
    evaluate: Evaluator,
    solution: Solution,
    working: BoolArray,
    calculated: FloatArray,
    inflation: float,
) -> tuple[Uncertainty | None, float]:
    """Errors of the parameters, and of the scale: its own, and what theirs carry over to it."""
    problem = _problem(evaluate, working, solution.background)
    part = problem.model_part(calculated[working])
    own = 1.0 / max(float(part @ part), 1e-300)
    if len(solution.x) > MOST_WITH_ERRORS:
        return None, float(np.sqrt(inflation * own))
    derivatives = evaluate.derivatives(solution.x)[working]
    model = calculated[working]
    uncertainty = estimate_uncertainty(
        problem.jacobian(model, derivatives), inflation, evaluate.vector.jacobian(solution.x)
    )
    slopes = problem.scale_slopes(model, derivatives)
    carried = float(slopes @ uncertainty.covariance @ slopes)
    return uncertainty, float(np.sqrt(inflation * own + carried))


def _model_map(
    observed: DiffuseMap,
    computed: DiffuseMap,
    evaluate: Evaluator,
    functions: Background,
    coefficients: FloatArray,
    settings: FitOptions,
) -> DiffuseMap:
    """Scale · model + shell means of the background, at the map's hkl within the limits."""
    grid = evaluate.data.grid
    wanted = grid.within(d_max=settings.d_max) & np.isfinite(computed.intensity)
    inv_d = grid.inv_d()[wanted]
    background = functions.basis(TWO_PI * inv_d) @ coefficients[1:]
    # Constant within the shells that define the anisotropic part: it drops out of that exactly.
    shell = isotropic_shells(inv_d)
    background = shell_mean(background, shell, int(shell.max()) + 1)[shell]
    intensity = np.full(grid.shape, np.nan)
    intensity[wanted] = coefficients[0] * computed.intensity[wanted] + background
    step = make_step("fit", settings, model=computed.provenance[-1]["model"])
    return DiffuseMap(
        grid, intensity, observed.space_group, provenance=(*observed.provenance, step)
    )


def _statistics(
    observed: DiffuseMap,
    model_map: DiffuseMap,
    data: FitData,
    working: BoolArray,
    calculated: FloatArray,
) -> dict[str, Any]:
    """Agreement of map and model, apart for working and held-out voxels."""
    laue = laue_rotations(observed.laue_group or observed.space_group)
    orbits = symmetry_orbits(observed.grid, laue).reshape(-1)
    result: dict[str, Any] = {}
    for name, chosen in (("working", working), ("held_out", ~working)):
        if not chosen.any():
            result[name] = None
            continue
        is_chosen = np.zeros(observed.grid.size, dtype=bool)
        is_chosen[orbits[data.voxels.index[chosen]]] = True
        mask = is_chosen[orbits].reshape(observed.grid.shape)
        part = replace(observed, intensity=np.where(mask, observed.intensity, np.nan))
        whole = compare(part, model_map, anisotropic=False).overall
        varying = compare(part, model_map).overall
        intensity, sigma = data.take(chosen)
        chi2 = None
        if sigma is not None:
            chi2 = float(np.mean(((intensity - calculated[chosen]) / sigma) ** 2))
        result[name] = {
            "n_unique": int(chosen.sum()),
            "n": whole.n,
            "cc": whole.cc,
            "r": whole.r,
            "cc_anisotropic": varying.cc,
            "r_anisotropic": varying.r,
            "chi2_reduced": chi2,
        }
    return result
