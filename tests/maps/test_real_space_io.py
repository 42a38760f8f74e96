"""ΔPDF files: another program reads back the same numbers at the same separations."""

import json

import gemmi
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tests.oracles import cell_vectors
from tests.strategies import cells

from offbragg import DeltaPdf, DeltaPdfOptions, DiffuseMap, HklGrid, InputError, compute_delta_pdf
from offbragg.crystal.cell import Cell
from offbragg.errors import FormatError, MissingFileError
from offbragg.maps.io import read_map
from offbragg.maps.real_space_io import write_delta_pdf

RTOL_FLOAT32 = 1e-6  # of the largest value
CELL = Cell(11.0, 13.0, 17.0, 82.0, 95.0, 104.0)
CCP4 = ("ccp4", "mrc", "map")


def made(cell=CELL):
    rng = np.random.default_rng(1)
    x, y, z = np.arange(-4, 4) / 4, np.arange(-3, 4) / 7, np.arange(-5, 5) / 5
    steps = ({"command": "simulate", "model": "m"}, {"command": "delta-pdf", "options": {"a": 1}})
    return DeltaPdf(rng.normal(size=(8, 7, 10)), x, y, z, cell, steps)


def values_at(path, separations):
    """Values of a CCP4 map at points [Å], by gemmi's interpolation between its nodes."""
    grid = gemmi.read_ccp4_map(str(path), setup=True).grid
    return np.array([grid.interpolate_value(gemmi.Position(*r)) for r in separations])


# --- 1 reference numbers -------------------------------------------------


def test_the_header_of_a_ccp4_file(tmp_path):
    # Words 1-3: numbers of values; 4: mode; 5-7: first node; 8-10: intervals of the cell; 11-16:
    # cell; 17-19: order of the axes; 23: space group; 24: bytes of symmetry before the values.
    raw = write_delta_pdf(tmp_path / "pdf.ccp4", made()).read_bytes()
    words = np.frombuffer(raw[:96], "<i4")
    assert words[[0, 1, 2, 3]].tolist() == [8, 7, 10, 2]
    assert words[[4, 5, 6]].tolist() == [-4, -3, -5]
    assert words[[7, 8, 9]].tolist() == [8, 7, 10]
    cell = np.frombuffer(raw[40:64], "<f4")
    assert_allclose(cell, (22.0, 13.0, 34.0, 82.0, 95.0, 104.0), rtol=RTOL_FLOAT32)
    assert words[[16, 17, 18, 22]].tolist() == [1, 2, 3, 1]
    assert raw[208:212] == b"MAP "
    stored = np.frombuffer(raw[1024 + words[23] :], "<f4").reshape(10, 7, 8).transpose(2, 1, 0)
    assert_array_equal(stored, made().values.astype(np.float32))


def test_an_archive_holds_everything(tmp_path):
    pdf = made()
    with np.load(write_delta_pdf(tmp_path / "pdf.npz", pdf)) as read:
        assert_array_equal(read["values"], pdf.values)
        for axis in "xyz":
            assert_array_equal(read[axis], getattr(pdf, axis))
        assert_array_equal(read["cell"], CELL)
        assert json.loads(str(read["provenance"])) == list(pdf.provenance)


def test_hdf5_is_nexus_data(tmp_path):
    pdf = made()
    with h5py.File(write_delta_pdf(tmp_path / "pdf.h5", pdf)) as file:
        data = file[file.attrs["default"]]
        data = data[data.attrs["default"]]
        assert data.attrs["NX_class"] == "NXdata"
        assert_array_equal(data[data.attrs["signal"]], pdf.values)
        for number, axis in enumerate(data.attrs["axes"]):
            assert_array_equal(data[axis], getattr(pdf, axis))
            assert data.attrs[f"{axis}_indices"] == number
        assert_array_equal(file["entry/sample/unit_cell"], CELL)
        assert file["entry/process_2/command"][()] == b"delta-pdf"
        assert json.loads(file["entry/process_2/options"][()]) == {"a": 1}


# --- 2 independent oracle ------------------------------------------------


@pytest.mark.parametrize("ending", CCP4)
@settings(deadline=None, derandomize=True, max_examples=8)
@given(cell=cells())
def test_gemmi_finds_the_same_values_at_the_same_separations(tmp_path_factory, ending, cell):
    pdf = made(cell)
    path = write_delta_pdf(tmp_path_factory.mktemp("pdf") / f"pdf.{ending}", pdf)
    fractions = np.stack(np.meshgrid(pdf.x, pdf.y, pdf.z, indexing="ij"), axis=-1)
    found = values_at(path, fractions.reshape(-1, 3) @ cell_vectors(cell))
    # Float32 cell edges move a node by 1e-7 of the box: 1e-5 of a step of it.
    assert_allclose(found, pdf.values.ravel(), atol=1e-4)


