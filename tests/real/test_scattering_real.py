"""Structures, structure factors and computed maps with real files: the engine on real molecules."""

import gemmi
import numpy as np
import pytest
from numpy.testing import assert_allclose
from tests.lattice_oracles import nodes_within
from tests.oracles import diffuse_sum, form_factors, q_of
from tests.strategies import random_covariance

from offbragg import Covariance, HklGrid, LiquidLike, Uncorrelated, read_structure, simulate
from offbragg.errors import InputError
from offbragg.scattering import (
    Displacements,
    HalfLattice,
    compute_structure_factors,
    diffuse_intensity,
    diffuse_on_lattice,
    structure_factors_on_lattice,
)

pytestmark = pytest.mark.real

MAP_ERROR = 1e-3  # of the mean, the project's own figure: random voxels and all with d > 10 Å
RTOL_GEMMI = 1e-5  # gemmi holds U, B and occupancy in float32
SHELL = 0.01  # Å⁻¹ in 1/d: shells of the isotropic part

FILES = [
    "structures/1dur.pdb", "structures/1ejg.pdb", "structures/2ol9.pdb", "structures/4xof.pdb",
    "structures/5zck.pdb", "structures/6o2h_clean.pdb", "structures/6rt3.pdb",
    "snase/model/4wor.pdb", "snase/model/1stn_clean.pdb",
]  # fmt: skip


def lattice_of(cell, d_min, sampling):
    extent = tuple(
        int(np.floor(x / d_min * n + 1e-9)) for x, n in zip(cell, sampling, strict=False)
    )
    return HalfLattice(cell, sampling, extent, 2 * np.pi / d_min)


def smooth_covariance(rng, positions, u, length, rank):
    """A random anisotropic PSD covariance (n, n, 3, 3): random low-rank plus falling off with r."""
    n = len(positions)
    d = np.linalg.norm(positions[:, None] - positions[None, :], axis=-1)
    v = random_covariance(rng, n, 0.5 * u, rank)
    turn = rng.normal(size=(3, 3))
    shape = turn @ turn.T
    shape *= 1.5 * u / np.trace(shape)
    v += np.exp(-d / length)[:, :, None, None] * shape
    return v


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_structures_match_their_columns(shared_data, name):
    # Oracle: the fixed columns of the PDB format.
    path = shared_data / name
    rows, u_of = [], {}
    for line in path.read_text().splitlines():
        if line.startswith(("ATOM", "HETATM")):
            rows.append(line)
        elif line.startswith("ANISOU"):
            u_of[len(rows) - 1] = [int(line[i : i + 7]) * 1e-4 for i in range(28, 70, 7)]
        elif line.startswith("CRYST1"):
            cell = [float(line[a:b]) for a, b in [(6, 15), (15, 24), (24, 33), (33, 40), (40, 47)]]
            cell.append(float(line[47:54]))
            group = line[55:66].strip()
    structure = read_structure(path)
    assert structure.n_atoms == len(rows)
    assert_allclose(structure.cell, cell, rtol=0)
    assert structure.space_group == group
    xyz = [[float(r[30:38]), float(r[38:46]), float(r[46:54])] for r in rows]
    assert_allclose(structure.positions, xyz, atol=1e-9)
    assert_allclose(structure.occupancies, [float(r[54:60]) for r in rows], atol=1e-6)
    assert structure.names.tolist() == [r[12:16].strip() for r in rows]
    assert structure.altlocs.tolist() == [r[16].strip() for r in rows]
    assert structure.residue_numbers.tolist() == [int(r[22:26]) for r in rows]
    u_iso = np.array([float(r[60:66]) for r in rows]) / (8 * np.pi**2)
    for i, u in enumerate(structure.u_aniso):
        expected = u_iso[i] * np.eye(3)
        if i in u_of:
            u11, u22, u33, u12, u13, u23 = u_of[i]
            expected = np.array([[u11, u12, u13], [u12, u22, u23], [u13, u23, u33]])
        assert_allclose(u, expected, atol=1e-6)


