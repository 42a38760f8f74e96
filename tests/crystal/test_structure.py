"""Structures: what a PDB or mmCIF file becomes, writing it, all atoms of a cell, selections."""

import gzip
import logging
from dataclasses import replace

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose
from tests.oracles import copies, form_factors, q_of, structure_factor_sum
from tests.strategies import CRYSTALS, random_structure, structures

from offbragg import AtomicStructure, read_structure
from offbragg.crystal.cell import Cell
from offbragg.crystal.writers import write_pdb
from offbragg.errors import FormatError, InputError, MissingFileError

ATOL_PDB_POSITION = 5.1e-4  # Å, half the last digit of a PDB file
ATOL_PDB_U = 7e-5  # Å², half the last digit of ANISOU and float32 in gemmi
RTOL_FLOAT32 = 1e-6  # gemmi holds B, U and occupancy in float32
RTOL_ROUNDING = 1e-10  # the same numbers through other matrices

CRYST1 = "CRYST1   20.000   25.000   30.000  90.00 100.00  90.00 P 1 21 1      2\n"
ATOMS = (
    "ATOM      1  N   ALA A   1       1.000   2.000   3.000  1.00 10.00           N\n"
    "ATOM      2  CA AALA A   1       2.000   3.250   4.000  0.60 12.00           C\n"
    "ANISOU    2  CA AALA A   1     1000   1200   1400    100    -50     20       C\n"
    "ATOM      3  CA BALA A   1       2.500   3.000  -4.125  0.40 12.00           C\n"
    "ATOM      4  H   ALA A   1       2.500   2.000   4.000  1.00 14.40           H\n"
    "HETATM    5 SE   MSE B  -2       8.000   3.000   4.000  1.00 20.00          SE\n"
    "HETATM    6  O   HOH B 101       5.000   6.000   7.000  0.50 30.00           O\n"
)
U_OF_ALTLOC_A = [[0.10, 0.01, -0.005], [0.01, 0.12, 0.002], [-0.005, 0.002, 0.14]]


def pdb(tmp_path, text, name="made.pdb"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture
def made(tmp_path):
    return read_structure(pdb(tmp_path, CRYST1 + ATOMS))


# --- 1 reference numbers -------------------------------------------------


def test_every_field_of_a_small_file(made):
    assert made.cell == Cell(20.0, 25.0, 30.0, 90.0, 100.0, 90.0)
    assert made.space_group == "P 1 21 1"
    assert made.elements.tolist() == ["N", "C", "C", "H", "Se", "O"]
    assert made.names.tolist() == ["N", "CA", "CA", "H", "SE", "O"]
    assert made.residue_names.tolist() == ["ALA"] * 4 + ["MSE", "HOH"]
    assert made.residue_numbers.tolist() == [1, 1, 1, 1, -2, 101]
    assert made.altlocs.tolist() == ["", "A", "B", "", "", ""]
    assert made.chains.tolist() == ["A", "A", "A", "A", "B", "B"]
    assert_allclose(made.positions[2], [2.5, 3.0, -4.125], rtol=1e-12)
    assert_allclose(made.occupancies, [1, 0.6, 0.4, 1, 1, 0.5], rtol=RTOL_FLOAT32)
    # ANISOU where there is one, B/8π² elsewhere.
    assert_allclose(made.u_aniso[1], U_OF_ALTLOC_A, atol=1e-7)
    assert_allclose(made.u_aniso[0], 10 / (8 * np.pi**2) * np.eye(3), rtol=RTOL_FLOAT32)
    assert_allclose(made.u_iso[1], 0.12, rtol=RTOL_FLOAT32)
    assert (len(made), made.n_atoms) == (6, 6)


# --- 2 independent oracle ------------------------------------------------


def gemmi_mmcif(path, space_group="P 1 21 1"):
    """Write the small file's atoms as mmCIF by gemmi."""
    structure = gemmi.read_pdb_string(CRYST1 + ATOMS)
    structure.spacegroup_hm = space_group
    structure.setup_entities()
    structure.make_mmcif_document().write_file(str(path))


@pytest.mark.parametrize("name", ["x.cif", "x.cif.gz", "x.pdb.gz"])
def test_other_forms_of_the_file_give_the_same_numbers(tmp_path, made, name):
    plain = tmp_path / name.removesuffix(".gz")
    if ".cif" in name:
        gemmi_mmcif(plain)
    else:
        plain.write_text(CRYST1 + ATOMS)
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes()))
    other = read_structure(tmp_path / name)
    # gemmi writes residues chain by chain: compare by the atoms' labels.
    order = [sorted(range(6), key=lambda i: s.label(i).split(" (")[0]) for s in (made, other)]
    one, two = made.take(np.array(order[0])), other.take(np.array(order[1]))
    assert (two.cell, two.space_group) == (one.cell, one.space_group)
    assert_allclose(two.positions, one.positions, atol=1e-12)
    assert_allclose(two.u_aniso, one.u_aniso, atol=2e-5)  # mmCIF U is written to 5 digits
    assert_allclose(two.occupancies, one.occupancies, rtol=RTOL_FLOAT32)
    assert two.elements.tolist() == one.elements.tolist()
    assert two.altlocs.tolist() == one.altlocs.tolist()


