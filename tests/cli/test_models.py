"""Disorder models from options: each model's own, nothing of another's."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from offbragg import (
    Covariance,
    FormatError,
    InputError,
    LiquidLike,
    MissingFileError,
    RigidBody,
    Uncorrelated,
)
from offbragg.cli.models import ModelOptions, build_model


def model_of(name, *, for_fit=False, **options):
    return build_model(ModelOptions(name, **options), for_fit=for_fit)


# --- 1 reference numbers -------------------------------------------------


def test_a_liquid_like_model():
    assert model_of("liquid-like", rms_displacement=0.3, correlation_length=5.0) == LiquidLike(
        0.3, 5.0
    )
    assert model_of(
        "liquid-like", rms_displacement=(0.0,), correlation_length=5.0, kernel="gaussian",
        coherence="cell", order="2",
    ) == LiquidLike(0.0, 5.0, "gaussian", "cell", 2)  # fmt: skip


def test_an_uncorrelated_model():
    assert model_of("uncorrelated") == Uncorrelated()


def test_a_rigid_body_by_one_number_or_six():
    one = model_of("rigid-body", translation=(0.2,))
    assert isinstance(one, RigidBody)
    assert_array_equal(one.translation, 0.2 * np.eye(3))
    six = model_of("rigid-body", translation=(0.1, 0.2, 0.3, 0.01, -0.02, 0.03))
    expected = [[0.1, 0.01, -0.02], [0.01, 0.2, 0.03], [-0.02, 0.03, 0.3]]
    assert_array_equal(six.translation, expected)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_a_covariance_from_a_file(tmp_path, dtype):
    matrix = np.array([[2, 1], [1, 3]], dtype=dtype)
    np.save(tmp_path / "v.npy", matrix)
    found = model_of("covariance", covariance=tmp_path / "v.npy")
    assert isinstance(found, Covariance)
    assert_array_equal(found.matrix, matrix)
    assert found.matrix.dtype == np.float64


# --- 3 exact limits ------------------------------------------------------


def test_a_fit_has_a_start_of_its_own_where_none_is_given():
    assert model_of("liquid-like", for_fit=True) == LiquidLike(0.4, 8.0)
    assert model_of("liquid-like", for_fit=True, rms_displacement=0.2) == LiquidLike(0.2, 8.0)
    # A number that is given is taken, right or wrong.
    assert model_of("liquid-like", for_fit=True, rms_displacement=0.0).rms_displacement == 0.0


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("liquid-like", {}, "needs --rms-displacement and --correlation-length"),
        ("liquid-like", {"rms_displacement": 0.3}, "needs --rms-displacement and"),
        ("liquid-like", {"translation": (0.1,)}, "--translation belongs to --model rigid-body"),
        ("rigid-body", {}, "--model rigid-body needs --translation"),
        ("rigid-body", {"translation": ()}, r"one number or six \(xx yy zz xy xz yz\), got 0"),
        ("rigid-body", {"translation": (0.1, 0.2)}, "one number or six .*, got 2"),
        ("rigid-body", {"translation": (-0.1,)}, "translation must be positive semi-definite"),
        ("rigid-body", {"translation": (np.nan,)}, "translation"),
        ("rigid-body", {"rms_displacement": 0.3}, "--rms-displacement belongs to --model liquid"),
        ("uncorrelated", {"correlation_length": 3.0}, "--correlation-length belongs to --model li"),
        ("uncorrelated", {"kernel": "gaussian"}, "--kernel belongs to --model liquid-like, got un"),
        ("covariance", {}, "--model covariance needs --covariance FILE.npy"),
        ("covariance", {"order": "1"}, "belongs to --model liquid-like or lattice-vib"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_named(name, options, message):
    with pytest.raises(InputError, match=message):
        model_of(name, **options)


@pytest.mark.parametrize("order", ["0", "-1", "x", "1.5", ""])
def test_a_wrong_order_is_named(order):
    options = {"rms_displacement": 0.3, "correlation_length": 5.0, "order": order}
    if order == "":
        # Nothing is what was not given.
        assert model_of("liquid-like", **options).order == "exact"
        return
    with pytest.raises(InputError, match=r"order must be .*exact.* or a whole number"):
        model_of("liquid-like", **options)


@pytest.mark.parametrize(
    ("rms_displacement", "correlation_length"),
    [(-0.3, 5.0), (np.nan, 5.0), (np.inf, 5.0), (0.3, 0.0), (0.3, -5.0), (0.3, np.nan)],
)
@pytest.mark.parametrize("for_fit", [True, False])
def test_numbers_out_of_range_are_named(rms_displacement, correlation_length, for_fit):
    with pytest.raises(InputError, match="must be a positive number of Å, got"):
        model_of(
            "liquid-like", for_fit=for_fit,
            rms_displacement=rms_displacement, correlation_length=correlation_length,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array(["a", "b"]), "expected a .npy file of real numbers, found <U1"),
        (np.eye(2) * 1j, "expected a .npy file of real numbers, found complex128"),
        (np.eye(2) > 0, "expected a .npy file of real numbers, found bool"),
        (np.array([{}], dtype=object), "Object arrays cannot be loaded"),
        (-np.eye(2), "positive semi-definite"),
        (np.array([[1.0, 2.0], [0.0, 1.0]]), "symmetric"),
        (np.full((2, 2), np.nan), "finite"),
        (np.ones(4), "covariance must"),
    ],
)
def test_a_file_without_a_covariance_is_refused(tmp_path, array, message):
    np.save(tmp_path / "v.npy", array)
    with pytest.raises((InputError, FormatError), match=message):
        model_of("covariance", covariance=tmp_path / "v.npy")


def test_a_file_of_another_kind_is_refused(tmp_path):
    np.savez(tmp_path / "v.npz", a=np.eye(2))
    with pytest.raises(FormatError, match="of real numbers, found an archive"):
        model_of("covariance", covariance=tmp_path / "v.npz")
    for content in (b"", b"text", b"PK\3\4", b"\x93NUMPY"):
        (tmp_path / "v.npy").write_bytes(content)
        with pytest.raises(FormatError, match=r"v\.npy: not a \.npy file of numbers"):
            model_of("covariance", covariance=tmp_path / "v.npy")
    for missing in (tmp_path / "none.npy", tmp_path):
        with pytest.raises(MissingFileError, match="no such file"):
            model_of("covariance", covariance=missing)
