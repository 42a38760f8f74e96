"""TLS groups of files: U against gemmi, selections of every program, round trips, errors."""

import gzip
import logging
from dataclasses import replace

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from offbragg.crystal.cell import Cell
from offbragg.crystal.structure import AtomicStructure, read_structure
from offbragg.crystal.tls import (
    TlsGroup,
    add_tls_to_adps,
    are_adps_residual,
    read_tls_groups,
    tls_remarks,
)
from offbragg.crystal.tls_selection import mask_of_selection, residue_ranges
from offbragg.crystal.writers import write_pdb
from offbragg.errors import FormatError, InputError, MissingFileError

DEGREE = np.pi / 180
RTOL_ROUNDING = 1e-12  # a few products of 3 × 3 matrices
LAST_DIGIT = 0.5001e-4  # files hold four decimals, of Å, Å², deg² and Å·deg

CHAINS = "AAAAAABBBBBB"
NUMBERS = (1, 2, 3, 4, 5, 101, 1, 2, 3, 4, 5, 101)
RESIDUES = ("ALA", "GLY", "SER", "LEU", "VAL", "HOH") * 2

GROUP = """\
REMARK   3   TLS GROUP :     {number}
REMARK   3    NUMBER OF COMPONENTS GROUP :    1
REMARK   3    COMPONENTS        C SSSEQI   TO  C SSSEQI
{selection}
REMARK   3    ORIGIN FOR THE GROUP (A):  10.1250   2.5000  -7.3450
REMARK   3    T TENSOR
REMARK   3      T11:   0.0445 T22:   0.0394
REMARK   3      T33:   0.0759 T12:   0.0073
REMARK   3      T13:  -0.0019 T23:  -0.0026
REMARK   3    L TENSOR
REMARK   3      L11:  13.1084 L22:   2.4087
REMARK   3      L33:   1.4695 L12:   0.0456
REMARK   3      L13:   0.0685 L23:  -0.0388
REMARK   3    S TENSOR
REMARK   3      S11:  -0.0063 S12:   0.0233 S13:   0.0090
REMARK   3      S21:   0.0417 S22:  -0.0071 S23:   0.0132
REMARK   3      S31:  -0.0008 S32:  -0.0002 S33:   0.0134
REMARK   3
"""
RANGE_A = "REMARK   3    RESIDUE RANGE :   A     1        A     3"


def example_structure():
    """Two chains of five residues and a water, one atom each, in a cell [Å, Å²]."""
    rng = np.random.default_rng(1)
    return AtomicStructure(
        cell=Cell(30.0, 40.0, 50.0, 90.0, 90.0, 90.0),
        space_group="P 1",
        positions=rng.uniform(-10, 10, (12, 3)).round(3),
        elements=np.array(["C"] * 12),
        occupancies=np.ones(12),
        u_aniso=np.tile(0.2 * np.eye(3), (12, 1, 1)),
        names=np.array(["CA"] * 5 + ["O"] + ["CA"] * 5 + ["O"]),
        residue_names=np.array(RESIDUES),
        residue_numbers=np.array(NUMBERS),
        chains=np.array(list(CHAINS)),
    )


@pytest.fixture
def structure():
    return example_structure()


def pdb_file(tmp_path, structure, remarks, name="made.pdb"):
    """A PDB file of the structure, with remarks as programs write them."""
    path = tmp_path / name
    write_pdb(path, structure)
    header = "REMARK   3  DATA USED IN REFINEMENT.\n" + remarks
    path.write_text(header + path.read_text())
    return path