@settings(deadline=None, derandomize=True, max_examples=20)
@given(structure=structures(4))
def test_all_atoms_of_the_cell_scatter_as_the_sum_over_operations(structure):
    # Oracle: F_cell(h) = Σ over explicit copies; whole cells do not change F at integer hkl.
    hkl = np.array([[1, 0, 0], [0, 2, -1], [3, -2, 1], [-2, 1, 4], [2, 2, 2]])
    q = q_of(hkl, structure.cell)
    f = form_factors(structure.elements, q, structure.occupancies)
    diagonal = np.zeros((4, 4, 3, 3))
    diagonal[range(4), range(4)] = structure.u_aniso
    moved = copies(structure.positions, diagonal, structure.cell, structure.space_group)
    expected = sum(
        structure_factor_sum(q, positions, f, v[range(4), range(4)]) for positions, v in moved
    )
    every = structure.to_p1()
    assert every.space_group == "P 1"
    assert every.n_atoms == 4 * len(moved)
    f_every = form_factors(every.elements, q, every.occupancies)
    found = structure_factor_sum(q, every.positions, f_every, every.u_aniso)
    assert_allclose(found, expected, atol=RTOL_ROUNDING * np.abs(f_every).sum(axis=1).max())


# --- 3 exact limits ------------------------------------------------------


def test_altlocs_waters_and_hydrogens_are_kept(made):
    assert made.select("water").n_atoms == 1
    assert made.select("hydrogen").n_atoms == 1
    assert made.select("altloc A B").occupancies.sum() == pytest.approx(1.0)


