"""A made crystal and experiment: packing, symmetry, the way through a file, and coverage."""

from dataclasses import replace

import gemmi
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from offbragg.crystal.grid import HklGrid
from offbragg.crystal.structure import read_structure
from offbragg.crystal.symmetry import laue_rotations, rotate_hkl
from offbragg.crystal.writers import write_pdb
from offbragg.errors import InputError
from offbragg.made_crystal import make_experiment, make_peptide, nearest_contact

ATOL_FLOAT32 = 1e-5  # [Å] gemmi's contacts come from float32 arithmetic
ATOL_B = 0.0051 / (8 * np.pi**2)  # [Å²] a PDB file has two digits of B
RTOL_ROUNDING = 1e-12


@pytest.fixture(scope="module")
def peptide():
    return make_peptide()


@pytest.fixture(scope="module")
def experiment(peptide):
    return make_experiment(peptide.cell, peptide.space_group)


def covered(grid, experiment, step):
    """Voxels that pixel centres at mid-angles fall in, and all their Laue mates."""
    hit = np.zeros(grid.shape, dtype=bool)
    positions = [panel.pixel_positions()[::step, ::step] for panel in experiment.detector]
    for image in range(0, experiment.n_images, step):
        for position in positions:
            index, inside = grid.index_of(experiment.hkl_of(position, image))
            hit[tuple(index[inside].T)] = True
    mates = hit.copy()
    for rotation in laue_rotations(experiment.crystal.space_group):
        index, _ = grid.index_of(rotate_hkl(grid.hkl(), rotation))
        mates |= hit[tuple(np.moveaxis(index, -1, 0))]
    return hit, mates


# --- 1 reference numbers -------------------------------------------------


def test_the_default_crystal_is_the_same_everywhere(peptide):
    # As first made; a change here changes the demo and every figure made from it.
    assert peptide.cell == (21.0, 26.0, 12.5, 90.0, 100.0, 90.0)
    assert peptide.space_group == "P 1 21 1"
    assert peptide.n_atoms == 105
    # By hand: 16 backbones of N, CA, C, O and one OXT; 2 Ser and 1 Asp with O, 1 Lys with N.
    counts = {name: int(np.sum(peptide.elements == name)) for name in "CNOS"}
    assert counts == {"C": 64, "N": 17, "O": 21, "S": 3}
    assert_allclose(peptide.positions[0], [10.364, -11.757, 3.548], atol=0.0011)
    # 2 chains of 105 atoms: as densely packed as real crystals (V_M near 2.3 Å³/Da).
    weight = sum(gemmi.Element(str(name)).weight for name in peptide.elements)
    assert 2.0 < peptide.cell.volume / (2 * weight) < 2.6


# --- 2 independent oracle ------------------------------------------------


def test_contacts_are_those_gemmi_finds(tmp_path, peptide):
    write_pdb(tmp_path / "x.pdb", peptide)
    model = gemmi.read_structure(str(tmp_path / "x.pdb"))
    search = gemmi.NeighborSearch(model[0], model.cell, 6.0).populate()
    contacts = gemmi.ContactSearch(6.0)
    contacts.ignore = gemmi.ContactSearch.Ignore.SameAsu
    closest = min(contact.dist for contact in contacts.find_contacts(search))
    assert_allclose(nearest_contact(peptide), closest, atol=ATOL_FLOAT32)
    assert closest > 3.4


def test_a_lone_atom_meets_its_own_copies(peptide):
    # By hand: an atom 1 Å from a twofold axis along b at x = z = 0, and from a 2₁ axis, which
    # takes it 2 Å across and b/2 = 4 Å along.
    cell, lone = (30.0, 8.0, 40.0, 90.0, 90.0, 90.0), peptide.take(np.array([0]))
    for space_group, distance in (
        ("P 1 2 1", 2.0),
        ("P 1 21 1", np.sqrt(4.0**2 + 2.0**2)),
        ("P 1", 8.0),
    ):
        at = np.array([[1.0, 5.0, 0.0]])
        placed = replace(lone, cell=cell, space_group=space_group, positions=at)
        assert_allclose(nearest_contact(placed), distance, rtol=RTOL_ROUNDING)
        assert nearest_contact(placed, cutoff=0.9 * distance) == np.inf


# --- 3 exact limits ------------------------------------------------------


def test_a_given_cell_and_u_are_used():
    u = np.array([[0.3, 0.05, 0.0], [0.05, 0.2, -0.02], [0.0, -0.02, 0.1]])
    cell = (30.0, 40.0, 20.0, 90.0, 105.0, 90.0)
    peptide = make_peptide("GAMCS", cell=cell, u=u)
    assert peptide.cell == cell
    assert_array_equal(peptide.u_aniso, np.tile(u, (peptide.n_atoms, 1, 1)))
    assert_array_equal(make_peptide("GA", u=0.25).u_aniso[0], 0.25 * np.eye(3))
    centre = peptide.positions.mean(axis=0) @ peptide.cell.frac_matrix.T
    assert_allclose(centre, [0.25, 0.0, 0.25], atol=1e-3)


