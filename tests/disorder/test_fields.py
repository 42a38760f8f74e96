"""Smooth fields: their covariance is the kernel that they were made from."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg.disorder.fields import smooth_fields
from offbragg.errors import InputError

# Fields below 1 % of the largest eigenvalue are left out: with some ten neighbours within the
# smoothing length, about a tenth of the variance of a point.
LEFT_OUT = 0.2


def test_covariance_is_the_kernel():
    points = np.random.default_rng(0).uniform(0, 25, size=(60, 3))
    fields = smooth_fields(points, 8.0)
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    assert_allclose(fields @ fields.T, np.exp(-(distances**2) / 128.0), atol=LEFT_OUT)
    assert 5 < fields.shape[1] < 60


def test_longer_smoothing_needs_fewer_fields_and_as_many_as_allowed():
    points = np.random.default_rng(1).uniform(0, 30, size=(50, 3))
    counts = [smooth_fields(points, x).shape[1] for x in (4.0, 8.0, 16.0)]
    assert counts[0] > counts[1] > counts[2]
    assert smooth_fields(points, 4.0, n_most=3).shape == (50, 3)


def test_fields_do_not_depend_on_where_the_molecule_lies():
    points = np.random.default_rng(2).uniform(0, 20, size=(20, 3))
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    one, other = (smooth_fields(x, 7.0) for x in (points, points @ turn + 5.0))
    assert_allclose(one @ one.T, other @ other.T, atol=1e-9)


@pytest.mark.parametrize(
    ("points", "smoothing", "message"),
    [([[0, 0]], 5.0, "points must be"), ([[0, 0, 0]], 0.0, "smoothing must be > 0")],
)
def test_bad_input_is_refused(points, smoothing, message):
    with pytest.raises(InputError, match=message):
        smooth_fields(points, smoothing)
