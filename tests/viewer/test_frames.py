"""Images: nodes lie where peaks are, masks and corrections are those of a map."""

import numpy as np
import pytest
from tests.viewer.conftest import D_MIN

from offbragg.errors import InputError
from offbragg.reduction.images import open_images
from offbragg.viewer.frames import EXCLUDED, UNTRUSTED, USED, FrameSeries, _shrink

# The moment of a crossing is interpolated along one degree, and looked for in 101 steps of it.
HKL_TOLERANCE = 0.02


@pytest.fixture(scope="module")
def series(experiment):
    return FrameSeries("made", experiment, D_MIN)


def test_pixels_are_those_of_the_file(series, experiment):
    with open_images(experiment) as source:
        (pixels,) = source.read(1)
    np.testing.assert_array_equal(series.raw(1, 0), pixels.astype(np.float32))
    assert series.raw(1, 0).shape == (240, 280)


def test_predicted_nodes_are_whole_numbers_and_bright(series, experiment):
    panel = experiment.detector[0]
    for image in range(series.n_images):
        nodes = series.nodes(image, 0)
        assert len(nodes) > 5
        raw = series.raw(image, 0)
        bright = []
        for node in nodes:
            position = (
                panel.origin
                + node.fast * panel.pixel_size[0] * panel.fast_axis
                + node.slow * panel.pixel_size[1] * panel.slow_axis
            )
            # At some moment of the image the node itself is recorded there.
            off = [
                np.abs(experiment.hkl_of(position, image, f) - node.hkl).max()
                for f in np.linspace(0, 1, 101)
            ]
            assert min(off) < HKL_TOLERANCE
            bright.append(raw[int(node.slow), int(node.fast)])
        # Nodes are 2000 times as bright as the rest.
        assert np.median(bright) > 20 * np.median(raw[raw >= 0])


def test_nodes_cross_at_the_moment_that_is_interpolated(series, experiment):
    node = series.nodes(0, 0)[0]
    s0 = experiment.beam.s0
    found = [
        np.linalg.norm(s0 + experiment.lattice_matrix(0, f) @ node.hkl) - np.linalg.norm(s0)
        for f in (0.0, 1.0)
    ]
    assert found[0] * found[1] <= 0


def test_masked_and_corrected(series, experiment):
    mask = series.mask(0, 0)
    assert set(np.unique(mask)) <= {USED, EXCLUDED, UNTRUSTED}
    assert np.all(mask[20:40, 10:30] == EXCLUDED)
    corrected = series.corrected(0, 0)
    np.testing.assert_array_equal(np.isnan(corrected), mask != USED)
    raw = series.raw(0, 0)
    ratio = corrected[raw > 0] / raw[raw > 0]
    # Solid angle and polarisation change by per cents here, and smoothly.
    assert 0.9 < np.nanmin(ratio) < np.nanmax(ratio) < 2
    slow, fast = 100, 150
    pixel = series.pixel(0, 0, fast, slow)
    assert pixel["raw"] == series.raw(0, 0)[slow, fast]
    assert pixel["corrected"] == pytest.approx(float(corrected[slow, fast]))
    position = experiment.detector[0].pixel_positions()[slow, fast]
    np.testing.assert_allclose(pixel["hkl"], experiment.hkl_of(position, 0), atol=1e-9)
    s = experiment.crystal.cell.frac_matrix.T @ np.array(pixel["hkl"])
    assert pixel["d"] == pytest.approx(1 / np.linalg.norm(s))
    assert series.pixel(0, 0, 15, 25)["corrected"] is None


def test_large_panels_are_averaged_in_blocks():
    values = np.arange(20, dtype=np.float32).reshape(4, 5)
    values[0, 0] = np.nan
    found = _shrink(values, 2)
    np.testing.assert_allclose(found[0], [(1 + 5 + 6) / 3, 5.0, 6.5])
    assert found.shape == (2, 3)
    assert np.isnan(_shrink(np.full((2, 2), np.nan, dtype=np.float32), 2)).all()


def test_too_many_nodes_are_refused_before_they_are_counted(experiment):
    with pytest.raises(InputError, match=r"made: about .* to 0.1 Å .* give a larger --d-min"):
        FrameSeries("made", experiment, 0.1)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: s.raw(3, 0), "image must be 0 to 2, got 3"),
        (lambda s: s.raw(0, 1), "panel must be 0 to 0, got 1"),
        (lambda s: s.pixel(0, 0, 280, 0), r"pixel must be in a panel of \(280, 240\), got 280, 0"),
    ],
)
def test_what_is_not_there_is_said(series, ask, message):
    with pytest.raises(InputError, match=message):
        ask(series)