def test_shorter_edges_would_bring_copies_closer_than_allowed():
    peptide = make_peptide("GASVK", min_contact=3.0)
    assert nearest_contact(peptide) >= 3.0
    edges = np.array(peptide.cell[:3])
    assert np.all(edges % 0.5 == 0)
    with pytest.raises(InputError, match=r"cell must keep copies 3 Å apart, got \d.\d\d Å"):
        make_peptide("GASVK", cell=(edges[0] - 0.5, *peptide.cell[1:]), min_contact=3.0)


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("u", [0.2, [[0.3, 0.05, 0.0], [0.05, 0.2, -0.02], [0.0, -0.02, 0.1]]])
def test_the_crystal_goes_through_a_pdb_file(tmp_path, u):
    made = make_peptide(u=u)
    write_pdb(tmp_path / "made.pdb", made)
    back = read_structure(tmp_path / "made.pdb")
    assert back.cell == made.cell
    assert back.space_group == made.space_group
    # Made positions have the three digits of the file, so nothing is lost.
    assert_allclose(back.positions, made.positions, atol=1e-9)
    assert_allclose(back.u_aniso, made.u_aniso, atol=1e-6 if np.ndim(u) else ATOL_B)
    for name in ("elements", "names", "residue_names", "residue_numbers", "chains"):
        assert_array_equal(getattr(back, name), getattr(made, name))


def test_nearly_all_of_the_sphere_is_measured(peptide, experiment):
    grid = HklGrid.from_resolution(peptide.cell, 2.0, 3)
    # Every third pixel of every third image is enough, and quicker.
    once, mates = covered(grid, experiment, step=3)
    inside, inv_d = grid.within(), grid.inv_d()
    for low in np.arange(0.0, 0.5, 0.1):
        shell = inside & (inv_d > low) & (inv_d <= low + 0.1)
        assert mates[shell].mean() > 0.99
    # Without its mates a voxel may lie in the blind cone, and often no pixel's centre meets it.
    assert once[inside].mean() < mates[inside].mean()


def test_the_detector_is_what_it_says(experiment):
    left, right = experiment.detector
    assert (left.shape, right.shape) == ((256, 128), (256, 128))
    tilt = np.degrees(np.arccos(abs(left.normal @ right.normal)))
    assert 1.0 < tilt < 10.0
    edges = np.concatenate(
        [left.pixel_positions()[:, 0], right.pixel_positions()[:, -1]]
        + [panel.pixel_positions()[row] for panel in (left, right) for row in (0, -1)]
    )
    cosine = edges @ experiment.beam.direction / np.linalg.norm(edges, axis=1)
    d = experiment.beam.wavelength / (2 * np.sin(0.5 * np.arccos(cosine)))
    assert d.max() < 2.03  # the whole edge reaches d_min, but for a pixel or so
    assert 1.9 < d.max()
    # The panels do not overlap: a gap of two pixels stands between their inner edges.
    gap = right.pixel_positions()[:, 0, 0] - left.pixel_positions()[:, -1, 0]
    assert np.all(gap > 0.3 * 1.2)


def test_the_experiment_has_the_crystal_and_the_rotation(peptide, experiment):
    assert_allclose(experiment.crystal.cell, peptide.cell, rtol=RTOL_ROUNDING)
    assert experiment.crystal.space_group == "P 1 21 1"
    assert (experiment.n_images, experiment.beam.wavelength) == (180, 0.9763)
    assert_allclose(np.degrees(experiment.angles()[[0, -1]]), [[0, 1], [179, 180]], atol=1e-9)
    # No axis of the crystal is near the rotation axis, nor across it.
    axes = np.linalg.inv(experiment.crystal.a_matrix)
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    angles = np.degrees(np.arccos(np.abs(axes @ experiment.goniometer.rotation_axis)))
    assert np.all((angles > 10) & (angles < 80))


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sequence": "GAZ"}, r"sequence must be made of G A S .* got 'GAZ'"),
        ({"u": -0.1}, r"u must be >= 0 Å² or a positive 3×3 matrix, got -0.1"),
        ({"u": [[1, 2, 0], [0, 1, 0], [0, 0, 1]]}, r"u must be >= 0 Å²"),
        ({"u": [0.1, 0.2]}, r"u must be >= 0 Å²"),
        ({"cell": (40, 40, 40, 80, 100, 90)}, r"cell must have alpha = gamma = 90°"),
        ({"cell": (15, 26, 12.5, 90, 100, 90)}, r"cell must keep copies 3.4 Å apart, got"),
    ],
)
def test_a_wrong_argument_of_the_peptide_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        make_peptide(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_pixels": 33}, r"n_pixels must be even and >= 32, got 33"),
        ({"n_pixels": 8}, r"n_pixels must be even and >= 32, got 8"),
        ({"d_min": 0.6}, r"d_min must be > wavelength / √2 = 0.690 Å, got 0.6"),
        ({"d_min": np.nan}, r"d_min must be > wavelength"),
        ({"n_images": 0}, r"image_range must be first <= last"),
    ],
)
def test_a_wrong_argument_of_the_experiment_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        make_experiment((20, 30, 40, 90, 100, 90), **arguments)
