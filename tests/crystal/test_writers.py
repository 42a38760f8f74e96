"""write_pdb: what is read back is what was written, as far as the format holds it."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from offbragg.crystal.ensembles import read_ensemble
from offbragg.crystal.structure import AtomicStructure, read_structure
from offbragg.crystal.writers import write_models, write_pdb
from offbragg.errors import InputError

ATOL_POSITION = 5.1e-4  # [Å] three digits
ATOL_ANISOU = 5.1e-5  # [Å²] four digits
ATOL_B = 0.0051 / (8 * np.pi**2)  # [Å²] two digits of B


@pytest.fixture
def structure():
    """Two chains, an altloc, a water and a metal; one atom isotropic."""
    rng = np.random.default_rng(8)
    square = rng.normal(size=(6, 3, 3)) * 0.3
    u_aniso = square @ square.transpose(0, 2, 1) + 0.05 * np.eye(3)
    u_aniso[4] = 0.31 * np.eye(3)
    return AtomicStructure(
        cell=(21.1, 26.2, 12.3, 90, 100.4, 90),
        space_group="P 1 21 1",
        positions=rng.uniform(-30, 30, (6, 3)),
        elements=np.array(["N", "C", "C", "S", "O", "Zn"]),
        occupancies=np.array([1.0, 1.0, 0.6, 0.4, 1.0, 0.5]),
        u_aniso=u_aniso,
        names=np.array(["N", "CA", "CB", "SG", "O", "ZN"]),
        residue_names=np.array(["CYS", "CYS", "CYS", "CYS", "HOH", "ZN"]),
        residue_numbers=np.array([3, 3, 3, 3, 101, 102]),
        chains=np.array(["A", "A", "A", "A", "W", "W"]),
        altlocs=np.array(["", "", "A", "A", "", ""]),
    )


# --- 1 reference numbers -------------------------------------------------


def test_records_stand_in_the_columns_of_the_format(tmp_path, structure):
    # PDB format 3.3: cell in columns 7-54, space group in 56-66, x in 31-38.
    write_pdb(tmp_path / "x.pdb", structure)
    lines = (tmp_path / "x.pdb").read_text().splitlines()
    (cryst,) = [line for line in lines if line.startswith("CRYST1")]
    assert cryst[6:54].split() == ["21.100", "26.200", "12.300", "90.00", "100.40", "90.00"]
    assert cryst[55:66].strip() == "P 1 21 1"
    atom = next(line for line in lines if line.startswith("ATOM"))
    assert (atom[12:16].strip(), atom[17:20], atom[21], atom[22:26]) == ("N", "CYS", "A", "   3")
    assert_allclose(float(atom[30:38]), structure.positions[0, 0], atol=ATOL_POSITION)
    assert sum(line.startswith("HETATM") for line in lines) == 2
    assert sum(line.startswith("ANISOU") for line in lines) == 5


# --- 4 invariances -------------------------------------------------------


def test_what_is_read_back_is_what_was_written(tmp_path, structure):
    write_pdb(tmp_path / "x.pdb", structure)
    back = read_structure(tmp_path / "x.pdb")
    assert back.cell == structure.cell
    assert back.space_group == structure.space_group
    assert_allclose(back.positions, structure.positions, atol=ATOL_POSITION)
    assert_allclose(back.occupancies, structure.occupancies, atol=1e-6)
    anisotropic = np.arange(6) != 4
    assert_allclose(back.u_aniso[anisotropic], structure.u_aniso[anisotropic], atol=ATOL_ANISOU)
    assert_allclose(back.u_aniso[4], structure.u_aniso[4], atol=ATOL_B)
    for name in ("elements", "names", "residue_names", "residue_numbers", "chains", "altlocs"):
        assert_array_equal(getattr(back, name), getattr(structure, name))
    assert [path.name for path in tmp_path.iterdir()] == ["x.pdb"]


def test_a_structure_without_names_or_cell_is_written(tmp_path, structure):
    bare = AtomicStructure(
        None,
        "P 1",
        structure.positions,
        structure.elements,
        structure.occupancies,
        structure.u_aniso,
    )
    write_pdb(tmp_path / "x.pdb", bare)
    back = read_structure(tmp_path / "x.pdb")
    assert back.cell is None
    assert_array_equal(back.elements, structure.elements)
    assert_allclose(back.positions, structure.positions, atol=ATOL_POSITION)


def test_the_structure_is_not_changed(tmp_path, structure):
    before = replace(structure, positions=structure.positions.copy())
    write_pdb(tmp_path / "x.pdb", structure)
    assert_array_equal(structure.positions, before.positions)


def test_models_are_read_back_as_frames(tmp_path, structure):
    frames = structure.positions + np.random.default_rng(3).normal(size=(4, 6, 3))
    write_models(tmp_path / "film.pdb", structure, frames)
    found, read = read_ensemble(tmp_path / "film.pdb")
    assert_allclose(read, frames, atol=ATOL_POSITION)
    assert found.names.tolist() == structure.names.tolist()
    assert (tmp_path / "film.pdb").read_text().count("MODEL ") == 4


@pytest.mark.parametrize("shape", [(0, 6, 3), (4, 5, 3), (6, 3)])
def test_frames_of_other_atoms_are_refused(tmp_path, structure, shape):
    with pytest.raises(InputError, match=r"frames must be \(n, 6, 3\), got"):
        write_models(tmp_path / "film.pdb", structure, np.zeros(shape))
    assert not list(tmp_path.iterdir())