def test_structure_factors_of_a_peptide_match_gemmi(shared_data):
    # 2OL9: triclinic, all 56 atoms with ANISOU; direct and on a lattice.
    path = shared_data / "structures" / "2ol9.pdb"
    structure, oracle_structure = read_structure(path), gemmi.read_structure(str(path))
    oracle = gemmi.StructureFactorCalculatorX(oracle_structure.cell)
    lattice = lattice_of(structure.cell, 1.2, (1, 1, 1))
    m_x, m_y, m_z = lattice.extent
    rng = np.random.default_rng(1)
    hkl = np.stack([rng.integers(-m, m + 1, 400) for m in lattice.extent], axis=1)
    hkl[:, 2] = np.abs(hkl[:, 2])
    hkl = hkl[[oracle_structure.cell.calculate_d(h) >= 1.2 for h in hkl.tolist()]]
    expected = np.array(
        [oracle.calculate_sf_from_model(oracle_structure[0], h) for h in hkl.tolist()]
    )
    q = q_of(hkl, structure.cell)
    f = form_factors(structure.elements, q, structure.occupancies)
    direct = compute_structure_factors(q, structure.positions, f, structure.u_aniso)
    on_lattice = structure_factors_on_lattice(
        lattice, structure.positions, structure.elements, structure.occupancies, structure.u_aniso
    )[hkl[:, 0] + m_x, hkl[:, 1] + m_y, hkl[:, 2]]
    tolerance = {"rtol": RTOL_GEMMI, "atol": RTOL_GEMMI * np.abs(expected).mean()}
    assert m_z > 0
    assert len(hkl) > 100
    assert_allclose(direct, expected, **tolerance)
    assert_allclose(on_lattice, expected, **tolerance)


@pytest.mark.parametrize("name", ["structures/5zck.pdb", "structures/4xof.pdb"])
def test_bragg_intensities_match_gemmi_with_symmetry(shared_data, name):
    path = shared_data / name
    structure, oracle_structure = read_structure(path), gemmi.read_structure(str(path))
    oracle = gemmi.StructureFactorCalculatorX(oracle_structure.cell)
    grid = HklGrid.from_resolution(structure.cell, 2.0)
    found = simulate(structure, Uncorrelated(), grid, "bragg").intensity
    hkl = np.rint(grid.hkl()[grid.within()]).astype(int)
    hkl = hkl[np.random.default_rng(2).choice(len(hkl), 40, replace=False)]
    expected = [
        abs(oracle.calculate_sf_from_model(oracle_structure[0], h)) ** 2 for h in hkl.tolist()
    ]
    index, _ = grid.index_of(hkl)
    assert_allclose(found[tuple(index.T)], expected, rtol=1e-4, atol=1e-4 * np.mean(expected))


@pytest.mark.parametrize("sampling", [(1, 1, 1), (2, 3, 2)])
def test_splat_matches_the_direct_sum_on_a_peptide(shared_data, sampling):
    # 2OL9's b is 4.9 Å: the box is smaller than the molecule.
    structure = read_structure(shared_data / "structures" / "2ol9.pdb")
    rng = np.random.default_rng(3)
    v = random_covariance(rng, structure.n_atoms, 0.32)
    lattice = lattice_of(structure.cell, 1.5, sampling)
    found = diffuse_on_lattice(
        lattice, structure.positions, structure.elements, structure.occupancies, Displacements(v)
    ).ravel()
    q, index = nodes_within(lattice)
    low = np.flatnonzero(np.linalg.norm(q, axis=1) < 2 * np.pi / 10)
    pick = np.union1d(rng.choice(len(q), 200), low)
    f = form_factors(structure.elements, q[pick], structure.occupancies)
    expected = diffuse_sum(q[pick], structure.positions, f, v)
    assert np.abs(found[index][pick] - expected).max() < MAP_ERROR * found[index].mean()
    assert found[np.ravel_multi_index((*lattice.extent[:2], 0), lattice.shape)] == 0.0