@pytest.mark.parametrize("extent", [None, 0.5, (0.4, 1.0, 0.3)])
def test_a_transformed_map_keeps_its_places(tmp_path, extent):
    rng = np.random.default_rng(5)
    h, k, l = np.arange(-6, 7) / 2, np.arange(-5, 6), np.arange(-8, 9) / 3  # noqa: E741
    grid = HklGrid(CELL, h, k, l)
    options = DeltaPdfOptions(extent=extent)
    pdf = compute_delta_pdf(DiffuseMap(grid, rng.uniform(0, 9, grid.shape)), options)
    path = write_delta_pdf(tmp_path / "pdf.ccp4", pdf)
    inner = pdf.separations()[1:-1:2, 1:-1, 1:-1].reshape(-1, 3)
    expected = pdf.values[1:-1:2, 1:-1, 1:-1].ravel()
    atol = 1e-4 * np.abs(pdf.values).max()
    assert_allclose(values_at(path, inner), expected, atol=atol)
    assert values_at(path, [(0, 0, 0)])[0] == pytest.approx(pdf.values.max(), rel=RTOL_FLOAT32)


# --- 3 exact limits ------------------------------------------------------


def test_a_single_value_has_a_cell_too(tmp_path):
    pdf = DeltaPdf(np.full((1, 1, 1), 2.5), np.zeros(1), np.zeros(1), np.zeros(1), CELL)
    read = gemmi.read_ccp4_map(str(write_delta_pdf(tmp_path / "pdf.mrc", pdf)))
    assert read.grid.unit_cell.parameters == pytest.approx(tuple(CELL))
    assert read.grid.get_value(0, 0, 0) == 2.5


def test_a_whole_box_repeats_with_the_cell_of_the_file(tmp_path):
    pdf = made()
    path = write_delta_pdf(tmp_path / "pdf.ccp4", pdf)
    box = cell_vectors(CELL) * np.array([[2.0], [1.0], [2.0]])
    somewhere = np.array([[1.0, -2.0, 3.0]])
    shifted = somewhere + box
    assert_allclose(values_at(path, shifted), values_at(path, somewhere)[0], atol=1e-4)


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=20)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 5))
def test_0_is_at_the_origin_wherever_the_axes_begin(tmp_path_factory, n_before, n_after, shift):
    axis = np.arange(-n_before, n_after + 1) * 0.25
    values = np.zeros((len(axis), 3, 2))
    values[n_before, 1, 0] = 1.0
    pdf = DeltaPdf(values, axis, np.arange(-1, 2) * 0.5, np.array([0.0, 0.125]) * (1 + shift), CELL)
    path = write_delta_pdf(tmp_path_factory.mktemp("pdf") / "pdf.map", pdf)
    assert values_at(path, [(0.0, 0.0, 0.0)])[0] == pytest.approx(1.0)


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize("name", ["pdf.txt", "pdf", "pdf.ccp4.gz"])
def test_other_endings_are_named_and_nothing_is_left(tmp_path, name):
    expected = r"in one of \.ccp4 \.mrc \.map \.h5 \.npz, got (\.txt|\.gz|none)"
    with pytest.raises(InputError, match=expected):
        write_delta_pdf(tmp_path / name, made())
    assert not list(tmp_path.iterdir())


def test_uneven_axes_cannot_be_ccp4(tmp_path):
    pdf = made()
    bent = DeltaPdf(pdf.values, np.linspace(-1, 0.9, 8) ** 3, pdf.y, pdf.z, CELL)
    with pytest.raises(InputError, match="x of the ΔPDF must rise by even steps"):
        write_delta_pdf(tmp_path / "pdf.ccp4", bent)
    assert not list(tmp_path.iterdir())
    write_delta_pdf(tmp_path / "pdf.npz", bent)


@pytest.mark.parametrize("ending", [*CCP4, "h5", "npz"])
def test_a_folder_that_is_missing_is_named(tmp_path, ending):
    with pytest.raises(MissingFileError, match=r"folder .*nowhere does not exist"):
        write_delta_pdf(tmp_path / "nowhere" / f"pdf.{ending}", made())


def test_it_is_not_taken_for_a_map(tmp_path):
    path = write_delta_pdf(tmp_path / "pdf.h5", made())
    with pytest.raises(FormatError, match=r"pdf\.h5: /entry/map"):
        read_map(path)
