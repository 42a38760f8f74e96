"""build_helix: ideal geometry, the hand of the amino acids, and the shape of the helix."""

from itertools import pairwise

import gemmi
import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg.crystal.peptide import build_helix
from offbragg.errors import InputError

ATOL_BOND = 1e-9  # [Å] the atoms are placed by these numbers
ATOL_ANGLE = 1e-6  # [degrees] likewise, through an arc cosine
ATOL_THIRD_ANGLE = 0.1  # [degrees] C-CA-CB follows from a torsion given to 0.1°

SEQUENCE = "GASVMLKADCAVSLMG"


@pytest.fixture(scope="module")
def chain():
    return build_helix(SEQUENCE)


@pytest.fixture(scope="module")
def residues(chain):
    """Positions by atom name, residue by residue."""
    found = [{} for _ in SEQUENCE]
    for name, number, position in zip(
        chain.names, chain.residue_numbers, chain.positions, strict=True
    ):
        found[number - 1][name] = position
    return found


def bond(first, second):
    return np.linalg.norm(first - second)


def angle(first, second, third):
    a, b = first - second, third - second
    return np.degrees(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))


def chiral_volume(atoms):
    n, c, cb = (atoms[name] - atoms["CA"] for name in ("N", "C", "CB"))
    return n @ np.cross(c, cb)


# --- 1 reference numbers -------------------------------------------------


def test_bonds_and_angles_are_those_of_engh_and_huber(residues):
    # Engh & Huber (1991) Acta Cryst. A47, 392, table 2 and 3.
    for here, after in pairwise(residues):
        assert_allclose(bond(here["N"], here["CA"]), 1.458, atol=ATOL_BOND)
        assert_allclose(bond(here["CA"], here["C"]), 1.525, atol=ATOL_BOND)
        assert_allclose(bond(here["C"], here["O"]), 1.231, atol=ATOL_BOND)
        assert_allclose(bond(here["C"], after["N"]), 1.329, atol=ATOL_BOND)
        assert_allclose(angle(here["N"], here["CA"], here["C"]), 111.2, atol=ATOL_ANGLE)
        assert_allclose(angle(here["CA"], here["C"], after["N"]), 116.2, atol=ATOL_ANGLE)
        assert_allclose(angle(here["C"], after["N"], after["CA"]), 121.7, atol=ATOL_ANGLE)
        assert_allclose(angle(here["O"], here["C"], after["N"]), 123.0, atol=ATOL_ANGLE)
        # 360 − 116.2 − 123.0: the carbonyl is flat.
        assert_allclose(angle(here["CA"], here["C"], here["O"]), 120.8, atol=ATOL_ANGLE)
    for atoms in residues:
        if "CB" in atoms:
            assert_allclose(bond(atoms["CA"], atoms["CB"]), 1.530, atol=ATOL_BOND)
            assert_allclose(angle(atoms["N"], atoms["CA"], atoms["CB"]), 110.5, atol=ATOL_ANGLE)
            assert_allclose(
                angle(atoms["C"], atoms["CA"], atoms["CB"]), 110.1, atol=ATOL_THIRD_ANGLE
            )
    by_code = dict(zip(SEQUENCE, residues, strict=True))
    methionine, lysine, cysteine = by_code["M"], by_code["K"], by_code["C"]
    assert_allclose(bond(methionine["CG"], methionine["SD"]), 1.803, atol=ATOL_BOND)
    assert_allclose(bond(methionine["SD"], methionine["CE"]), 1.791, atol=ATOL_BOND)
    assert_allclose(
        angle(methionine["CG"], methionine["SD"], methionine["CE"]), 100.9, atol=ATOL_ANGLE
    )
    assert_allclose(bond(lysine["CE"], lysine["NZ"]), 1.489, atol=ATOL_BOND)
    assert_allclose(bond(cysteine["CB"], cysteine["SG"]), 1.808, atol=ATOL_BOND)