def test_splat_matches_the_direct_sum_on_lysozyme(shared_data):
    # 6RT3, P 4₃2₁2, one asymmetric unit; random anisotropic 3N × 3N covariance, U ≈ 0.32 Å².
    # The backbone, to be quick; with all 993 atoms the error is as small.
    structure = read_structure(shared_data / "structures" / "6rt3.pdb")
    structure = structure.select("backbone and not altloc B C D")
    assert structure.n_atoms > 500
    rng = np.random.default_rng(4)
    v = smooth_covariance(rng, structure.positions, 0.32, 8.0, 20)
    lattice = lattice_of(structure.cell, 4.5, (1, 1, 1))
    found = diffuse_on_lattice(
        lattice, structure.positions, structure.elements, structure.occupancies, Displacements(v)
    ).ravel()
    q, index = nodes_within(lattice)
    mean = found[index].mean()
    low = np.flatnonzero(np.linalg.norm(q, axis=1) < 2 * np.pi / 10)
    assert len(low) > 400
    pick = np.union1d(rng.choice(len(q), 60), low)
    f = form_factors(structure.elements, q[pick], structure.occupancies)
    expected = diffuse_intensity(q[pick], structure.positions, f, v)
    # The compiled direct sum is itself checked by the plain one at a few voxels.
    few = rng.choice(len(pick), 3, replace=False)
    plain = diffuse_sum(q[pick][few], structure.positions, f[few], v)
    assert_allclose(expected[few], plain, rtol=1e-8, atol=1e-8 * mean)
    assert np.abs(found[index][pick] - expected).max() < MAP_ERROR * mean
    assert found[np.ravel_multi_index((*lattice.extent[:2], 0), lattice.shape)] == 0.0


def test_a_real_ensembles_covariance_of_low_rank(shared_data):
    # 116 conformers of 76 Cα of ubiquitin: rank 115 of 228.
    path = shared_data / "ensembles" / "2k39_ca_116models.pdb"
    frames = np.array([[a.pos.tolist() for a in m.all()] for m in _atoms_of(path)])
    assert frames.shape == (116, 76, 3)
    mean = frames.mean(axis=0)
    moves = frames - mean
    v = np.einsum("dix,djy->ijxy", moves, moves) / len(frames)
    structure = read_structure(path, cell=(50, 50, 50, 90, 90, 90)).select("all")
    assert structure.n_atoms == 76
    grid = HklGrid.from_resolution(structure.cell, 5.0)
    found = simulate(structure, Covariance(v), grid).intensity[grid.within()]
    q = grid.q()[grid.within()]
    pick = np.random.default_rng(5).choice(len(q), 120, replace=False)
    f = form_factors(structure.elements, q[pick])
    expected = diffuse_sum(q[pick], structure.positions, f, v)
    assert np.abs(found[pick] - expected).max() < MAP_ERROR * found.mean()


def _atoms_of(path):
    """Each model's atoms."""

    class Model:
        def __init__(self, model):
            self.model = model

        def all(self):
            return [site.atom for site in self.model.all()]

    return [Model(model) for model in gemmi.read_structure(str(path))]


# --- 1 reference numbers -------------------------------------------------


def test_first_order_misses_what_it_is_known_to_miss(shared_data):
    # 2OL9, σ = 0.4 Å, γ = 5 Å: 0.8, 0.6, 0.44 of the exact total for d > 3, 2, 1.5 Å (theory 1.5).
    structure = read_structure(shared_data / "structures" / "2ol9.pdb")
    grid = HklGrid.from_resolution(structure.cell, 1.5)
    exact = simulate(structure, LiquidLike(0.4, 5.0), grid).intensity
    first = simulate(structure, LiquidLike(0.4, 5.0, order=1), grid).intensity
    for d_min, expected in ((3.0, 0.8), (2.0, 0.6), (1.5, 0.44)):
        within = grid.within(d_min)
        assert first[within].sum() / exact[within].sum() == pytest.approx(expected, abs=0.03)


