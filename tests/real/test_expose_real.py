"""expose on real geometry: experiment lists of a real crystal go through and come back."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg.crystal.grid import HklGrid
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.reduction.experiment import read_experiments
from offbragg.reduction.expose import ExposeOptions, expose
from offbragg.reduction.images import open_images

pytestmark = pytest.mark.real

ATOL_HKL = 1e-10  # degrees ↔ radians and an inverted matrix, at hkl up to 30


def test_a_made_map_is_exposed_on_real_geometry(tmp_path, shared_data):
    before = read_experiments(shared_data / "snase" / "snase_osc.expt")
    grid = HklGrid.from_resolution(before[0].crystal.cell, 3.0)
    values = np.where(grid.within(), np.exp(-((grid.inv_d() / 0.2) ** 2)), np.nan)
    result = expose(
        DiffuseMap(grid, values, "P 41"),
        before,
        tmp_path,
        ExposeOptions(photons=0.5, background=1.5, n_rotation=2),
        np.random.default_rng(1),
    )
    after = read_experiments(result.experiments)
    assert len(after) == len(result.images) == 3
    # 3 M pixels of variance 2: the standard error is 0.0008.
    assert_allclose(result.mean_counts, 2.0, atol=0.004)
    for old, new in zip(before, after, strict=True):
        positions = old.detector[0].pixel_positions()[::100, ::100]
        for fraction in (0.0, 1.0):
            assert_allclose(
                new.hkl_of(new.detector[0].pixel_positions()[::100, ::100], 0, fraction),
                old.hkl_of(positions, 0, fraction),
                atol=ATOL_HKL,
            )
        with open_images(new) as source:
            (image,) = source.read(0)
        # Where the map ends, only the background is left.
        d = 1 / np.linalg.norm(
            positions / np.linalg.norm(positions, axis=-1, keepdims=True) - old.beam.direction,
            axis=-1,
        ) * old.beam.wavelength  # fmt: skip
        far = image[::100, ::100][d < 2.5]
        assert abs(far.mean() - 1.5) < 4.5 * np.sqrt(1.5 / far.size)
        assert image.mean() > 1.6
