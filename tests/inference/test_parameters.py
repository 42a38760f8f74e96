"""ParameterVector: charts there and back, their derivatives, what stays, what is refused."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.strategies import CRYSTALS, random_covariance, random_structure

from offbragg import (
    BasisCovariance,
    Covariance,
    ElasticNetwork,
    InputError,
    LiquidLike,
    RigidBodies,
    RigidBody,
    Uncorrelated,
)
from offbragg.inference.parameters import ParameterVector

# Roots are exact but for what is added to their diagonal at the start.
RTOL_START = 1e-3
RTOL_DIFFERENCES = 1e-7  # central differences, step 1e-5, of smooth charts
RTOL_ADJOINT = 1e-12
STEP = 1e-5

CELL, GROUPS = CRYSTALS["triclinic"]
STRUCTURE = random_structure(np.random.default_rng(1), 8, CELL, GROUPS[0])
BODIES = [np.arange(4), np.arange(4, 8)]


def tls(seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(6, 6)) * np.array([0.3, 0.3, 0.3, 0.02, 0.02, 0.02])[:, None]
    motion = root @ root.T
    return motion[:3, :3], motion[3:, 3:], motion[3:, :3]


def two_bodies():
    root = np.random.default_rng(2).normal(size=(12, 12)) * 0.1
    return RigidBodies(BODIES, root @ root.T)


def basis():
    rng = np.random.default_rng(3)
    root = rng.normal(size=(4, 4))
    return BasisCovariance(rng.normal(size=(8, 3, 4)), root @ root.T)


MODELS = {
    "liquid-like": LiquidLike(0.4, 7.0),
    "tensor": LiquidLike(((0.4, 0.05, 0), (0.05, 0.3, 0), (0, 0, 0.2)), 7.0),
    "translation": RigidBody(np.diag([0.1, 0.2, 0.05])),
    "translation, libration": RigidBody(0.1, 0.01 * np.eye(3)),
    "TLS": RigidBody(*tls()),
    "two bodies": two_bodies(),
    "basis": basis(),
    "factor": Covariance.from_factor(np.random.default_rng(4).normal(size=(8, 3, 2))),
    "matrix": Covariance(random_covariance(np.random.default_rng(5), 8, 0.3, anisotropic=False)),
    "blocks": Covariance(random_covariance(np.random.default_rng(6), 8, 0.3)),
    "springs": ElasticNetwork(cutoff=None, distance_edges=(9.0, 30.0), spring_constants=(1.0, 0.4)),
    "sum": RigidBody(*tls(1)) + LiquidLike(0.3, 5.0),
}
by_name = pytest.mark.parametrize("name", MODELS)


def vector_of(name, refine=None):
    return ParameterVector.of(MODELS[name], refine, STRUCTURE)


# --- 1 reference numbers -------------------------------------------------


def test_positive_numbers_move_as_their_logarithm():
    vector = vector_of("liquid-like")
    assert vector.names == ("rms_displacement", "correlation_length")
    assert_allclose(vector.start, np.log([0.4, 7.0]))
    assert_allclose(vector.bounds[0], np.log([1e-3, 1e-2]))
    assert_allclose(vector.bounds[1], np.log([5.0, 1e4]))


def test_a_covariance_moves_as_a_root_in_units_of_its_start():
    vector = ParameterVector.of(RigidBody(np.diag([0.04, 0.09, 0.01])), None, STRUCTURE)
    # Rows of the lower triangle: the diagonal is 1 at the start.
    assert_allclose(vector.start, [1, 0, 1, 0, 0, 1], atol=RTOL_START)
    moved = vector.values(np.array([2.0, 0, 1, 0.5, 0, 1]))["translation"]
    # R = s·(2 0 0; 0 1 0; ½ 0 1) with s = 0.2, 0.3, 0.1.
    expected = [[0.16, 0, 0.02], [0, 0.09, 0], [0.02, 0, 0.0125]]
    assert_allclose(moved, expected, atol=1e-12)


# --- 2 independent oracle ------------------------------------------------


@by_name
def test_changes_are_central_differences(name):
    vector, rng = vector_of(name), np.random.default_rng(7)
    x = vector.start + 0.1 * rng.normal(size=len(vector.start))
    dx = rng.normal(size=len(x))
    found = vector.push(x, dx)
    up, down = vector.values(x + STEP * dx), vector.values(x - STEP * dx)
    for key, change in found.items():
        expected = (up[key] - down[key]) / (2 * STEP)
        assert_allclose(change, expected, atol=RTOL_DIFFERENCES * np.abs(expected).max())


# --- 3 exact limits ------------------------------------------------------


@by_name
def test_the_start_is_the_model(name):
    vector, model = vector_of(name), MODELS[name]
    found = vector.model_at(vector.start).parameters(STRUCTURE)
    expected = model.parameters(STRUCTURE)
    assert list(vector.values(vector.start)) == list(vector.names)
    for key, value in expected.items():
        assert_allclose(found[key], value, atol=RTOL_START * np.abs(value).max())


def test_what_is_not_refined_stays():
    vector = vector_of("sum", ["liquid_like.correlation_length"])
    assert vector.names == ("liquid_like.correlation_length",)
    moved = vector.model_at(np.log([9.0])).parameters(STRUCTURE)
    before = MODELS["sum"].parameters(STRUCTURE)
    assert moved.pop("liquid_like.correlation_length") == pytest.approx(9.0)
    for key, value in moved.items():
        assert_allclose(value, before[key], rtol=1e-12)


def test_one_name_may_stand_alone():
    assert vector_of("liquid-like", "correlation_length").names == ("correlation_length",)


def test_a_start_out_of_bounds_does_not_matter_where_it_stays():
    vector = ParameterVector.of(LiquidLike(9.0, 5.0), ["correlation_length"], STRUCTURE)
    assert vector.start.shape == (1,)


def test_a_motion_that_is_singular_can_grow():
    # A root with a column of zeros has no slope there.
    one_axis = np.zeros((3, 3))
    one_axis[0, 0] = 0.1
    vector = ParameterVector.of(RigidBody(one_axis), None, STRUCTURE)
    slopes = vector.pull(vector.start, {"translation": np.diag([0.0, 1.0, 0.0])})
    assert np.abs(slopes).max() > 1e-4


# --- 4 invariances -------------------------------------------------------


@by_name
def test_pull_is_the_transpose_of_push(name):
    vector, rng = vector_of(name), np.random.default_rng(8)
    x = vector.start + 0.1 * rng.normal(size=len(vector.start))
    dx = rng.normal(size=len(x))
    slopes = {key: rng.normal(size=v.shape) for key, v in vector.values(x).items()}
    forward = sum(np.sum(slopes[key] * change) for key, change in vector.push(x, dx).items())
    assert vector.pull(x, slopes) @ dx == pytest.approx(forward, rel=RTOL_ADJOINT)
    by_numbers = vector.jacobian(x)
    assert sum(
        np.ravel(slopes[key]) @ matrix @ dx for key, matrix in by_numbers.items()
    ) == pytest.approx(forward, rel=RTOL_ADJOINT)


@by_name
def test_any_vector_is_a_possible_model(name):
    vector, rng = vector_of(name), np.random.default_rng(9)
    lower, upper = vector.bounds
    for _ in range(5):
        x = np.clip(vector.start + 2.0 * rng.normal(size=len(vector.start)), lower, upper)
        model = vector.model_at(x)
        if name not in ("springs",):
            v = model.displacements(STRUCTURE).dense(STRUCTURE.n_atoms)
            flat = v if v.ndim == 2 else v.transpose(0, 2, 1, 3).reshape(24, 24)
            assert np.linalg.eigvalsh(flat)[0] > -1e-6 * np.trace(flat)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "refine", "message"),
    [
        (LiquidLike(0.4, 7), ["sigma"], "LiquidLike has no parameter 'sigma', expected rms_dis"),
        (LiquidLike(0.4, 7), ["kernel"], "LiquidLike has no parameter 'kernel'"),
        (
            LiquidLike(0.4, 7),
            [],
            r"expected a parameter of LiquidLike \(rms_displacement, corr.*got",
        ),
        (LiquidLike(0.4, 7), ["rms_displacement"] * 2, "each name once, got rms_displacement rms"),
        (Uncorrelated(), None, r"expected a parameter of Uncorrelated \(none\), got none"),
        (RigidBody(*tls()), ["screw"], "screw needs translation and libration with it, got no tr"),
        (RigidBody(0.0), None, "translation must start above 0 to be refined"),
        (LiquidLike(9.0, 7), None, "rms_displacement must start between 0.001 and 5 Å, got 9"),
        (LiquidLike(0.0, 7), None, "rms_displacement must start between 0.001 and 5 Å, got 0"),
        (LiquidLike(0.4, 1e5), None, "correlation_length must start between 0.01 and 10000 Å, got"),
    ],
)
def test_a_wrong_parameter_is_named(model, refine, message):
    with pytest.raises(InputError, match=message):
        ParameterVector.of(model, refine, STRUCTURE)
