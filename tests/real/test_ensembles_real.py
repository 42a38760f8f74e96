"""Ensembles with real conformers: ubiquitin (2K39) and a trajectory of the alanine dipeptide."""

import gzip

import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.oracles import form_factors

from offbragg import HklGrid, simulate
from offbragg.crystal.ensembles import iter_frames, read_ensemble
from offbragg.crystal.frames import streamed_moments, superpose
from offbragg.disorder.ensemble import Ensemble
from offbragg.disorder.gaussian_test import compare_gaussian
from offbragg.disorder.guinier import guinier_error, guinier_intensity
from offbragg.errors import InputError

pytestmark = pytest.mark.real

MAP_ERROR = 1e-4  # of the mean: the tolerance that maps are asked for
UBIQUITIN, ALL_ATOMS = "2k39_ca_116models.pdb", "2k39_allatom_15models.pdb.gz"
CORE = "resid 1-70"  # the last six residues are a loose tail


def q_between(d_min, d_max, n, seed=1):
    """q spread evenly through the volume between two resolutions."""
    rng = np.random.default_rng(seed)
    q = rng.normal(size=(n, 3))
    cubes = rng.uniform((2 * np.pi / d_max) ** 3, (2 * np.pi / d_min) ** 3, n)
    return q * (np.cbrt(cubes) / np.linalg.norm(q, axis=1))[:, None]


def columns_of(text):
    """Positions (n_models, n, 3) by the fixed columns of the PDB format."""
    models = []
    for line in text.splitlines():
        if line.startswith("MODEL"):
            models.append([])
        elif line.startswith("ATOM"):
            models[-1].append([float(line[a : a + 8]) for a in (30, 38, 46)])
    return np.array(models)


@pytest.fixture(scope="module")
def ubiquitin(shared_data):
    return read_ensemble(shared_data / "ensembles" / UBIQUITIN)


@pytest.fixture(scope="module")
def core(shared_data):
    return read_ensemble(shared_data / "ensembles" / UBIQUITIN, select=CORE)


@pytest.fixture(scope="module")
def dipeptide(shared_data):
    pytest.importorskip("mdtraj")
    folder = shared_data / "trajectories"
    return read_ensemble(folder / "ala_dipeptide_frame0.xtc", folder / "ala_dipeptide_native.pdb")


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize(
    ("name", "n_models", "n_atoms"), [(UBIQUITIN, 116, 76), (ALL_ATOMS, 15, 1231)]
)
def test_models_match_their_columns(shared_data, name, n_models, n_atoms):
    path = shared_data / "ensembles" / name
    data = path.read_bytes()
    text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
    structure, frames = read_ensemble(path)
    assert frames.shape == (n_models, n_atoms, 3)
    assert_allclose(frames, columns_of(text), atol=1e-9)
    assert structure.cell is None
    assert_allclose(np.concatenate(list(iter_frames(path, chunk_size=11))), frames, rtol=0)


def test_the_trajectory_is_mdtrajs(shared_data, dipeptide):
    mdtraj = pytest.importorskip("mdtraj")
    folder = shared_data / "trajectories"
    pdb = folder / "ala_dipeptide_native.pdb"
    loaded = mdtraj.load(str(folder / "ala_dipeptide_frame0.xtc"), top=str(pdb))
    structure, frames = dipeptide
    assert frames.shape == (501, 22, 3)
    assert_allclose(frames, 10.0 * loaded.xyz, rtol=1e-6)
    assert structure.elements.tolist() == [a.element.symbol for a in loaded.topology.atoms]
    # The trajectory starts at the file that names its atoms.
    assert_allclose(frames[0], read_ensemble(pdb)[1][0], atol=1e-5)


def test_streamed_moments_of_the_trajectory_are_numpys(shared_data, dipeptide):
    folder = shared_data / "trajectories"
    chunks = iter_frames(
        folder / "ala_dipeptide_frame0.xtc", folder / "ala_dipeptide_native.pdb", chunk_size=37
    )
    _, frames = dipeptide
    found = streamed_moments(chunks, superpose_on=frames[0])
    moved = superpose(frames, frames[0]).reshape(501, -1)
    v = found.covariance.transpose(0, 2, 1, 3).reshape(66, 66)
    assert_allclose(v, np.cov(moved.T), atol=1e-12)
    # Full rank, but for shifts and turns: the best turn makes Σ (x − x̄)ᵀ (y − ȳ) symmetric.
    assert np.linalg.matrix_rank(v, tol=1e-9) == 60


