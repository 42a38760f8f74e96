"""What a fit gives back: parameters with errors, the model's map, agreement with the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from offbragg.conventions import TWO_PI, BoolArray, FloatArray
from offbragg.crystal.symmetry import laue_rotations
from offbragg.disorder.base import DisorderModel
from offbragg.disorder.residues import ResidueCorrelations, residue_correlations
from offbragg.inference.agreement import agreement_of
from offbragg.inference.evaluator import Evaluator
from offbragg.inference.held_out import blocks_of
from offbragg.inference.objective import ProjectedProblem
from offbragg.inference.optimum import Optimum
from offbragg.inference.options import FitOptions
from offbragg.inference.result import FitResult, FittedParameter
from offbragg.inference.smooth import SmoothFunctions
from offbragg.inference.solve import Solution, coefficients_of, problem_of
from offbragg.inference.uncertainty import Uncertainty, estimate_uncertainty
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.provenance import make_step
from offbragg.maps.shells import isotropic_shells, shell_mean


def assemble(
    observed: DiffuseMap,
    evaluate: Evaluator,
    solution: Solution,
    working: BoolArray,
    settings: FitOptions,
) -> FitResult:
    """Put together the result of a fit from where the solver stopped."""
    vector, data, x = evaluate.vector, evaluate.data, solution.x
    computed = evaluate.full(x)
    calculated = evaluate.at_voxels(computed.intensity)
    _, measured_sigma = data.take(working)
    columns, coefficients = coefficients_of(evaluate, working, solution)
    inflation = _inflation(solution, measured_sigma, columns.shape[1])
    values = vector.values(x)
    problem = problem_of(evaluate, working, solution.background, solution.trust)
    wants_errors = settings.wants_errors(len(x))
    derivatives = evaluate.derivatives(x)[working] if wants_errors else None
    expected = None
    if derivatives is not None:
        # A restraint is one more measurement; without σ, in units of the residuals.
        unit = 1.0 if measured_sigma is not None else np.sqrt(inflation)
        expected = unit * evaluate.expected_derivatives(x)
    uncertainty, scale_error = _errors(
        evaluate, problem, x, calculated[working], derivatives, expected, inflation
    )
    laue = laue_rotations(observed.laue_group or observed.space_group)
    block_of, _ = blocks_of(data.voxels.hkl, laue, settings.block_edge)
    optimum = Optimum.of(
        evaluate, solution, working, settings, block_of, problem, columns[working], derivatives,
        uncertainty,
    )  # fmt: skip
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
    rest = observed.intensity.astype(np.float64) - model_map.intensity
    message = solution.message
    if uncertainty is None:
        message += f" No errors, of {len(x)} numbers: errors='gauss-newton' works them out."
    if coefficients[0] <= 0:
        message += " The scale is not positive: the model does not resemble the map."
    q_table = np.linspace(float(data.q_length.min()), float(data.q_length.max()), 200)
    isotropic = solution.background.background.basis(q_table)
    background = isotropic @ coefficients[1 : 1 + isotropic.shape[1]]
    n = sum(value.size for value in values.values())
    return FitResult(
        parameters=parameters,
        correlations=np.full((n, n), np.nan) if uncertainty is None else uncertainty.correlations,
        scale=FittedParameter(float(coefficients[0]), scale_error, "map units / e²"),
        model=vector.model_at(x),
        model_map=model_map,
        residual_map=replace(model_map, intensity=rest, sigma=observed.sigma),
        statistics=agreement_of(observed, model_map, data, working, columns @ coefficients),
        residues=_residues(evaluate, vector.model_at(x)),
        background={"q": q_table, "intensity": background},
        n_numbers=len(x),
        n_determined=np.nan if uncertainty is None else uncertainty.n_determined,
        spectrum=np.empty(0) if uncertainty is None else uncertainty.spectrum,
        converged=bool(solution.converged and coefficients[0] > 0),
        message=message,
        n_evaluations=evaluate.n_evaluations,
        optimum=optimum,
    )


def _residues(evaluate: Evaluator, model: DisorderModel) -> ResidueCorrelations | None:
    """How residues move together, where one unit's covariance tells."""
    if model.is_truncated:
        return None
    unit = model.coherent_unit(evaluate.structure)
    moves = model.with_adps(unit, evaluate.adps)
    return None if moves.pairs is not None else residue_correlations(moves, unit)


def _number_or_array(value: FloatArray) -> float | FloatArray:
    return float(value) if value.ndim == 0 else value


def _inflation(solution: Solution, sigma: FloatArray | None, n_linear: int) -> float:
    """Variance of a weighted residual; never below 1 where the map has σ."""
    n = len(solution.residuals) - len(solution.x) - n_linear
    reduced = float(solution.residuals @ solution.residuals) / max(n, 1)
    return reduced if sigma is None else max(reduced, 1.0)


def _errors(
    evaluate: Evaluator,
    problem: ProjectedProblem,
    x: FloatArray,
    model: FloatArray,
    derivatives: FloatArray | None,
    expected: FloatArray | None,
    inflation: float,
) -> tuple[Uncertainty | None, float]:
    """Errors of the parameters, and of the scale: its own, and what theirs carry over to it."""
    part = problem.model_part(model)
    own = 1.0 / max(float(part @ part), 1e-300)
    if derivatives is None or expected is None:
        return None, float(np.sqrt(inflation * own))
    jacobian = np.concatenate([problem.jacobian(model, derivatives), expected])
    vector = evaluate.vector
    uncertainty = estimate_uncertainty(jacobian, inflation, vector.jacobian(x), vector.sizes)
    slopes = problem.scale_slopes(model, derivatives)
    carried = float(slopes @ uncertainty.covariance @ slopes)
    return uncertainty, float(np.sqrt(inflation * own + carried))


def _model_map(
    observed: DiffuseMap,
    computed: DiffuseMap,
    evaluate: Evaluator,
    functions: SmoothFunctions,
    coefficients: FloatArray,
    settings: FitOptions,
) -> DiffuseMap:
    """Scale · model + smooth functions, at the map's hkl within the limits.

    Of isotropic ones their means in shells.
    """
    grid = evaluate.data.grid
    wanted = grid.within(d_max=settings.d_max) & np.isfinite(computed.intensity)
    inv_d = grid.inv_d()[wanted]
    q = TWO_PI * grid.hkl()[wanted] @ grid.cell.frac_matrix
    isotropic = functions.isotropic(q)
    n_isotropic = isotropic.shape[1]
    background = isotropic @ coefficients[1 : 1 + n_isotropic]
    # Constant within the shells that define the anisotropic part: it drops out of that exactly.
    shell = isotropic_shells(inv_d)
    background = shell_mean(background, shell, int(shell.max()) + 1)[shell]
    background = background + functions.directional(q) @ coefficients[1 + n_isotropic :]
    intensity = np.full(grid.shape, np.nan)
    intensity[wanted] = coefficients[0] * computed.intensity[wanted] + background
    step = make_step("fit", settings, model=computed.provenance[-1]["model"])
    return DiffuseMap(
        grid, intensity, observed.space_group, provenance=(*observed.provenance, step)
    )
