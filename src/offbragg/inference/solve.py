"""`fit`: the parameters of a disorder model from a map, by weighted least squares."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.optimize

from offbragg.conventions import TWO_PI, BoolArray, FloatArray
from offbragg.crystal.cell import Cell, check_cells_agree
from offbragg.crystal.grid import HklGrid
from offbragg.crystal.structure import AtomicStructure
from offbragg.crystal.symmetry import laue_rotations
from offbragg.differentiable import MapOperator
from offbragg.disorder.base import DisorderModel
from offbragg.errors import InputError
from offbragg.inference.background import Background
from offbragg.inference.held_out import choose_held_out
from offbragg.inference.objective import ProjectedProblem, background_coefficients
from offbragg.inference.parameters import ParameterVector
from offbragg.inference.result import FitResult, FittedParameter
from offbragg.inference.weights import with_expected_sigma
from offbragg.maps.comparison import compare
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.equivalents import symmetry_orbits
from offbragg.maps.provenance import make_step
from offbragg.maps.shells import isotropic_shells, shell_mean
from offbragg.maps.symmetrize import UniqueVoxels, unique_voxels
from offbragg.runtime import SILENT, Progress
from offbragg.scattering.displacements import Displacements
from offbragg.scattering.engine import Engine
from offbragg.simulation import simulate

logger = logging.getLogger(__name__)

# Step of finite differences, where a model's map has no derivatives, in a parameter's logarithm or
# unit: the error of a simulation, about 1e-6 of its mean, is far below the difference.
DIFFERENCE_STEP = 5e-3
STEP_TOLERANCE = 1e-5
# A map that varies less than this beyond its background, as a fraction, is rounding.
LEAST_VARIATION = 1e-7


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

    def __post_init__(self) -> None:
        for name in ("d_min", "d_max", "max_evaluations", "block_edge"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} must be > 0, got {value}")


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
    """Refine parameters of a disorder model against a map.

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
        With the values to start from.
    refine : sequence of str, optional
        Names of the parameters to refine; all that the model can refine where not given.
    adps : {"model", "file"}
        As for `simulate`.
    d_min, d_max : float, optional
        Limits of resolution [Å].
    background : {"smooth", "shells", "none"}
        See `Background`.
    held_out : float
        Fraction of the voxels kept out of the fit, in contiguous blocks of hkl with all their
        symmetry equivalents.
    block_edge : int, optional
        Edge of these blocks, in reciprocal-lattice units.
    max_evaluations : int
        Simulations to make at most.
    voxel_average : bool, optional
        Compare with the model's means over voxels; where not given, if the map has counts of
        averaged pixels.
    rtol : float
        Largest error of a simulation, as a fraction of its mean intensity.
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
    Costs one simulation a step and one a refined parameter, 10 to 40 in all.
    """
    settings = _as_options(refine, options)
    if settings.voxel_average is None:
        settings = replace(settings, voxel_average=observed.count is not None)
    vector = ParameterVector.of(model, settings.refine)
    observed = with_expected_sigma(observed)
    cell = structure.require_cell()
    check_cells_agree(cell, observed.cell, "structure and map")
    data = _select(observed, cell, settings, rng or np.random.default_rng(0))
    evaluate = _Evaluator(structure, vector, data, settings, progress)
    progress.start("fit", settings.max_evaluations)
    solution = _solve(evaluate, vector, settings)
    return _assemble(observed, data, evaluate, solution, settings)


def _as_options(refine: Sequence[str] | None, options: dict[str, Any]) -> FitOptions:
    unknown = set(options) - set(FitOptions.__dataclass_fields__)
    if unknown:
        expected = ", ".join(FitOptions.__dataclass_fields__)
        raise InputError(f"fit has no option {sorted(unknown)[0]!r}, expected one of {expected}")
    names = (refine,) if isinstance(refine, str) else refine
    return FitOptions(refine=None if names is None else tuple(names), **options)


@dataclass(frozen=True)
class _Data:
    """The unique voxels of a fit and which are held out."""

    grid: HklGrid  # the map's, limited to the fit's resolution
    own_grid: HklGrid  # the same voxels, with the structure's cell and its limit
    voxels: UniqueVoxels
    q_length: FloatArray
    background: Background
    held_out: BoolArray

    def take(self, chosen: BoolArray) -> tuple[FloatArray, FloatArray | None]:
        sigma = self.voxels.sigma
        return self.voxels.intensity[chosen], None if sigma is None else sigma[chosen]


def _select(
    observed: DiffuseMap, cell: Cell, settings: FitOptions, rng: np.random.Generator
) -> _Data:
    voxels = unique_voxels(observed)
    frac = observed.cell.frac_matrix
    q_length = TWO_PI * np.linalg.norm(voxels.hkl @ frac, axis=1)
    inside = q_length > 1e-9  # the forward beam has no diffuse scattering
    if settings.d_min is not None:
        inside &= q_length <= TWO_PI / settings.d_min * (1 + 1e-9)
    if settings.d_max is not None:
        inside &= q_length >= TWO_PI / settings.d_max * (1 - 1e-9)
    if voxels.sigma is not None:
        inside &= np.isfinite(voxels.sigma) & (voxels.sigma > 0)
    if not inside.any():
        raise InputError(
            f"fit: expected measured voxels between {settings.d_max} and {settings.d_min} Å, "
            "found none"
        )
    chosen = UniqueVoxels(
        index=voxels.index[inside],
        hkl=voxels.hkl[inside],
        intensity=voxels.intensity[inside].astype(np.float64),
        sigma=None if voxels.sigma is None else voxels.sigma[inside].astype(np.float64),
        n_equivalents=voxels.n_equivalents[inside],
    )
    q_length = q_length[inside]
    rotations = laue_rotations(observed.laue_group or observed.space_group)
    held_out = choose_held_out(chosen.hkl, rotations, settings.held_out, rng, settings.block_edge)
    # Just beyond the outermost voxel: nothing further out need be simulated.
    d_min = TWO_PI / float(q_length.max()) * (1 - 1e-7)
    inv_d = np.linalg.norm(chosen.hkl @ cell.frac_matrix, axis=1)
    if held_out.all():
        raise InputError(
            f"fit: held_out = {settings.held_out:g} leaves none of {len(held_out)} unique voxels"
        )
    return _Data(
        grid=replace(observed.grid, d_min=d_min),
        own_grid=replace(observed.grid, cell=cell, d_min=(1 - 1e-7) / float(inv_d.max())),
        voxels=chosen,
        q_length=q_length,
        # Over working voxels, so that no function hangs on held-out ones alone.
        background=Background.over(q_length[~held_out], settings.background),
        held_out=held_out,
    )


@dataclass
class _Evaluator:
    """Model intensities at the unique voxels, with the last ones kept, and their derivatives."""

    structure: AtomicStructure
    vector: ParameterVector
    data: _Data
    settings: FitOptions
    progress: Progress
    n_evaluations: int = 0
    last: dict[bytes, FloatArray] = field(default_factory=dict)

    def full(self, vector: FloatArray) -> DiffuseMap:
        """Simulate the map for a solver's vector."""
        self.n_evaluations += 1
        self.progress.step()
        model = self.vector.model_at(vector)
        return simulate(
            self.structure,
            model,
            self.data.own_grid,
            adps=self.settings.adps,
            voxel_average=bool(self.settings.voxel_average),
            rtol=self.settings.rtol,
        )

    def at_voxels(self, computed: DiffuseMap) -> FloatArray:
        """Intensities (n_unique,) of a computed map at the unique voxels."""
        return computed.intensity.reshape(-1)[self.data.voxels.index].astype(np.float64)

    def __call__(self, vector: FloatArray) -> FloatArray:
        """Intensities (n_unique,) for a solver's vector."""
        key = vector.tobytes()
        if key not in self.last:
            self.last.clear()
            self.last[key] = self.at_voxels(self.full(vector))
        return self.last[key]

    def derivatives(self, vector: FloatArray) -> FloatArray:
        """Derivatives (n_unique, n_parameters) by the solver's vector."""
        model = self.vector.model_at(vector)
        if model.is_truncated:
            return self._differences(vector)
        unit = model.coherent_unit(self.structure)
        operator = MapOperator(
            unit,
            model.with_adps(unit, self.settings.adps),
            self.data.own_grid,
            Engine(rtol=self.settings.rtol),
            voxel_average=bool(self.settings.voxel_average),
        )
        columns = []
        for name, slope in zip(self.vector.names, self.vector.slopes(vector), strict=True):
            change = model.tangent(unit, {name: slope})
            if self.settings.adps == "file":
                # The remainder gives way to what the model takes: V_ii stays.
                own = change.u_aniso(unit.n_atoms)
                change = change + Displacements(independent=-own)
            self.n_evaluations += 1
            self.progress.step()
            columns.append(operator.product(change).reshape(-1)[self.data.voxels.index])
        return np.stack(columns, axis=1)

    def _differences(self, vector: FloatArray) -> FloatArray:
        """Forward differences (n_unique, n_parameters); towards the inside at an upper bound."""
        here = self(vector)
        columns = []
        upper = self.vector.bounds[1]
        for number in range(len(vector)):
            step = (
                DIFFERENCE_STEP
                if vector[number] + DIFFERENCE_STEP <= upper[number]
                else -DIFFERENCE_STEP
            )
            moved = vector.copy()
            moved[number] += step
            columns.append((self.at_voxels(self.full(moved)) - here) / step)
        return np.stack(columns, axis=1)