def test_no_space_group_means_p1(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        structure = read_structure(pdb(tmp_path, CRYST1[:54] + "\n" + ATOMS))
    assert structure.space_group == "P 1"
    assert "no space group given, P 1 is used" in caplog.text


@pytest.mark.parametrize(
    "first",
    ["", "CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1           1\n"],
    ids=["no CRYST1", "dummy CRYST1"],
)
def test_a_file_without_a_crystal_needs_a_cell_where_one_is_needed(tmp_path, first):
    path = pdb(tmp_path, first + ATOMS)
    assert read_structure(path).cell is None
    with pytest.raises(InputError, match="the structure has no unit cell: give one"):
        read_structure(path).to_p1()
    given_one = read_structure(path, cell=(30, 30, 40, 90, 90, 90), space_group="P 41")
    assert given_one.cell == Cell(30.0, 30.0, 40.0, 90.0, 90.0, 90.0)
    assert given_one.to_p1().n_atoms == 24


@pytest.mark.parametrize(
    "cell",
    [
        "30 31 32 90 91 90",
        [30, 31, 32, 90, 91, 90],
        Cell(30.0, 31.0, 32.0, 90.0, 91.0, 90.0),
        np.array([30, 31, 32, 90, 91, 90]),
        gemmi.UnitCell(30, 31, 32, 90, 91, 90),
    ],
    ids=lambda x: type(x).__name__,
)
def test_the_arguments_overrule_the_file(tmp_path, cell):
    structure = read_structure(pdb(tmp_path, CRYST1 + ATOMS), cell=cell, space_group="P 1")
    assert structure.cell == Cell(30.0, 31.0, 32.0, 90.0, 91.0, 90.0)
    assert structure.space_group == "P 1"


def test_a_given_cell_replaces_one_that_cannot_be(tmp_path):
    path = pdb(tmp_path, CRYST1.replace(" 20.000", "-20.000") + ATOMS)
    assert read_structure(path, cell=(20, 25, 30, 90, 100, 90)).cell.a == 20.0


@pytest.mark.parametrize(
    ("cryst1", "symbol", "n_operations"),
    [
        ("CRYST1   50.000   50.000   60.000  90.00  90.00 120.00 H 3           9\n", "R 3:H", 9),
        ("CRYST1   50.000   50.000   60.000  90.00  90.00 120.00 R 3           9\n", "R 3:H", 9),
        ("CRYST1   50.000   50.000   50.000  80.00  80.00  80.00 R 3           3\n", "R 3:R", 3),
    ],
)
def test_r3_follows_the_axes(tmp_path, cryst1, symbol, n_operations):
    structure = read_structure(pdb(tmp_path, cryst1 + ATOMS))
    assert structure.space_group == symbol
    assert structure.to_p1().n_atoms == 6 * n_operations


def test_symmetry_in_remarks_is_not_read(tmp_path, made):
    remark = (
        "REMARK 290   SYMMETRY OPERATORS FOR SPACE GROUP: P 41\n"
        "REMARK 290   SMTRY1   2  0.000000 -1.000000  0.000000        0.00000\n"
    )
    structure = read_structure(pdb(tmp_path, remark + CRYST1 + ATOMS, "remark.pdb"))
    assert structure.space_group == made.space_group
    assert np.array_equal(structure.positions, made.positions)


def test_the_first_of_several_models_is_read_and_said(tmp_path, caplog):
    second = ATOMS.replace("   1.000   2.000", "  -1.000   2.000")
    text = f"{CRYST1}MODEL        1\n{ATOMS}ENDMDL\nMODEL        2\n{second}ENDMDL\n"
    with caplog.at_level(logging.WARNING):
        structure = read_structure(pdb(tmp_path, text))
    assert structure.positions[0, 0] == 1.0
    assert "2 models, the first is used" in caplog.text


def test_copies_of_one_atom_by_hand():
    # P 2₁ along b: (x, y, z) and (−x, y + 1/2, −z), each into the cell.
    structure = AtomicStructure(
        cell=(10, 20, 30, 90, 90, 90),
        space_group="P 1 21 1",
        positions=np.array([[1.0, 14.0, 3.0]]),
        elements=np.array(["C"]),
        occupancies=np.ones(1),
        u_aniso=np.array([[[0.1, 0.02, 0.03], [0.02, 0.2, 0.04], [0.03, 0.04, 0.3]]]),
    )
    every = structure.to_p1()
    assert_allclose(every.positions, [[1, 14, 3], [9, 4, 27]], atol=1e-12)
    # A two-fold along y turns the sign of xy and yz.
    expected = [[0.1, -0.02, 0.03], [-0.02, 0.2, -0.04], [0.03, -0.04, 0.3]]
    assert_allclose(every.u_aniso[1], expected, atol=1e-15)
    assert structure.copies.tolist() == [0]
    assert every.copies.tolist() == [0, 1]


def test_copies_keep_their_numbers():
    cell, group = CRYSTALS["monoclinic"][0], CRYSTALS["monoclinic"][1][0]
    structure = random_structure(np.random.default_rng(2), 3, cell, group)
    every = structure.to_p1()
    n_copies = every.n_atoms // 3
    assert n_copies > 1
    assert every.copies.dtype == np.int64
    assert every.copies.tolist() == np.repeat(np.arange(n_copies), 3).tolist()
    assert every.to_p1().copies.tolist() == every.copies.tolist()
    assert every.take(np.array([4, 0])).copies.tolist() == [1, 0]
    carbons = every.elements == "C"
    assert every.select("element C").copies.tolist() == every.copies[carbons].tolist()
    # Copies of what are copies already are all told apart.
    again = replace(every, space_group=group).to_p1()
    assert again.copies.tolist() == np.repeat(np.arange(n_copies**2), 3).tolist()


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=25)
@given(structure=structures(4))
def test_copies_are_whole_and_their_centroids_in_the_cell(structure):
    every = structure.to_p1()
    frac = np.linalg.inv(structure.cell.orth_matrix)
    distances = np.linalg.norm(structure.positions[:, None] - structure.positions, axis=-1)
    for start in range(0, every.n_atoms, 4):
        copy = every.positions[start : start + 4]
        assert_allclose(
            np.linalg.norm(copy[:, None] - copy, axis=-1), distances, atol=RTOL_ROUNDING * 40
        )
        centroid = (copy @ frac.T).mean(axis=0)
        assert np.all((centroid >= -1e-12) & (centroid < 1 + 1e-12))
        assert_allclose(
            np.linalg.eigvalsh(every.u_aniso[start : start + 4]),
            np.linalg.eigvalsh(structure.u_aniso),
            atol=RTOL_ROUNDING,
        )
    assert every.elements.tolist() == structure.elements.tolist() * (every.n_atoms // 4)
    assert every.occupancies.sum() == pytest.approx(
        structure.occupancies.sum() * (every.n_atoms // 4)
    )


def test_the_structure_itself_is_not_changed():
    structure = random_structure(np.random.default_rng(1), 5, *_tetragonal())
    before = structure.positions.copy(), structure.u_aniso.copy()
    structure.to_p1()
    structure.select("element C")
    assert np.array_equal(structure.positions, before[0])
    assert np.array_equal(structure.u_aniso, before[1])


def _tetragonal():
    cell, groups = CRYSTALS["tetragonal"]
    return cell, groups[1]


def test_atoms_keep_the_order_of_the_file(tmp_path):
    # Waters of chain A after chain B, as in most PDB files: matrices and frames go by this order.
    lines = ATOMS.splitlines(keepends=True)
    water_of_a = lines[6].replace("HOH B", "HOH A")
    structure = read_structure(pdb(tmp_path, CRYST1 + lines[0] + lines[5] + water_of_a))
    assert structure.names.tolist() == ["N", "SE", "O"]
    assert structure.chains.tolist() == ["A", "B", "A"]


def test_atoms_are_taken_in_the_order_asked_for(made):
    taken = made.take(np.array([5, 0]))
    assert taken.names.tolist() == ["O", "N"]
    assert taken.cell == made.cell
    assert made.take(made.elements == "C").n_atoms == 2


def test_a_written_file_reads_back(tmp_path, made):
    write_pdb(tmp_path / "out.pdb", made)
    back = read_structure(tmp_path / "out.pdb")
    assert (back.cell, back.space_group) == (made.cell, made.space_group)
    order = [made.names.tolist().index(n) if n != "CA" else -1 for n in back.names]
    order = [1 + (a == "B") if i < 0 else i for i, a in zip(order, back.altlocs, strict=True)]
    expected = made.take(np.array(order))
    for name in ("elements", "names", "residue_names", "residue_numbers", "chains", "altlocs"):
        assert getattr(back, name).tolist() == getattr(expected, name).tolist(), name
    assert_allclose(back.positions, expected.positions, atol=ATOL_PDB_POSITION)
    assert_allclose(back.u_aniso, expected.u_aniso, atol=ATOL_PDB_U)
    assert_allclose(back.occupancies, expected.occupancies, atol=5.1e-3)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@settings(deadline=None, derandomize=True, max_examples=15)
@given(structure=structures(6))
def test_made_structures_survive_writing_in_every_space_group(tmp_path_factory, structure):
    path = tmp_path_factory.mktemp("written") / "x.pdb"
    write_pdb(path, structure)
    back = read_structure(path)
    assert back.space_group == structure.space_group
    assert_allclose(back.cell, structure.cell, atol=1e-3)
    assert_allclose(back.positions, structure.positions, atol=ATOL_PDB_POSITION)
    assert_allclose(back.u_aniso, structure.u_aniso, atol=ATOL_PDB_U)
    assert back.elements.tolist() == structure.elements.tolist()


# --- 5 errors ------------------------------------------------------------


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"nowhere\.pdb: no such file"):
        read_structure(tmp_path / "nowhere.pdb")
    with pytest.raises(MissingFileError, match="no such file"):
        read_structure(tmp_path)


FIRST_ATOM = ATOMS.splitlines(keepends=True)[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.pdb", "", "found no atoms"),
        ("x.pdb", "hello\nworld\n", "found no atoms"),
        ("x.pdb", bytes(range(256)) * 20, "found no atoms"),
        ("x.cif", "hello\nworld\n", "not a PDB or mmCIF structure"),
        ("x.cif", bytes(range(256)) * 20, "not a PDB or mmCIF structure"),
        ("x.cif", "", "no atoms|not a PDB or mmCIF structure"),
        ("x.cif", "data_x\n_cell.length_a 10\n", "no atoms|not a PDB or mmCIF structure"),
        ("x.json", "{}", "no atoms|not a PDB or mmCIF structure"),
        ("x.csv", CRYST1 + ATOMS, "not a PDB or mmCIF structure"),
        ("x.pdb.gz", b"not gzip", "no atoms|not a PDB or mmCIF structure"),
        ("x.pdb", CRYST1.replace("P 1 21 1", "P 9 9 9 ") + ATOMS, "no such symbol 'P 9 9 9'"),
        ("x.pdb", CRYST1 + FIRST_ATOM[:76] + "QQ\n", "element: not known"),
        ("x.pdb", CRYST1 + FIRST_ATOM[:76] + " X\n", "element: not known"),
        ("x.pdb", CRYST1 + FIRST_ATOM.replace("  1.00 10", " -1.00 10"), "occupancy: expected >="),
        ("x.pdb", CRYST1 + FIRST_ATOM.replace(" 10.00", " -9.00"), "B or U: expected >= 0"),
        ("x.pdb", CRYST1 + FIRST_ATOM.replace("   1.000", "     nan"), "position: expected finite"),
        ("x.pdb", CRYST1 + FIRST_ATOM[:40] + "\n", "not a PDB or mmCIF structure"),
        ("x.pdb", CRYST1.replace(" 20.000", "-20.000") + ATOMS, "cell must have edges > 0"),
        ("x.pdb", CRYST1.replace(" 20.000", " xx.xxx") + ATOMS, "cell must have edges > 0"),
        ("x.pdb", (CRYST1 + ATOMS).encode().replace(b" N  ", b" \xe9  "), "x.pdb"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_right_is_named_in_one_line(tmp_path, name, content, message):
    path = pdb(tmp_path, content, name)
    with pytest.raises(FormatError, match=message) as caught:
        read_structure(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text


def test_an_unknown_space_group_argument_is_named(tmp_path):
    with pytest.raises(InputError, match="got 'Q 7'"):
        read_structure(pdb(tmp_path, CRYST1 + ATOMS), space_group="Q 7")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("positions", np.zeros((2, 2)), r"positions must have shape \(2, 3\), got \(2, 2\)"),
        ("elements", np.array(["C"]), r"elements must have shape \(2,\), got \(1,\)"),
        ("u_aniso", np.zeros((2, 3)), r"u_aniso must have shape \(2, 3, 3\), got \(2, 3\)"),
        ("occupancies", np.ones(3), r"occupancies must have shape \(2,\), got \(3,\)"),
        ("occupancies", np.array([1.0, -0.5]), r"occupancies must be at least 0, got -0\.5"),
        ("copies", np.zeros(3, dtype=int), r"copies must have shape \(2,\), got \(3,\)"),
        ("names", np.array(["CA"]), r"names must have shape \(2,\), got \(1,\)"),
        ("space_group", "P 7", "space group must be"),
        ("cell", (10, 20), "cell must be six numbers"),
        ("positions", np.array([[0, 0, 0], [0, 0, np.nan]]), "positions must be finite"),
        ("occupancies", np.array([1.0, np.nan]), "occupancies must be finite"),
        ("u_aniso", np.full((2, 3, 3), np.inf), "u_aniso must be finite"),
    ],
)
def test_arrays_that_cannot_be_are_named(name, value, message):
    arguments = {
        "cell": (10, 10, 10, 90, 90, 90),
        "space_group": "P 1",
        "positions": np.zeros((2, 3)),
        "elements": np.array(["C", "N"]),
        "occupancies": np.ones(2),
        "u_aniso": np.zeros((2, 3, 3)),
    }
    with pytest.raises(InputError, match=message):
        AtomicStructure(**{**arguments, name: value})


def test_a_selection_of_nothing_is_an_error(made):
    with pytest.raises(InputError, match="selection 'chain Z' names none of 6 atoms"):
        made.select("chain Z")
