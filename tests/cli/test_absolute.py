"""absolute: a map of unknown scale comes to electron units."""

from dataclasses import replace

import numpy as np
import pytest

from offbragg import DiffuseMap, HklGrid, LiquidLike, read_map, simulate, write_map
from offbragg.crystal.writers import write_pdb
from offbragg.made_crystal import make_peptide
from offbragg.maps.absolute import CellContents

UNIT = 0.02


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Total and diffuse maps, Compton scattering in both, on a scale of their own."""
    out = tmp_path_factory.mktemp("absolute")
    peptide = make_peptide("GASM", u=0.15)
    write_pdb(out / "s.pdb", peptide)
    grid = HklGrid.from_resolution(peptide.cell, 1.2)
    q = np.linalg.norm(grid.q(), axis=-1)
    compton = CellContents.of(peptide, solvent=False).compton(q, None)
    for part in ("total", "diffuse"):
        made = simulate(peptide, LiquidLike(0.38, 5.0), grid, part=part)
        write_map(out / f"{part}.h5", made)
        seen = replace(made, intensity=UNIT * (made.intensity + compton))
        write_map(out / f"seen_{part}.h5", seen)
    return out


def test_it_comes_to_electrons(call, folder, tmp_path):
    made = call("absolute", folder / "seen_diffuse.h5", folder / "s.pdb", "-o", tmp_path / "a.h5",
                "--total", folder / "seen_total.h5", "--no-solvent", "--json").json  # fmt: skip
    found = made["result"]["absolute"]
    assert found["scale"] * UNIT == pytest.approx(1.0, abs=0.01)
    absolute, truth = read_map(tmp_path / "a.h5"), read_map(folder / "diffuse.h5")
    error = np.nanmean(np.abs(absolute.intensity - truth.intensity))
    assert error < 0.02 * np.nanmean(truth.intensity)
    text = call("absolute", folder / "seen_diffuse.h5", folder / "s.pdb", "-o", tmp_path / "b.h5",
                "--total", folder / "seen_total.h5").out  # fmt: skip
    assert "e² per unit of the map" in text


def test_what_cannot_be_is_refused(refused, tmp_path):
    peptide = make_peptide("GASM", u=0.15)
    write_pdb(tmp_path / "s.pdb", peptide)
    grid = HklGrid.from_resolution(peptide.cell, 2.0)
    write_map(tmp_path / "any.h5", DiffuseMap(grid, np.ones(grid.shape), peptide.space_group))
    message = refused("absolute", tmp_path / "any.h5", tmp_path / "s.pdb", "-o",
                      tmp_path / "a.h5", "--total", tmp_path / "any.h5", "--d-min", 6)  # fmt: skip
    assert "expected 20 shells" in message
