"""The problem as solvers see it, and that all of them end in the same place."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.inference.conftest import SCALE, TRUTH

from offbragg import InputError, LiquidLike, RigidBody, fit
from offbragg.inference.data import FitData
from offbragg.inference.evaluator import Evaluator
from offbragg.inference.options import FitOptions
from offbragg.inference.parameters import ParameterVector
from offbragg.inference.restraints import restraints_of
from offbragg.inference.solve import problem_of
from offbragg.inference.vector_problem import VectorProblem
from offbragg.inference.watch import Watch

# Products and gradients of maps agree to this fraction of their size, at the default tolerance.
MAP_ERROR = 2e-3
START = LiquidLike(0.5, 8.0)
BODY = RigidBody(0.05 * np.eye(3), 1e-3 * np.eye(3))


def problem(observed, structure, model, restrained):
    """The fit's problem over all voxels."""
    settings = FitOptions(adp_error=0.05 if restrained else None)
    vector = ParameterVector.of(model, None, structure)
    data = FitData.of(observed, structure.require_cell(), None, None)
    restraints = restraints_of(structure, **settings.expected_departures())
    evaluate = Evaluator(structure, vector, data, rtol=1e-6, restraints=restraints)
    every = np.ones(len(data.voxels.index), dtype=bool)
    background = data.smooth("smooth", 0)
    projected = problem_of(evaluate, every, background, np.ones(len(every)))
    return VectorProblem(evaluate, projected, every, Watch(), has_sigma=True), vector.start


@pytest.mark.parametrize("restrained", [False, True])
@pytest.mark.parametrize("model", [START, BODY], ids=["liquid-like", "rigid body"])
def test_products_without_a_matrix_are_those_of_the_matrix(observe, structure, model, restrained):
    found, x = problem(observe(0), structure, model, restrained)
    rng = np.random.default_rng(0)
    matrix, operator = found.jacobian(x), found.operator(x)
    direction, values = rng.normal(size=len(x)), found.residuals(x)
    assert_allclose(
        operator.matvec(direction), matrix @ direction,
        atol=MAP_ERROR * np.abs(matrix @ direction).max(),
    )  # fmt: skip
    by_vector = matrix.T @ values
    assert_allclose(operator.rmatvec(values), by_vector, atol=MAP_ERROR * np.abs(by_vector).max())


def test_solvers_agree(observe, structure):
    found = {
        solver: fit(observe(1), structure, START, solver=solver, held_out=0.0)
        for solver in ("gauss-newton", "truncated-newton", "l-bfgs")
    }
    best = found["gauss-newton"].parameters
    for solver, one in found.items():
        assert one.converged, (solver, one.message)
        for name, p in one.parameters.items():
            assert p.value == pytest.approx(best[name].value, abs=0.3 * best[name].standard_error)


def test_progress_tells_the_correlation(observe, structure):
    class Listening:
        def __init__(self):
            self.said = []

        def start(self, what, total):
            pass

        def step(self, n=1):
            pass

        def say(self, what):
            self.said.append(what)

    listening = Listening()
    fit(observe(0), structure, START, progress=listening)
    values = [float(x.removeprefix("fit, CC ")) for x in listening.said]
    assert values == sorted(values)
    assert values[-1] > 0.9


# Counts.


def counted(truth, seed, photons):
    """Photons in voxels: Poisson about scale times truth, few of them; every pixel counts one."""
    rng = np.random.default_rng(seed)
    level = SCALE * np.nan_to_num(truth.intensity)
    per_photon = level.mean() / photons
    counts = rng.poisson(level / per_photon)
    values = np.where(np.isfinite(truth.intensity), counts * per_photon, np.nan)
    # The σ of a measurement that does not know the truth: of its own counts, one where none.
    sigma = per_photon * np.sqrt(np.maximum(counts, 1.0))
    count = np.ones(truth.grid.shape, dtype=np.int64)
    return replace(truth, intensity=values, sigma=sigma, count=count)


def test_few_counts_by_their_likelihood_are_not_biased(truth, structure):
    """Two photons a voxel: least squares weighted alike in a shell is less sure than likelihood."""
    options = {
        "background": "none", "held_out": 0.0, "voxel_average": False,
    }  # fmt: skip
    scores = {"squares": [], "poisson": []}
    for seed in range(8):
        observed = counted(truth, seed, 2.0)
        for loss in scores:
            found = fit(observed, structure, TRUTH, loss=loss, **options)
            p = found.parameters["correlation_length"]
            scores[loss].append(p.value - TRUTH.correlation_length)
    spread = {loss: float(np.sqrt(np.mean(np.square(x)))) for loss, x in scores.items()}
    error = spread["poisson"] / np.sqrt(8)
    assert abs(np.mean(scores["poisson"])) < 4.0 * error
    assert spread["poisson"] < 1.05 * spread["squares"]


def test_counts_need_counts(observe, structure):
    with pytest.raises(InputError, match="needs a map with σ and counts"):
        fit(observe(0), structure, START, loss="poisson")
