"""Absolute scale: made crystals of known intensity come back to electron units."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg import DiffuseMap, HklGrid, InputError, LiquidLike, simulate
from offbragg.made_crystal import make_peptide
from offbragg.maps.absolute import CellContents, absolute_scale, to_absolute
from offbragg.scattering import compute_form_factors

PEPTIDE = make_peptide("GASMVL", u=0.15)
MODEL = LiquidLike(0.38, 6.0)
CONTENTS = CellContents.of(PEPTIDE, solvent=False)
MAP_UNIT = 0.31  # units of the map in an e²
# What truncating the integral at 1 Å costs: 0.4 % on this and other peptides.
TRUNCATION = 0.01


@pytest.fixture(scope="module")
def total():
    """All that the crystal scatters, Compton scattering too, on a scale of its own."""
    grid = HklGrid.from_resolution(PEPTIDE.cell, 1.0)
    made = simulate(PEPTIDE, MODEL, grid, part="total")
    compton = CONTENTS.compton(np.linalg.norm(grid.q(), axis=-1), 1.0)
    return replace(made, intensity=MAP_UNIT * (made.intensity + compton))


# --- 1 known truth -------------------------------------------------------


def test_the_scale_comes_back(total):
    found = absolute_scale(total, CONTENTS, wavelength=1.0)
    assert found.scale * MAP_UNIT == pytest.approx(1.0, abs=TRUNCATION)
    assert found.error * MAP_UNIT < TRUNCATION
    assert found.q_max == pytest.approx(2 * np.pi, rel=0.01)


def test_the_diffuse_map_comes_to_electrons(total):
    found = absolute_scale(total, CONTENTS, wavelength=1.0)
    truth = simulate(PEPTIDE, MODEL, total.grid)
    compton = CONTENTS.compton(np.linalg.norm(total.grid.q(), axis=-1), 1.0)
    seen = DiffuseMap(
        total.grid, MAP_UNIT * (truth.intensity + compton), total.space_group,
        sigma=np.full(total.grid.shape, MAP_UNIT),
    )  # fmt: skip
    absolute = to_absolute(seen, found, CONTENTS, wavelength=1.0)
    difference = np.nanmean(absolute.intensity - truth.intensity)
    level = np.nanmean(truth.intensity + compton)
    assert abs(difference) < TRUNCATION * level
    assert_allclose(absolute.sigma, found.scale * MAP_UNIT)
    assert absolute.provenance[-1]["command"] == "absolute"


# --- 2 independent oracle ------------------------------------------------


def test_coherent_and_electrons_are_sums_over_atoms():
    q = np.array([0.0, 1.0, 4.0])
    cell = PEPTIDE.to_p1()
    vectors = np.column_stack([q, 0 * q, 0 * q])
    f = compute_form_factors(cell.elements, vectors, cell.occupancies)
    squares, g = CONTENTS.coherent(q)
    assert_allclose(squares, np.sum(f**2, axis=1))
    assert_allclose(g * CONTENTS.n_electrons, np.sum(f, axis=1))
    assert g[0] == pytest.approx(1.0, abs=2e-3)  # the tables' own rounding


def test_water_fills_what_atoms_leave():
    filled = CellContents.of(PEPTIDE)
    more = filled.n_electrons - CONTENTS.n_electrons
    assert 0 <= more < 0.334 * filled.volume


# --- 4 invariances -------------------------------------------------------


def test_the_unit_of_the_map_and_missing_voxels_do_not_matter(total):
    one = absolute_scale(total, CONTENTS, wavelength=1.0)
    other = absolute_scale(replace(total, intensity=7 * total.intensity), CONTENTS, wavelength=1.0)
    assert 7 * other.scale == pytest.approx(one.scale)
    rng = np.random.default_rng(0)
    # Bragg peaks vary by far more than their mean: a sixth missing costs some per cent.
    half = np.where(rng.random(total.grid.shape) < 1 / 6, np.nan, total.intensity)
    few = absolute_scale(replace(total, intensity=half), CONTENTS, wavelength=1.0)
    assert few.scale == pytest.approx(one.scale, rel=0.05)


# --- 5 errors ------------------------------------------------------------


def test_what_is_wrong_is_named(total):
    with pytest.raises(InputError, match="no voxel is measured within the limits"):
        absolute_scale(total, CONTENTS, d_min=500.0)
    with pytest.raises(InputError, match=r"expected 20 shells of 0\.01 Å⁻¹ .* found \d"):
        absolute_scale(total, CONTENTS, d_min=6.0)
    negative = replace(total, intensity=-total.intensity)
    with pytest.raises(InputError, match="the integral of the intensity is not positive"):
        absolute_scale(negative, CONTENTS)