def random_group(seed, atoms=(0, 1, 2), selection="A 1 - A 3"):
    """A group of a possible motion, about 0.1 Å² and 2 deg²."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(6, 9))
    scale = np.sqrt(np.array([0.1] * 3 + [2.0 * DEGREE**2] * 3) / 9)
    m = scale[:, None] * (factor @ factor.T) * scale
    origin = rng.uniform(-20, 20, 3)
    return TlsGroup(selection, np.array(atoms), m[:3, :3], m[3:, 3:], m[3:, :3], origin)


def gemmi_groups(path):
    """TLS groups as gemmi reads them, in the units of files."""
    read = gemmi.read_structure(str(path))
    return [group for refinement in read.meta.refinement for group in refinement.tls_groups]


# --- 1 reference numbers -------------------------------------------------


def test_numbers_are_turned_into_radians(tmp_path, structure):
    path = pdb_file(tmp_path, structure, GROUP.format(number=1, selection=RANGE_A))
    (group,) = read_tls_groups(path, structure)
    assert group.selection == "A 1 - A 3"
    assert group.atoms.tolist() == [0, 1, 2]
    assert_allclose(group.origin, [10.125, 2.5, -7.345])
    t = [[0.0445, 0.0073, -0.0019], [0.0073, 0.0394, -0.0026], [-0.0019, -0.0026, 0.0759]]
    assert_allclose(group.translation, t)
    # 13.1084 deg² = 13.1084 × (π/180)² = 0.0039931… rad².
    assert group.libration[0, 0] == pytest.approx(3.99307e-3, rel=1e-5)
    assert_allclose(group.libration[0, 1] / DEGREE**2, 0.0456)
    s = [[-0.0063, 0.0233, 0.009], [0.0417, -0.0071, 0.0132], [-0.0008, -0.0002, 0.0134]]
    assert_allclose(group.screw, np.array(s) * DEGREE)


def test_the_layout_of_a_group(structure):
    group = random_group(2)
    fixed = replace(
        group, translation=np.diag([0.1, 0.2, 0.3]), libration=np.eye(3) * DEGREE**2,
        screw=np.array([[0, 0.5, 0], [-0.25, 0, 0], [0, 0, 0]]) * DEGREE,
        origin=np.array([1.0, -20.0, 100.0]),
    )  # fmt: skip
    lines = tls_remarks([fixed]).splitlines()
    assert {len(line) for line in lines} == {80}
    found = [line.rstrip() for line in lines]
    assert found[1:3] == ["REMARK   3  TLS DETAILS", "REMARK   3   NUMBER OF TLS GROUPS  :    1"]
    for expected in (
        RANGE_A,
        "REMARK   3    ORIGIN FOR THE GROUP (A):   1.0000 -20.0000 100.0000",
        "REMARK   3      T11:   0.1000 T22:   0.2000",
        "REMARK   3      L33:   1.0000 L12:   0.0000",
        "REMARK   3      S11:   0.0000 S12:   0.5000 S13:   0.0000",
        "REMARK   3      S21:  -0.2500 S22:   0.0000 S23:   0.0000",
    ):
        assert expected in found


# --- 2 independent oracle ------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=20)
@given(seed=st.integers(0, 999))
def test_u_is_what_gemmi_makes_of_the_group(seed):
    group = random_group(seed)
    positions = np.random.default_rng(seed).uniform(-30, 30, (5, 3))
    other = gemmi.TlsGroup()
    order = ([0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2])
    other.T = gemmi.SMat33d(*group.translation[order])
    other.L = gemmi.SMat33d(*(group.libration[order] / DEGREE**2))
    other.S = gemmi.Mat33((group.screw / DEGREE).tolist())
    other.origin = gemmi.Position(*group.origin)
    expected = [
        gemmi.calculate_u_from_tls(other, gemmi.Position(*x)).as_mat33().tolist() for x in positions
    ]
    assert_allclose(group.u_aniso(positions), expected, rtol=1e-9, atol=1e-12)
    transposed = replace(group, screw=group.screw.T).u_aniso(positions)
    assert np.abs(transposed - expected).max() > 1e-3


def test_u_is_what_small_rigid_motions_give():
    # Displacements t + λ × (r − r_0) with (t, λ) drawn from [[T, Sᵀ], [S, L]].
    group, rng, n_draws = random_group(3), np.random.default_rng(4), 40_000
    m = np.block([[group.translation, group.screw.T], [group.screw, group.libration]])
    drawn = rng.normal(size=(n_draws, 6)) @ np.linalg.cholesky(m).T
    position = np.array([5.0, -8.0, 3.0])
    moves = drawn[:, :3] + np.cross(drawn[:, 3:], position - group.origin)
    u = group.u_aniso(position[None])[0]
    own = np.diag(u)
    standard_error = np.sqrt((np.outer(own, own) + u**2) / n_draws)
    assert np.all(np.abs(u - moves.T @ moves / n_draws) < 5 * standard_error)


def test_a_files_u_is_gemmis_with_the_files_own_numbers(tmp_path, structure):
    remarks = GROUP.format(number=1, selection=RANGE_A)
    path = pdb_file(tmp_path, structure, remarks)
    (group,) = read_tls_groups(path, structure)
    (other,) = gemmi_groups(path)
    for atom in range(12):
        position = structure.positions[atom]
        expected = gemmi.calculate_u_from_tls(other, gemmi.Position(*position)).as_mat33()
        assert_allclose(group.u_aniso(position[None])[0], expected.tolist(), rtol=1e-10)


def test_mmcif_holds_the_same_groups(tmp_path, structure):
    # gemmi writes the mmCIF from the PDB.
    remarks = GROUP.format(number=1, selection=RANGE_A)
    remarks += GROUP.format(
        number=2, selection="REMARK   3    SELECTION: CHAIN B AND (RESID 2:3 OR RESID 5)"
    )
    path = pdb_file(tmp_path, structure, remarks)
    document = gemmi.read_structure(str(path)).make_mmcif_document()
    cif = tmp_path / "made.cif"
    document.write_file(str(cif))
    from_pdb, from_cif = read_tls_groups(path, structure), read_tls_groups(cif, structure)
    assert len(from_pdb) == len(from_cif) == 2
    assert from_pdb[1].atoms.tolist() == [7, 8, 10]
    for one, other in zip(from_pdb, from_cif, strict=True):
        assert one.selection == other.selection
        assert one.atoms.tolist() == other.atoms.tolist()
        for name in ("translation", "libration", "screw", "origin"):
            assert_allclose(getattr(one, name), getattr(other, name), rtol=RTOL_ROUNDING)
    assert read_structure(cif).n_atoms == 12


def test_a_gzipped_file_is_read(tmp_path, structure):
    path = pdb_file(tmp_path, structure, GROUP.format(number=1, selection=RANGE_A))
    packed = tmp_path / "made.pdb.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_tls_groups(packed, structure)[0].atoms.tolist() == [0, 1, 2]


# Selections: what REFMAC, phenix.refine and BUSTER write.

ALL_A, ALL_B = [0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]


@pytest.mark.parametrize(
    ("text", "atoms"),
    [
        ("all", ALL_A + ALL_B),
        ("chain A", ALL_A),
        ("(CHAIN  A)", ALL_A),
        ("chain 'A' and (resid    2  through   4 )", [1, 2, 3]),
        ('chain "B" and resid 2 through 4', [7, 8, 9]),
        ("CHAIN A AND (RESID 1:2, 4:5)", [0, 1, 3, 4]),
        ("CHAIN B AND RESSEQ 4-5", [9, 10]),
        ("(CHAIN A AND RESIDUES 4 - 9)", [3, 4]),
        ("chain A, B and name 'O'", [5, 11]),
        ("(chain A and resid 1:2) or (chain B and resid 5)", [0, 1, 10]),
        ("chain A and resid 4:", [3, 4, 5]),
        ("chain A and resid :2", [0, 1]),
        ("chain A and resid -3:2", [0, 1]),
        ("chain B and not (resname HOH or name CB)", [6, 7, 8, 9, 10]),
        ("not water and chain A", [0, 1, 2, 3, 4]),
        ("resid 1 or resid 2 and chain B", [0, 6, 7]),  # and before or
        ("A 1 - A 3", [0, 1, 2]),
        ("(A1-A3,A5-A5, B2)", [0, 1, 2, 4, 7]),
        ("(A2-4)", [1, 2, 3]),
        ("( A:2 - A:4 )", [1, 2, 3]),
        ("(CHAIN A:2-4)", [1, 2, 3]),
        ("(CHAIN A 2-4)", [1, 2, 3]),
        ("{ B|2 - B|4 }", [7, 8, 9]),
        ("{ A|1 - A|2 B|4 - B|5 A|5 }", [0, 1, 4, 9, 10]),
        ("{ B|* }", ALL_B),
        ("A -5 - A 1", [0]),
    ],
)
def test_selections_name_their_atoms(structure, text, atoms):
    assert np.flatnonzero(mask_of_selection(text, structure)).tolist() == atoms


@pytest.mark.parametrize("chain", ["AAA", "1", "x"])
def test_chains_may_be_long_or_numbers(structure, chain):
    named = replace(structure, chains=np.array([chain] * 6 + ["B"] * 6))
    assert np.flatnonzero(mask_of_selection(f"{chain} 2 - {chain} 3", named)).tolist() == [1, 2]
    found = mask_of_selection(f"chain '{chain}' and resid 2", named)
    assert np.flatnonzero(found).tolist() == [1]


def test_a_selection_may_go_on_in_the_next_line(tmp_path, structure):
    selection = (
        "REMARK   3    SELECTION: (CHAIN A AND RESID 1:2) OR\n"
        "REMARK   3               (CHAIN B AND (RESID 4 OR\n"
        "REMARK   3               RESID 5))"
    )
    path = pdb_file(tmp_path, structure, GROUP.format(number=1, selection=selection))
    assert read_tls_groups(path, structure)[0].atoms.tolist() == [0, 1, 9, 10]


def test_several_ranges_are_one_group(tmp_path, structure):
    second = "REMARK   3    RESIDUE RANGE :   B     4        B   101"
    text = GROUP.format(number=7, selection=f"{RANGE_A}\n{second}")
    (group,) = read_tls_groups(pdb_file(tmp_path, structure, text), structure)
    assert group.atoms.tolist() == [0, 1, 2, 9, 10, 11]
    assert group.selection == "A 1 - A 3, B 4 - B 101"


def test_a_cifs_rows_of_one_group_are_joined(tmp_path, structure):
    path = pdb_file(tmp_path, structure, GROUP.format(number=1, selection=RANGE_A))
    document = gemmi.read_structure(str(path)).make_mmcif_document()
    loop = document[0].init_mmcif_loop(
        "_pdbx_refine_tls_group.",
        ["id", "refine_tls_id", "beg_auth_asym_id", "beg_auth_seq_id", "beg_PDB_ins_code",
         "end_auth_asym_id", "end_auth_seq_id", "selection_details"],
    )  # fmt: skip
    loop.add_row(["1", "1", "A", "2", "?", "A", "3", "?"])
    loop.add_row(["2", "1", "?", "?", "?", "?", "?", "'chain B and resid 4'"])
    loop.add_row(["3", "9", "B", "1", "?", "B", "3", "."])  # of a group that is not there
    cif = tmp_path / "made.cif"
    document.write_file(str(cif))
    (group,) = read_tls_groups(cif, structure)
    assert group.atoms.tolist() == [1, 2, 9]
    assert np.flatnonzero(mask_of_selection(group.selection, structure)).tolist() == [1, 2, 9]


# --- 3 exact limits ------------------------------------------------------


def test_a_file_without_groups_has_none(tmp_path, structure):
    text = "REMARK   3  TLS DETAILS\nREMARK   3   NUMBER OF TLS GROUPS  : NULL\n"
    assert read_tls_groups(pdb_file(tmp_path, structure, text), structure) == ()
    path = tmp_path / "bare.pdb"
    write_pdb(path, structure)
    assert read_tls_groups(path, structure) == ()


def test_at_its_origin_a_group_only_translates():
    group = random_group(5)
    assert_allclose(group.u_aniso(group.origin[None])[0], group.translation, rtol=RTOL_ROUNDING)


def test_what_follows_the_groups_is_none_of_them(tmp_path, structure):
    # NCS details have SELECTION lines too.
    text = GROUP.format(number=1, selection=RANGE_A)
    text += "REMARK   3   NCS OPERATOR : 1\nREMARK   3     SELECTION          : CHAIN B\n"
    (group,) = read_tls_groups(pdb_file(tmp_path, structure, text), structure)
    assert group.atoms.tolist() == [0, 1, 2]


def test_the_first_of_two_refinements_is_read(tmp_path, structure, caplog):
    text = GROUP.format(number=1, selection=RANGE_A)
    with caplog.at_level(logging.WARNING):
        groups = read_tls_groups(pdb_file(tmp_path, structure, text + text), structure)
    assert len(groups) == 1
    assert "TLS groups of a second refinement are left out" in caplog.text


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=20)
@given(seed=st.integers(0, 999))
def test_groups_come_back_from_remarks_to_the_last_digit(tmp_path_factory, seed):
    tmp_path = tmp_path_factory.mktemp("round_trip")
    structure = example_structure()
    selections = ("A 1 - A 3, B 5 - B 101", "chain B and (resid 1 or resid 2)", "{ A|4 }")
    groups = [
        random_group(seed + i, np.flatnonzero(mask_of_selection(text, structure)), text)
        for i, text in enumerate(selections)
    ]
    path = pdb_file(tmp_path, structure, tls_remarks(groups))
    found = read_tls_groups(path, structure)
    assert len(found) == 3
    for group, back, other in zip(groups, found, gemmi_groups(path), strict=True):
        assert back.atoms.tolist() == group.atoms.tolist()
        assert_allclose(back.translation, group.translation, rtol=0, atol=LAST_DIGIT)
        assert_allclose(back.libration, group.libration, rtol=0, atol=LAST_DIGIT * DEGREE**2)
        assert_allclose(back.screw, group.screw, rtol=0, atol=LAST_DIGIT * DEGREE)
        assert_allclose(back.origin, group.origin, rtol=0, atol=LAST_DIGIT)
        # gemmi reads the same numbers from our lines.
        assert_allclose(np.array(other.S.tolist()) * DEGREE, back.screw, rtol=RTOL_ROUNDING)
        assert_allclose(np.array(other.T.as_mat33().tolist()), back.translation)


def test_long_selections_are_wrapped_and_come_back(tmp_path, structure):
    text = " or ".join(f"(chain A and resid {n} through {n})" for n in range(1, 6))
    group = random_group(6, range(5), text)
    lines = tls_remarks([group])
    assert max(map(len, lines.splitlines())) == 80
    (back,) = read_tls_groups(pdb_file(tmp_path, structure, lines), structure)
    assert back.selection == text


def test_adps_get_the_tls_part_of_their_own_group_only(structure):
    one, two = random_group(7), random_group(8, (6, 10))
    found = add_tls_to_adps(structure, [one, two])
    for group in (one, two):
        added = found.u_aniso[group.atoms] - structure.u_aniso[group.atoms]
        expected = group.u_aniso(structure.positions[group.atoms])
        assert_allclose(added, expected, rtol=0, atol=1e-15)
    others = np.setdiff1d(np.arange(12), [0, 1, 2, 6, 10])
    assert np.array_equal(found.u_aniso[others], structure.u_aniso[others])
    assert_allclose(structure.u_aniso, np.tile(0.2 * np.eye(3), (12, 1, 1)), rtol=0)


def test_another_origin_with_its_own_t_and_s_has_the_same_u():
    # r_0' = r_0 + p: t' = t + λ × p.
    group, p = random_group(9), np.array([2.0, -3.0, 1.0])
    m = np.block([[group.translation, group.screw.T], [group.screw, group.libration]])
    change = np.eye(6)
    change[:3, 3:] = np.stack([np.cross(e, p) for e in np.eye(3)], axis=1)
    m = change @ m @ change.T
    other = TlsGroup("", group.atoms, m[:3, :3], m[3:, 3:], m[3:, :3], group.origin + p)
    positions = np.random.default_rng(10).uniform(-20, 20, (6, 3))
    assert_allclose(other.u_aniso(positions), group.u_aniso(positions), rtol=1e-9, atol=1e-12)


def test_groups_index_the_structure_that_is_given(tmp_path, structure, caplog):
    text = GROUP.format(number=1, selection=RANGE_A)
    text += GROUP.format(number=2, selection="REMARK   3    SELECTION: CHAIN B")
    path = pdb_file(tmp_path, structure, text)
    part = structure.select("chain A and resid 2-9")
    with caplog.at_level(logging.WARNING):
        (group,) = read_tls_groups(path, part)
    assert group.atoms.tolist() == [0, 1]
    assert "TLS group 2 has no atom here" in caplog.text


def test_insertion_codes_are_read_and_their_loss_said(structure, caplog):
    with caplog.at_level(logging.WARNING):
        mask = mask_of_selection("A 2B - A 3", structure)
    assert np.flatnonzero(mask).tolist() == [1, 2]
    assert "TLS range A 2B - A 3: insertion codes are not told apart" in caplog.text
    assert str(residue_ranges("A 2B - A 3")[0]) == "A 2B - A 3"


@pytest.mark.parametrize(
    ("remark", "expected"),
    [
        ("REMARK   3  OTHER REFINEMENT REMARKS: U VALUES      : RESIDUAL ONLY", True),
        ("REMARK   3  OTHER REFINEMENT REMARKS: U VALUES : WITH TLS ADDED", False),
        ("REMARK   3  U VALUES      : RESIDUAL\nREMARK   3  ONLY", True),
        ("REMARK   3   B VALUE TYPE : LIKELY RESIDUAL", True),
        ("REMARK   3   B VALUE TYPE : UNVERIFIED", None),
        ("REMARK   4  U VALUES : RESIDUAL ONLY", None),
    ],
)
def test_whether_adps_are_residual_is_read(tmp_path, structure, remark, expected):
    assert are_adps_residual(pdb_file(tmp_path, structure, remark + "\n")) is expected


@pytest.mark.parametrize(
    ("tag", "text", "expected"),
    [
        ("_refine.details", "HYDROGENS IN RIDING POSITIONS U VALUES : RESIDUAL ONLY", True),
        ("_refine.pdbx_TLS_residual_ADP_flag", "LIKELY RESIDUAL", True),
        ("_refine.details", "U VALUES : WITH TLS ADDED", False),
        ("_refine.details", "?", None),
    ],
)
def test_whether_adps_are_residual_is_read_from_mmcif(tmp_path, structure, tag, text, expected):
    path = pdb_file(tmp_path, structure, "")
    document = gemmi.read_structure(str(path)).make_mmcif_document()
    document[0].set_pair(tag, text if text == "?" else gemmi.cif.quote(text))
    cif = tmp_path / "made.cif"
    document.write_file(str(cif))
    assert are_adps_residual(cif) is expected


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("T11:   0.0445", "T11:   NULL", "TLS group 1: T11: expected a number, found 'NULL'"),
        ("L33:   1.4695 ", "", "TLS group 1: L33: expected a number, found nothing"),
        ("S23:   0.0132", "S23:   *****", "TLS group 1: S23: expected a number, found"),
        ("  10.1250   2.5000", "  10.1250", "TLS group 1: origin: expected three numbers"),
        (RANGE_A, "REMARK   3", "TLS group 1: expected residues or a selection, found none"),
        (RANGE_A, RANGE_A.replace("A     3", "B     3"), "RESIDUE RANGE: expected chain, res"),
        (RANGE_A, RANGE_A.replace("     3", "     C"), "RESIDUE RANGE: expected chain, residue"),
    ],
)  # fmt: skip
def test_a_group_that_is_not_whole_is_refused(tmp_path, structure, old, new, message):
    text = GROUP.format(number=1, selection=RANGE_A)
    assert old in text
    path = pdb_file(tmp_path, structure, text.replace(old, new))
    with pytest.raises(FormatError, match=f"made.pdb: .*{message}"):
        read_tls_groups(path, structure)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("segid X", "unknown 'segid X', expected one of all water"),
        ("chain A resid 1:3", "expected 'and' or 'or' before 'resid'"),
        ("chain A and", "expected a word at its end"),
        ("(chain A", "expected a closing parenthesis"),
        ("chain 'A", 'unexpected "\'"'),
        ("chain A and resid one", "expected residue numbers or ranges, got 'one'"),
        ("chain A and resid", "expected residue numbers, got none"),
        ("name C*", "expected a name after 'name', got 'C\\*'"),
        ("chain", "expected a name after 'chain', got ''"),
        ("A 1 - B 10", "a range must be of one chain, got 'A 1 - B 10'"),
        ("A 1-10 and more", "unknown"),
        ("chain A within 5", "expected a name after 'chain', got 'A within 5'"),
    ],
)
def test_a_selection_that_cannot_be_read_is_named(tmp_path, structure, text, reason):
    selection = f"REMARK   3    SELECTION: {text}"
    path = pdb_file(tmp_path, structure, GROUP.format(number=3, selection=selection))
    with pytest.raises(FormatError, match="made.pdb: TLS group 3: cannot read the sel.*" + reason):
        read_tls_groups(path, structure)


def test_groups_that_share_atoms_are_refused(tmp_path, structure):
    text = GROUP.format(number=1, selection=RANGE_A)
    text += GROUP.format(number=2, selection="REMARK   3    SELECTION: CHAIN A AND RESID 3:5")
    path = pdb_file(tmp_path, structure, text)
    with pytest.raises(FormatError, match=r"groups 1 and 2 share atom A SER 3 CA \(index 2\)"):
        read_tls_groups(path, structure)


def test_a_cif_range_that_cannot_be_read_is_refused(tmp_path, structure):
    path = pdb_file(tmp_path, structure, GROUP.format(number=1, selection=RANGE_A))
    document = gemmi.read_structure(str(path)).make_mmcif_document()
    loop = document[0].find_loop("_pdbx_refine_tls_group.end_auth_seq_id")
    loop[0] = "x"
    cif = tmp_path / "made.cif"
    document.write_file(str(cif))
    with pytest.raises(FormatError, match=r"made.cif: TLS group 1: expected a range of res.*A x"):
        read_tls_groups(cif, structure)


@pytest.mark.parametrize("read", [lambda p: read_tls_groups(p, None), are_adps_residual])
def test_files_that_are_no_structure_are_refused(tmp_path, read):
    with pytest.raises(MissingFileError, match="no such file"):
        read(tmp_path / "absent.pdb")
    path = tmp_path / "bad.cif"
    path.write_text("no cif at all {")
    with pytest.raises(FormatError, match=r"bad.cif: not a PDB or mmCIF structure"):
        read(path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("translation", np.eye(2), r"translation must be \(3, 3\) finite numbers, got \(2, 2\)"),
        ("screw", np.full((3, 3), np.nan), r"screw must be \(3, 3\) finite numbers"),
        ("libration", np.triu(np.ones((3, 3))), "libration must be symmetric"),
        ("origin", np.zeros(2), r"origin must be \(3,\) finite numbers, got \(2,\)"),
    ],
)
def test_a_wrong_tensor_is_named(name, value, message):
    with pytest.raises(InputError, match=message):
        replace(random_group(11), **{name: value})


def test_a_number_too_large_for_its_columns_is_refused():
    far = replace(random_group(12), origin=np.array([0.0, 0.0, 12345.0]))
    with pytest.raises(InputError, match="TLS group 1: z must fit 9 columns, got 12345"):
        tls_remarks([far])


def test_adps_of_atoms_that_are_not_there_are_refused(structure):
    with pytest.raises(InputError, match=r"must hold atom indices 0\.\.11, got 0\.\.12"):
        add_tls_to_adps(structure, [random_group(13, (0, 12))])
