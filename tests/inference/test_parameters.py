"""ParameterVector: between a model's named parameters and what a solver moves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from offbragg import InputError, LiquidLike, RigidBody, Uncorrelated
from offbragg.disorder.base import DisorderModel, Parameter
from offbragg.inference.parameters import ParameterVector
from offbragg.scattering.displacements import Displacements

START = LiquidLike(rms_displacement=0.4, correlation_length=7.0, kernel="gaussian")


@dataclass(frozen=True)
class Tilted(DisorderModel):
    """One parameter of either sign, one that is at least 0, one above 0."""

    refinable: ClassVar[Mapping[str, Parameter]] = {
        "slope": Parameter("1/Å", -2.0, 2.0),
        "size": Parameter("Å²"),
        "length": Parameter("Å", 0.1, 100.0),
    }
    slope: float = -0.5
    size: float = 0.0
    length: float = 5.0

    def displacements(self, structure):
        return Displacements()


# --- 1 reference numbers -------------------------------------------------


def test_positive_parameters_move_as_their_logarithm():
    vector = ParameterVector.of(START, None)
    assert vector.names == ("rms_displacement", "correlation_length")
    assert_allclose(vector.start, np.log([0.4, 7.0]))
    lower, upper = vector.bounds
    assert_allclose(np.exp(lower), [1e-3, 1e-2])
    assert_allclose(np.exp(upper), [5.0, 1e4])


def test_others_move_as_they_are():
    vector = ParameterVector.of(Tilted(), ("length", "slope", "size"))
    assert_allclose(vector.start, [np.log(5.0), -0.5, 0.0])
    assert_allclose(vector.bounds[0], [np.log(0.1), -2.0, 0.0])
    assert_allclose(vector.bounds[1], [np.log(100.0), 2.0, np.inf])


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("model", [START, Tilted()])
def test_slopes_match_central_differences(model):
    vector = ParameterVector.of(model, None)
    at, step = vector.start + 0.1, 1e-6
    up, down = vector.values(at + step), vector.values(at - step)
    expected = [(up[name] - down[name]) / (2 * step) for name in vector.names]
    assert_allclose(vector.slopes(at), expected, rtol=1e-8)


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.floats(1e-3, 5.0), st.floats(1e-2, 1e4))
def test_there_and_back(sigma, length):
    model = LiquidLike(sigma, length)
    vector = ParameterVector.of(model, None)
    values = vector.values(vector.start)
    assert values["rms_displacement"] == pytest.approx(sigma, rel=1e-12)
    assert values["correlation_length"] == pytest.approx(length, rel=1e-12)
    lower, upper = vector.bounds
    assert np.all(lower <= vector.start)
    assert np.all(vector.start <= upper)


def test_what_is_not_refined_stays():
    vector = ParameterVector.of(START, ["correlation_length"])
    moved = vector.model_at(np.array([np.log(3.0)]))
    assert moved == LiquidLike(0.4, moved.correlation_length, kernel="gaussian")
    assert moved.correlation_length == pytest.approx(3.0)
    assert START.correlation_length == 7.0


def test_one_name_may_stand_alone():
    assert ParameterVector.of(START, "rms_displacement").names == ("rms_displacement",)
    reversed_names = ("correlation_length", "rms_displacement")
    assert ParameterVector.of(START, reversed_names).names == reversed_names
    assert_array_equal(
        ParameterVector.of(START, reversed_names).start, ParameterVector.of(START, None).start[::-1]
    )


def test_arrays_stay_where_no_name_is_given():
    anisotropic = LiquidLike((0.1, 0.2, 0.3), 5.0)
    assert ParameterVector.of(anisotropic, None).names == ("correlation_length",)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "refine", "message"),
    [
        (START, ("sigma",), "LiquidLike has no parameter 'sigma', expected rms_displacement, corr"),
        (START, ("kernel",), "LiquidLike has no parameter 'kernel'"),
        (START, (), r"expected a parameter of LiquidLike \(rms_displacement, corr.*got none"),
        (START, ("rms_displacement",) * 2, "each name once, got rms_displacement rms_displacement"),
        (Uncorrelated(), None, r"expected a parameter of Uncorrelated \(none\), got none"),
        (
            RigidBody(0.1),
            ("translation",),
            "translation of RigidBody is an array: only numbers",
        ),
        (
            LiquidLike((0.1, 0.2, 0.3), 5.0),
            ("rms_displacement",),
            "rms_displacement of LiquidLike is an array: only numbers",
        ),
        (START + Uncorrelated(), None, "expected one model, got a sum: it cannot be refined yet"),
        (LiquidLike(9.0, 5.0), None, "rms_displacement must start between 0.001 and 5 Å, got 9"),
        (LiquidLike(0.0, 5.0), None, "rms_displacement must start between 0.001 and 5 Å, got 0"),
        (LiquidLike(0.3, 1e5), None, "correlation_length must start between 0.01 and 10000 Å, got"),
    ],
)
def test_a_wrong_parameter_is_named(model, refine, message):
    with pytest.raises(InputError, match=message):
        ParameterVector.of(model, refine)


def test_a_start_out_of_bounds_does_not_matter_where_it_stays():
    assert ParameterVector.of(LiquidLike(9.0, 5.0), ["correlation_length"]).start.shape == (1,)