def test_a_map_of_ubiquitin_matches_points(shared_data):
    # No CRYST1: the cell is given. One copy, Guinier and plain sums.
    path = shared_data / "ensembles" / UBIQUITIN
    structure, frames = read_ensemble(path, cell=(60, 55, 50, 90, 100, 90), stride=4)
    grid = HklGrid.from_resolution(structure.cell, 5.0)
    inside = grid.within()
    found = simulate(structure, Ensemble(frames), grid).intensity[inside]
    q = grid.q()[inside]
    expected = guinier_intensity(q, frames, form_factors(structure.elements, q))
    assert np.abs(found - expected).max() < MAP_ERROR * expected.mean()


def test_a_map_without_a_cell_is_refused(ubiquitin):
    structure, frames = ubiquitin
    grid = HklGrid.from_resolution((60, 60, 60, 90, 90, 90), 8.0)
    with pytest.raises(InputError, match="the structure has no unit cell: give one"):
        simulate(structure, Ensemble(frames), grid)


# --- 3 exact limits ------------------------------------------------------


def test_superposing_takes_out_the_motion_of_the_whole(core):
    # rms per axis 0.51 Å; on the first frame alone it would be more than on the mean.
    _, frames = core
    moved = superpose(frames)
    rms = np.sqrt(np.mean(moved.var(axis=0)))
    assert 0.4 < rms < 0.6
    assert rms < np.sqrt(np.mean(superpose(frames, frames[0]).var(axis=0)))
    assert_allclose(moved[0].mean(axis=0), frames[0].mean(axis=0), atol=0.01)


def test_the_covariance_of_116_models_has_their_rank(ubiquitin):
    structure, frames = ubiquitin
    factor = Ensemble(frames, approximation="gaussian").displacements(structure).correlated.factor
    assert np.linalg.matrix_rank(factor.reshape(228, -1), tol=1e-9) == 115


# --- 4 what the files say ------------------------------------------------


def test_ubiquitin_is_nearly_gaussian(core):
    # Found, 20 to 2 Å in six shells: Guinier 4 to 8 % below the Gaussian formula at every
    # resolution, 3 to 7 standard errors; correlation 0.98 falling to 0.80.
    structure, frames = core
    found = compare_gaussian(
        structure, Ensemble(frames, superposed=True), q_between(2, 20, 600), 4, 29
    )
    share = found.difference / found.guinier
    assert np.all(share < 0)
    assert np.all(np.abs(share) < 0.15)
    assert np.abs(found.difference / found.standard_error).max() > 3
    assert np.all(found.standard_error < 0.03 * found.guinier)
    assert np.all(found.cc > 0.7)
    assert found.cc[0] > 0.9


def test_the_error_of_116_models_is_a_root_of_their_number(core):
    # Amplitudes are nearly complex Gaussians, so |F − ⟨F⟩|² is exponential: error I/√116.
    structure, frames = core
    q = q_between(2, 20, 400)
    f = form_factors(structure.elements, q)
    share = guinier_error(q, frames, f) / guinier_intensity(q, frames, f)
    assert 0.8 < np.median(share) * np.sqrt(116) < 1.1


def test_the_dipeptide_is_not_gaussian(dipeptide):
    # Two rotamers and methyl groups that spin. Found, 20 to 1 Å in eight shells: −14, −26, −24,
    # −14, −5, −1, 2, 4 % of Guinier, with errors of 0.4 to 3 %.
    structure, frames = dipeptide
    moved = superpose(frames)
    found = compare_gaussian(structure, Ensemble(moved), q_between(1, 20, 500), 4, 20)
    share = found.difference / found.guinier
    assert -0.4 < share.min() < -0.1
    assert np.abs(found.difference / found.standard_error).max() > 5
    assert np.all(found.standard_error < 0.06 * found.guinier)
    assert np.all(found.cc > 0.7)


def test_frames_of_the_trajectory_are_correlated(dipeptide):
    # The error grows with the block, by 1.2 in the median, and is level from 10 frames on.
    structure, frames = dipeptide
    moved = superpose(frames)
    q = q_between(1, 20, 300)
    f = form_factors(structure.elements, q)
    errors = {n: np.median(guinier_error(q, moved, f, block_size=n)) for n in (1, 10, 25)}
    assert 1.1 < errors[10] / errors[1] < 1.4
    assert 0.9 < errors[25] / errors[10] < 1.15
