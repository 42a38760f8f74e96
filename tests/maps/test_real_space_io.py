"""ΔPDF files: the other program reads back the same numbers at the same separations."""

import gemmi
import numpy as np
import pytest
from numpy.testing import assert_allclose

from offbragg import DeltaPdf, InputError
from offbragg.crystal.cell import Cell
from offbragg.maps.real_space_io import write_delta_pdf

RTOL_FLOAT32 = 1e-6
CELL = Cell(11.0, 13.0, 17.0, 82.0, 95.0, 104.0)


def made():
    rng = np.random.default_rng(1)
    x, y, z = np.arange(-4, 4) / 4, np.arange(-3, 4) / 7, np.arange(-5, 5) / 5
    return DeltaPdf(rng.normal(size=(8, 7, 10)), x, y, z, CELL)


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("ending", ["ccp4", "mrc", "map"])
def test_gemmi_reads_the_same_values_at_the_same_separations(tmp_path, ending):
    pdf = made()
    path = write_delta_pdf(tmp_path / f"pdf.{ending}", pdf)
    read = gemmi.read_ccp4_map(str(path), setup=True)
    grid = read.grid
    assert grid.unit_cell.parameters[:3] == pytest.approx((22.0, 13.0, 34.0))
    assert grid.unit_cell.parameters[3:] == pytest.approx(CELL[3:])
    assert grid.spacegroup.hm == "P 1"
    # A separation in Å, through gemmi's own cell, lands on the value of that separation.
    crystal = gemmi.UnitCell(*CELL)
    for i, j, k in ((0, 0, 0), (4, 3, 5), (7, 6, 9), (2, 5, 1)):
        separation = crystal.orthogonalize(gemmi.Fractional(pdf.x[i], pdf.y[j], pdf.z[k]))
        found = grid.interpolate_value(separation)
        assert found == pytest.approx(pdf.values[i, j, k], rel=1e-4, abs=1e-5)


def test_npz_holds_everything(tmp_path):
    pdf = made()
    with np.load(write_delta_pdf(tmp_path / "pdf.npz", pdf)) as read:
        assert_allclose(read["values"], pdf.values, rtol=0)
        assert_allclose(read["z"], pdf.z, rtol=0)
        assert_allclose(read["cell"], CELL, rtol=0)


# --- 5 errors ------------------------------------------------------------


def test_other_endings_are_named_and_nothing_is_left(tmp_path):
    with pytest.raises(InputError, match=r"expected \.ccp4, \.mrc, \.map or \.npz, got '\.txt'"):
        write_delta_pdf(tmp_path / "pdf.txt", made())
    assert not list(tmp_path.iterdir())


def test_uneven_axes_cannot_be_ccp4(tmp_path):
    pdf = made()
    bent = DeltaPdf(pdf.values, np.linspace(-1, 0.9, 8) ** 3, pdf.y, pdf.z, CELL)
    with pytest.raises(InputError, match="x of the ΔPDF must rise by even steps"):
        write_delta_pdf(tmp_path / "pdf.ccp4", bent)
    assert not list(tmp_path.iterdir())