def test_the_amino_acids_have_the_hand_of_a_protein(residues):
    # Cys 3 of crambin, PDB entry 1EJG (CC0): N, CA, C, CB as in the file [Å].
    natural = {
        "N": np.array([13.438, 11.192, 8.264]),
        "CA": np.array([13.607, 10.675, 9.600]),
        "C": np.array([12.210, 10.413, 10.164]),
        "CB": np.array([14.300, 11.703, 10.523]),
    }
    assert chiral_volume(natural) > 2.4
    volumes = [chiral_volume(atoms) for atoms in residues if "CB" in atoms]
    assert len(volumes) == 14
    # The hand is the sign; 2.4 to 2.7 Å³ are found in good structures.
    assert_allclose(volumes, chiral_volume(natural), atol=0.3)


# --- 2 independent oracle ------------------------------------------------


def test_gemmi_finds_the_torsions_of_a_helix(residues):
    built = []
    for atoms in residues:
        residue = gemmi.Residue()
        residue.name = "ALA"
        for name in ("N", "CA", "C"):
            atom = gemmi.Atom()
            atom.name, atom.element = name, gemmi.Element(name[0])
            atom.pos = gemmi.Position(*atoms[name])
            residue.add_atom(atom)
        built.append(residue)
    for before, here, after in zip(built, built[1:], built[2:], strict=False):
        phi_psi = np.degrees(gemmi.calculate_phi_psi(before, here, after))
        assert_allclose(phi_psi, [-62.0, -41.0], atol=ATOL_ANGLE)
        assert_allclose(abs(np.degrees(gemmi.calculate_omega(here, after))), 180.0, atol=ATOL_ANGLE)


def test_it_is_an_alpha_helix(residues):
    # 1.5 Å and about 100° a residue, and a hydrogen bond from O to the fourth N after it.
    ca = np.array([atoms["CA"] for atoms in residues])
    bends = ca[:-2] - 2 * ca[1:-1] + ca[2:]
    axis = np.cross(bends[0], bends[1])
    axis /= np.linalg.norm(axis)
    assert_allclose(np.diff(ca @ axis), 1.5, atol=0.1)
    turns = [angle(first, np.zeros(3), second) for first, second in pairwise(bends)]
    assert_allclose(turns, 100.0, atol=3.0)
    distances = [
        bond(here["O"], later["N"]) for here, later in zip(residues, residues[4:], strict=False)
    ]
    assert_allclose(distances, 3.0, atol=0.3)


# --- 3 exact limits ------------------------------------------------------


def test_atoms_are_in_the_order_and_number_of_pdb_files(chain, residues):
    assert chain.names[:9] == ["N", "CA", "C", "O", "N", "CA", "C", "O", "CB"]
    assert chain.names[-1] == "OXT"
    assert chain.residue_names[4] == "ALA"
    sizes = {"G": 4, "A": 5, "S": 6, "C": 6, "V": 7, "L": 8, "M": 8, "D": 8, "K": 9}
    expected = [sizes[code] for code in SEQUENCE]
    expected[-1] += 1
    assert [len(atoms) for atoms in residues] == expected
    assert len(chain.positions) == sum(expected)


def test_atoms_do_not_clash_within_the_helix(chain):
    distances = np.linalg.norm(chain.positions[:, None] - chain.positions[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert distances.min() > 1.2  # no bond is shorter than C=O
    assert np.all(distances.min(axis=1) < 1.9)  # and every atom has one
    numbers = np.array(chain.residue_numbers)
    apart = np.abs(numbers[:, None] - numbers[None]) >= 2
    assert distances[apart].min() > 2.7  # hydrogen bonds are the closest


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize("sequence", ["", "GAX", "ga"])
def test_an_unknown_sequence_is_refused(sequence):
    with pytest.raises(InputError, match=f"sequence must be made of G A S .*got {sequence!r}"):
        build_helix(sequence)