def test_the_refined_model_agrees_with_its_bragg_data(shared_data):
    # 4WOR against the same crystal's intensities, no solvent: R ≈ 0.25, 0.57 when indexed the
    # other way (README of the data). Here, from 10 to 2.25 Å with one scale: 0.223 and 0.571.
    text = (shared_data / "snase" / "bragg" / "snc.hkl").read_text().splitlines()[3:]
    table = np.array(
        [[float(line[i : i + 4]) for i in (0, 4, 8)] + [float(line[12:20])] for line in text]
    )
    structure = read_structure(shared_data / "snase" / "model" / "4wor.pdb")
    grid = HklGrid.from_resolution(structure.cell, 2.2)
    intensity = simulate(structure, Uncorrelated(), grid, "bragg").intensity
    hkl, f_observed = table[:, :3], np.sqrt(np.maximum(table[:, 3], 0.0))

    inv_d = np.linalg.norm(hkl @ structure.cell.frac_matrix, axis=1)

    def r_factor(indices):
        index, inside = grid.index_of(indices)
        inside &= (inv_d > 1 / 10) & (inv_d < 1 / 2.25)
        f_calc = np.sqrt(intensity[tuple(index[inside].T)])
        observed = f_observed[inside]
        assert len(observed) > 5000
        scale = (observed @ f_calc) / (f_calc @ f_calc)
        return np.abs(observed - scale * f_calc).sum() / observed.sum()

    right, wrong = r_factor(hkl), r_factor(hkl[:, [1, 0, 2]])
    assert right == pytest.approx(0.223, abs=0.01)
    assert wrong > 0.5


def test_liquid_like_motions_resemble_the_measured_map(shared_data):
    # 4WOR without waters against the 4/m-averaged map, anisotropic part: CC ≈ 0.65 at the best
    # parameters over 10–1.65 Å, 0.05 for (k, h, l), which is no symmetry (README of the data).
    structure = read_structure(shared_data / "snase" / "model" / "4wor.pdb")
    structure = structure.select("not water and not hydrogen")
    measured = np.load(shared_data / "snase" / "maps" / "snc_map.npz")["snc"]
    axis = np.arange(-31.0, 32.0)
    grid = HklGrid(structure.cell, axis, axis, axis, d_min=3.5)
    computed = simulate(structure, LiquidLike(0.4, 7.0), grid, rtol=1e-3).intensity
    total, count = np.zeros(grid.shape), np.zeros(grid.shape)
    for turns in range(4):
        turned = np.rot90(measured, turns)
        for image in (turned, turned[:, :, ::-1]):
            total += np.nan_to_num(image)
            count += np.isfinite(image)
    wanted = grid.within(3.5, 10.0) & (count > 0) & np.isfinite(computed)
    observed = np.divide(total, count, where=count > 0, out=np.zeros(grid.shape))
    shells = (grid.inv_d() / SHELL).astype(int)[wanted]

    def correlation(calculated):
        anisotropic = []
        for values in (observed[wanted], calculated[wanted]):
            mean = np.bincount(shells, values) / np.maximum(np.bincount(shells), 1)
            anisotropic.append(values - mean[shells])
        return np.corrcoef(*anisotropic)[0, 1]

    assert correlation(computed) > 0.5
    assert abs(correlation(computed.transpose(1, 0, 2))) < 0.25


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["ensembles/2k39_ca_116models.pdb", "trajectories/ala_dipeptide_native.pdb"]
)
def test_files_without_a_crystal_ask_for_a_cell(shared_data, name):
    structure = read_structure(shared_data / name)
    assert structure.cell is None
    with pytest.raises(InputError, match="no unit cell"):
        structure.to_p1()