@dataclass(frozen=True)
class _Solution:
    """Where the solver stopped."""

    vector: FloatArray
    jacobian: FloatArray
    scale_slopes: FloatArray
    residuals: FloatArray
    converged: bool
    message: str


def _solve(evaluate: _Evaluator, vector: ParameterVector, settings: FitOptions) -> _Solution:
    """Trust-region least squares over the working voxels."""
    working = ~evaluate.data.held_out
    intensity, sigma = evaluate.data.take(working)
    basis = evaluate.data.background.basis(evaluate.data.q_length[working])
    problem = ProjectedProblem.build(intensity, sigma, basis)
    if len(intensity) <= basis.shape[1] + len(vector.names) + 1:
        raise InputError(
            f"fit: {len(intensity)} unique voxels cannot determine {len(vector.names)} "
            f"parameters, a scale and a background of {basis.shape[1]} functions"
        )
    level = np.linalg.norm(problem.root_weights * intensity)
    if np.linalg.norm(problem.data) <= LEAST_VARIATION * level:
        raise InputError("fit: expected a map that varies beyond an isotropic background")

    def residuals(x: FloatArray) -> FloatArray:
        return problem.residuals(evaluate(x)[working])

    def jacobian(x: FloatArray) -> FloatArray:
        return problem.jacobian(evaluate(x)[working], evaluate.derivatives(x)[working])

    found = scipy.optimize.least_squares(
        residuals, vector.start, jacobian, bounds=vector.bounds, x_scale="jac",
        xtol=STEP_TOLERANCE, ftol=1e-9, gtol=None,
        max_nfev=max(2, settings.max_evaluations // (1 + len(vector.names))),
    )  # fmt: skip
    derivatives = evaluate.derivatives(found.x)[working]
    model = evaluate(found.x)[working]
    final = problem.jacobian(model, derivatives)
    norms = np.linalg.norm(final, axis=0) * np.linalg.norm(found.fun)
    steepness = np.max(np.abs(final.T @ found.fun) / np.where(norms > 0, norms, 1.0))
    lower, upper = vector.bounds
    at_bound = [
        name
        for name, x, low, high in zip(vector.names, found.x, lower, upper, strict=True)
        if min(x - low, high - x) < 1e-3
    ]
    message = str(found.message)
    if at_bound:
        message += f" At a bound: {', '.join(at_bound)}."
    converged = bool(found.success) and not at_bound
    logger.info("fit: %s gradient cosine %.1e", message, steepness)
    slopes = problem.scale_slopes(model, derivatives)
    return _Solution(found.x, final, slopes, found.fun, converged, message)


def _assemble(
    observed: DiffuseMap,
    data: _Data,
    evaluate: _Evaluator,
    solution: _Solution,
    settings: FitOptions,
) -> FitResult:
    vector = evaluate.vector
    computed = evaluate.full(solution.vector)
    calculated = evaluate.at_voxels(computed)
    working = ~data.held_out
    intensity, sigma = data.take(working)
    basis = data.background.basis(data.q_length)
    columns = np.column_stack([calculated, basis])
    coefficients = background_coefficients(intensity, sigma, columns[working])
    inflation = _inflation(solution, sigma, columns.shape[1])
    errors, correlations = _standard_errors(solution, vector, inflation)
    part = ProjectedProblem.build(intensity, sigma, basis[working]).model_part(calculated[working])
    scale_error = _scale_error(solution, part, inflation)
    values = vector.values(solution.vector)
    parameters = {
        name: FittedParameter(values[name], float(error), vector.limits(name).unit)
        for name, error in zip(vector.names, errors, strict=True)
    }
    model_map = _model_map(observed, computed, data, coefficients, settings)
    message = solution.message
    if coefficients[0] <= 0:
        message += " The scale is not positive: the model does not resemble the map."
    q_table = np.linspace(float(data.q_length.min()), float(data.q_length.max()), 200)
    background = data.background.basis(q_table) @ coefficients[1:]
    return FitResult(
        parameters=parameters,
        correlations=correlations,
        scale=FittedParameter(float(coefficients[0]), scale_error, "map units / e²"),
        model=vector.model_at(solution.vector),
        model_map=model_map,
        statistics=_statistics(observed, model_map, data, columns @ coefficients),
        background={"q": q_table, "intensity": background},
        converged=bool(solution.converged and coefficients[0] > 0),
        message=message,
        n_evaluations=evaluate.n_evaluations,
    )


def _inflation(solution: _Solution, sigma: FloatArray | None, n_linear: int) -> float:
    """Variance of a weighted residual; never below 1 where the map has σ."""
    n = len(solution.residuals) - len(solution.vector) - n_linear
    reduced = float(solution.residuals @ solution.residuals) / max(n, 1)
    return reduced if sigma is None else max(reduced, 1.0)


def _standard_errors(
    solution: _Solution, vector: ParameterVector, inflation: float
) -> tuple[FloatArray, FloatArray]:
    """Standard errors and correlations from the Gauss–Newton matrix."""
    inverse = np.linalg.pinv(solution.jacobian.T @ solution.jacobian)
    slopes = vector.slopes(solution.vector)
    covariance = inflation * inverse * np.outer(slopes, slopes)
    errors = np.sqrt(np.diag(covariance))
    safe = np.where(errors > 0, errors, 1.0)
    return errors, covariance / np.outer(safe, safe)


def _scale_error(solution: _Solution, part: FloatArray, inflation: float) -> float:
    """Standard error of the scale: its own, and what the parameters' errors carry over to it."""
    inverse = np.linalg.pinv(solution.jacobian.T @ solution.jacobian)
    carried = float(solution.scale_slopes @ inverse @ solution.scale_slopes)
    return float(np.sqrt(inflation * (1.0 / max(float(part @ part), 1e-300) + carried)))


def _model_map(
    observed: DiffuseMap,
    computed: DiffuseMap,
    data: _Data,
    coefficients: FloatArray,
    settings: FitOptions,
) -> DiffuseMap:
    """Scale · model + shell means of the background, at the map's hkl within the limits."""
    wanted = data.grid.within(d_max=settings.d_max) & np.isfinite(computed.intensity)
    inv_d = data.grid.inv_d()[wanted]
    background = data.background.basis(TWO_PI * inv_d) @ coefficients[1:]
    # Constant within the shells that define the anisotropic part: it drops out of that exactly.
    shell = isotropic_shells(inv_d)
    background = shell_mean(background, shell, int(shell.max()) + 1)[shell]
    intensity = np.full(data.grid.shape, np.nan)
    intensity[wanted] = coefficients[0] * computed.intensity[wanted] + background
    step = make_step("fit", settings, model=computed.provenance[-1]["model"])
    return DiffuseMap(
        data.grid, intensity, observed.space_group, provenance=(*observed.provenance, step)
    )


def _statistics(
    observed: DiffuseMap, model_map: DiffuseMap, data: _Data, calculated: FloatArray
) -> dict[str, Any]:
    """Agreement of map and model, apart for working and held-out voxels."""
    laue = laue_rotations(observed.laue_group or observed.space_group)
    orbits = symmetry_orbits(observed.grid, laue).reshape(-1)
    result: dict[str, Any] = {}
    for name, chosen in (("working", ~data.held_out), ("held_out", data.held_out)):
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
