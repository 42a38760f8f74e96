"""ProjectedProblem: the same residuals, scale and slopes as least squares done at once."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from offbragg.inference.objective import ProjectedProblem, background_coefficients

RTOL_LSTSQ = 1e-9  # the same linear problem, solved another way in float64
RTOL_DIFFERENCES = 1e-6  # central differences with a step of 1e-5


class Case:
    """Forty data, a background of three functions, and a model curved in two parameters."""

    def __init__(self, seed=0, noise=0.3):
        rng = np.random.default_rng(seed)
        self.x = np.linspace(0.2, 2.0, 40)
        self.basis = np.stack([np.ones(40), self.x, np.sin(5 * self.x)], axis=1)
        self.sigma = rng.uniform(0.5, 2.0, 40)
        self.theta = np.array([1.3, 0.7])
        clean = 2.5 * self.model(self.theta) + self.basis @ [4.0, -1.0, 0.5]
        self.intensity = clean + noise * self.sigma * rng.normal(size=40)

    def model(self, theta):
        return np.exp(-theta[0] * self.x) * (1 + np.cos(7 * theta[1] * self.x))

    def derivatives(self, theta):
        columns = []
        for n in range(2):
            step = 1e-6 * np.eye(2)[n]
            columns.append((self.model(theta + step) - self.model(theta - step)) / 2e-6)
        return np.stack(columns, axis=1)

    def problem(self, sigma=True):
        return ProjectedProblem.build(self.intensity, self.sigma if sigma else None, self.basis)


def slopes_of(function, at, step=1e-5):
    """Central differences, (…, n)."""
    columns = [(function(at + step * e) - function(at - step * e)) / (2 * step) for e in np.eye(2)]
    return np.stack(columns, axis=-1)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("has_sigma", [True, False])
@pytest.mark.parametrize("with_basis", [True, False])
def test_residuals_and_scale_match_least_squares_at_once(has_sigma, with_basis):
    case = Case()
    basis = case.basis if with_basis else np.zeros((40, 0))
    sigma = case.sigma if has_sigma else None
    problem = ProjectedProblem.build(case.intensity, sigma, basis)
    model = case.model(np.array([1.0, 0.5]))
    weights = 1 / case.sigma if has_sigma else np.ones(40)
    columns = np.column_stack([model, basis]) * weights[:, None]
    solution, *_ = np.linalg.lstsq(columns, weights * case.intensity)
    expected = weights * case.intensity - columns @ solution
    assert_allclose(problem.residuals(model), expected, rtol=RTOL_LSTSQ, atol=1e-11)
    assert problem.scale(problem.model_part(model)) == pytest.approx(solution[0], rel=RTOL_LSTSQ)


def test_coefficients_match_the_normal_equations():
    case = Case()
    w = case.sigma**-2
    normal = case.basis.T @ (w[:, None] * case.basis)
    expected = np.linalg.solve(normal, case.basis.T @ (w * case.intensity))
    found = background_coefficients(case.intensity, case.sigma, case.basis)
    assert_allclose(found, expected, rtol=RTOL_LSTSQ)


def test_the_gradient_matches_central_differences_of_the_objective():
    # The term that the jacobian leaves out is orthogonal to the residuals: gradients are exact.
    case = Case()
    problem, theta = case.problem(), np.array([1.1, 0.6])

    def objective(t):
        residuals = problem.residuals(case.model(t))
        return residuals @ residuals

    jacobian = problem.jacobian(case.model(theta), case.derivatives(theta))
    gradient = 2 * jacobian.T @ problem.residuals(case.model(theta))
    assert_allclose(gradient, slopes_of(objective, theta), rtol=RTOL_DIFFERENCES)


def test_without_residuals_jacobian_and_scale_slopes_match_central_differences():
    case = Case(noise=0.0)
    problem, theta = case.problem(), case.theta
    model, derivatives = case.model(theta), case.derivatives(theta)
    found = problem.jacobian(model, derivatives)
    expected = slopes_of(lambda t: problem.residuals(case.model(t)), theta)
    assert_allclose(found, expected, rtol=1e-5, atol=1e-7)

    def scale(t):
        return problem.scale(problem.model_part(case.model(t)))

    found = problem.scale_slopes(model, derivatives)
    assert_allclose(found, slopes_of(scale, theta), rtol=RTOL_DIFFERENCES)


def test_scale_slopes_complete_the_covariance_of_the_whole_problem():
    # Var(scale) = its own + slopes C slopesᵀ is the entry of the inverse of the full matrix.
    case = Case(noise=0.0)
    problem, theta = case.problem(), case.theta
    model, derivatives = case.model(theta), case.derivatives(theta)
    columns = np.column_stack([model, 2.5 * derivatives, case.basis]) / case.sigma[:, None]
    expected = np.linalg.inv(columns.T @ columns)
    jacobian = problem.jacobian(model, derivatives)
    inverse = np.linalg.inv(jacobian.T @ jacobian)
    part = problem.model_part(model)
    slopes = problem.scale_slopes(model, derivatives)
    assert_allclose(inverse, expected[1:3, 1:3], rtol=1e-6)
    assert 1 / (part @ part) + slopes @ inverse @ slopes == pytest.approx(expected[0, 0], rel=1e-6)


# --- 3 exact limits ------------------------------------------------------


def test_the_true_model_leaves_nothing():
    case = Case(noise=0.0)
    problem = case.problem()
    assert np.abs(problem.residuals(case.model(case.theta))).max() < 1e-12
    assert problem.scale(problem.model_part(case.model(case.theta))) == pytest.approx(2.5)


def test_a_model_that_is_all_background_has_no_scale():
    case = Case()
    problem = case.problem()
    for model in (np.zeros(40), np.zeros(40) * case.basis[:, 1]):
        assert problem.scale(problem.model_part(model)) == 0
        assert_allclose(problem.residuals(model), problem.data)
        derivatives = np.ones((40, 2))
        assert not problem.jacobian(model, derivatives).any()
        assert not problem.scale_slopes(model, derivatives).any()


@pytest.mark.parametrize("columns", [[0, 0, 1], [0, 1, 0, 2, 1], [1, 0, 0, 2]])
def test_a_background_with_dependent_functions_is_taken_out_whole(columns):
    case = Case()
    basis = case.basis[:, columns] * np.arange(1.0, len(columns) + 1)
    problem = ProjectedProblem.build(case.intensity, case.sigma, basis)
    for function in basis.T:
        assert np.abs(problem.model_part(function)).max() < 1e-12
    assert problem.orthonormal.shape[1] == len(set(columns))


def test_functions_without_data_are_no_harm():
    case = Case()
    basis = np.column_stack([case.basis[:, 0], np.zeros(40), case.basis[:, 1:]])
    found = ProjectedProblem.build(case.intensity, case.sigma, basis)
    assert_allclose(found.data, case.problem().data, atol=1e-12)


def test_a_basis_without_functions_has_no_coefficients():
    assert background_coefficients(np.ones(4), None, np.zeros((4, 0))).shape == (0,)


# --- 4 invariances -------------------------------------------------------


def test_background_in_data_or_model_changes_nothing():
    case = Case()
    problem, model = case.problem(), case.model(np.array([0.9, 0.8]))
    expected = problem.residuals(model)
    on_top = case.basis @ [7.0, 100.0, -3.0]
    assert_allclose(problem.residuals(model + on_top), expected, atol=1e-10)
    other = ProjectedProblem.build(case.intensity + on_top, case.sigma, case.basis)
    assert_allclose(other.residuals(model), expected, atol=1e-10)


def test_the_scale_of_a_model_changes_nothing():
    case = Case()
    problem, model = case.problem(), case.model(case.theta)
    assert_allclose(problem.residuals(1e3 * model), problem.residuals(model), atol=1e-10)
    assert_allclose(problem.residuals(-model), problem.residuals(model), atol=1e-10)


def test_inputs_are_not_changed():
    case = Case()
    before = case.intensity.copy(), case.sigma.copy(), case.basis.copy()
    case.problem()
    background_coefficients(case.intensity, case.sigma, case.basis)
    for values, copy in zip((case.intensity, case.sigma, case.basis), before, strict=True):
        assert_array_equal(values, copy)
