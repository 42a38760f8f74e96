"""What a notebook shows of a map: figures of the table, sections in their true shape, odd maps."""

import base64
import io
import re
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from numpy.testing import assert_allclose
from tests.oracles import cell_vectors
from tests.strategies import cells

from offbragg import DiffuseMap, HklGrid, InputError, merge
from offbragg.maps.shells import anisotropic_part

CELL = (11.0, 13.0, 17.0, 82.0, 95.0, 104.0)
PLANES = ((0, 1, 2), (1, 0, 2), (2, 0, 1))


def made(cell=CELL, d_min=3.0, sampling=(1, 2, 1)):
    grid = HklGrid.from_resolution(cell, d_min, sampling)
    values = np.random.default_rng(0).uniform(1, 9, grid.shape)
    values[~grid.within()] = np.nan
    return DiffuseMap(grid, values)


def pictures(page):
    """Arrays (rows, columns, 4) of the images, top row first."""
    found = re.findall(r"base64,([^']*)'", page)
    return [imread(io.BytesIO(base64.b64decode(x)), format="png") for x in found]


def matrices(page):
    return [[float(x) for x in m.split()] for m in re.findall(r"matrix\(([^)]*)\)", page)]


def fact(page, name):
    return re.search(rf">{name}</th><td[^>]*>([^<]*)</td>", page)[1]


# --- 1 reference numbers -------------------------------------------------


def test_the_table():
    one = made()
    page = one._repr_html_()
    assert fact(page, "cell") == "11.000 13.000 17.000 Å, 82.00 95.00 104.00°"
    assert fact(page, "space group") == "P 1"
    assert fact(page, "merged") == "not merged"
    assert fact(page, "sampling") == "1 × 2 × 1"
    assert fact(page, "d_min") == "3 Å"
    assert fact(page, "completeness") == "100.0 %"
    assert fact(merge(one).map._repr_html_(), "merged") == "-1, Friedel mates merged"


def test_completeness_is_of_the_sphere():
    one = made()
    inside = np.argwhere(one.grid.within())
    half = one.intensity.copy()
    half[tuple(inside[: len(inside) // 2].T)] = np.nan
    assert fact(DiffuseMap(one.grid, half)._repr_html_(), "completeness") == "50.1 %"


# --- 2 independent oracle ------------------------------------------------


def test_colours_tell_the_sign_of_the_anisotropic_part():
    one = made()
    part = anisotropic_part(one.intensity, one.grid.inv_d())
    found = pictures(one._repr_html_())
    assert len(found) == 3
    for picture, (held, across, up) in zip(found, PLANES, strict=True):
        section = np.take(part, part.shape[held] // 2, axis=held)
        assert picture.shape[:2] == (part.shape[up], part.shape[across])
        # Red above the mean of the shell, blue below; the first row is the highest index.
        redder = (picture[..., 0] - picture[..., 2])[::-1].T
        finite = np.isfinite(section)
        strong = finite & (np.abs(np.nan_to_num(section)) > 0.5)
        assert np.count_nonzero(strong) > 5
        assert np.all(np.sign(redder[strong]) == np.sign(section[strong]))
        assert_allclose(picture[::-1].swapaxes(0, 1)[~finite][:, :3], 0.75, atol=0.01)


@settings(deadline=None, derandomize=True, max_examples=20)
@given(cell=cells())
def test_sections_have_their_true_shape(cell):
    grid = HklGrid(cell, [-1, 0, 1], [-2, -1, 0, 1, 2], [0, 0.5], (1, 1, 2))
    page = DiffuseMap(grid, np.ones(grid.shape))._repr_html_()
    reciprocal = np.linalg.inv(cell_vectors(cell)).T
    lengths = np.array(grid.shape) / np.array(grid.sampling)
    sizes = re.findall(r"<svg [^>]*width='([^']*)' height='([^']*)'", page)
    for (a, b, c, d, e, f), size, (_, across, up) in zip(
        matrices(page), sizes, PLANES, strict=True
    ):
        # The image's width is the first axis, its height upwards (y is down) the second.
        right, upward = np.array([a, b]), np.array([-c, d])
        expected = [reciprocal[n] * lengths[n] for n in (across, up)]
        metric = np.array([right, upward]) @ np.array([right, upward]).T
        wanted = np.array(expected) @ np.array(expected).T
        assert_allclose(metric / metric[0, 0], wanted / wanted[0, 0], rtol=1e-4, atol=1e-4)
        corners = np.array([[0, 0], [a, b], [c, d], [a + c, b + d]]) + np.array([e, f])
        assert_allclose(corners.min(axis=0), 0, atol=1e-3)
        assert_allclose(corners.max(axis=0), [float(x) for x in size], atol=1e-3)
        assert max(map(float, size)) == pytest.approx(220)


# --- 3 exact limits: odd maps ---------------------------------------------


@pytest.mark.parametrize(
    "values", [np.nan, 0.0, np.inf, -1e300, 1e-300], ids=["empty", "zero", "inf", "huge", "tiny"]
)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 4, 1), (3, 2, 4)])
def test_odd_maps_are_shown(values, shape):
    grid = HklGrid(CELL, *(np.arange(3, 3 + n) for n in shape))
    page = DiffuseMap(grid, np.full(shape, values))._repr_html_()
    assert len(pictures(page)) == 3
    assert "h = 3" in page


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    seed=st.integers(0, 2**20),
    first=st.tuples(*[st.integers(-4, 4)] * 3),
    shape=st.tuples(*[st.integers(1, 4)] * 3),
)
def test_any_map_is_shown(seed, first, shape):
    rng = np.random.default_rng(seed)
    grid = HklGrid(CELL, *(np.arange(a, a + n) for a, n in zip(first, shape, strict=True)))
    choices = np.array([np.nan, np.inf, -np.inf, 0.0, 1.0, -1e38, 3e38])
    values = rng.choice(choices, shape).astype(np.float32)
    assert len(pictures(DiffuseMap(grid, values)._repr_html_())) == 3


def test_large_sections_are_thinned():
    grid = HklGrid(CELL, np.arange(-600, 601) / 10, [0.0], np.arange(-3, 4) / 10, (10, 1, 10))
    page = DiffuseMap(grid, np.ones(grid.shape))._repr_html_()
    assert [x.shape[:2] for x in pictures(page)] == [(7, 1), (7, 301), (1, 301)]


# --- 5 errors ------------------------------------------------------------


def test_xarray_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(
        InputError, match=r"to_xarray needs xarray, .*pip install offbragg\[xarray\]"
    ):
        made().to_xarray()
