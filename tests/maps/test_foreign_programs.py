"""Exported maps as other programs see them, in triclinic cells: the same values at the same places.

Each oracle is the other program itself; places are worked out from its own cell and indices.
"""

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tests.oracles import cell_vectors
from tests.strategies import cells

from offbragg import DiffuseMap, HklGrid, export_map, merge, write_map
from offbragg.crystal.cell import Cell

CELL = Cell(11.0, 13.0, 17.0, 82.0, 95.0, 104.0)
RTOL_FLOAT32 = 1e-5  # cells of MTZ and CCP4 files are float32, angles of 1e-5 degrees
ARRAYS = ("intensity", "sigma", "half_1", "half_2")


def made(cell=CELL, sampling=(3, 1, 2), first=(-3, -1, -2), shape=(7, 4, 5), seed=0):
    rng = np.random.default_rng(seed)
    axes = [(a + np.arange(n)) / s for a, n, s in zip(first, shape, sampling, strict=True)]
    arrays = {n: rng.normal(size=shape).astype(np.float32) for n in ARRAYS}
    for values in arrays.values():
        values[rng.uniform(size=shape) < 0.2] = np.nan
    count = rng.integers(0, 9, shape).astype(np.int32)
    return DiffuseMap(HklGrid(cell, *axes, sampling), count=count, **arrays)


def inv_d_by_hand(cell, hkl):
    """1/d from the vectors of the cell [Å⁻¹]."""
    return np.linalg.norm(np.asarray(hkl) @ np.linalg.inv(cell_vectors(cell)).T, axis=-1)


def value_at(array, grid, hkl):
    """Value of the voxel nearest to hkl."""
    place = [
        int(np.argmin(np.abs(a - x))) for a, x in zip((grid.h, grid.k, grid.l), hkl, strict=True)
    ]
    return array[tuple(place)]


maps = st.builds(
    made,
    cell=cells(),
    sampling=st.tuples(*[st.integers(1, 4)] * 3),
    first=st.tuples(*[st.integers(-4, 2)] * 3),
    shape=st.tuples(*[st.integers(2, 5)] * 3),
    seed=st.integers(0, 2**20),
)


# --- 2 independent oracle: MTZ -------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=10)
@given(one=maps)
def test_gemmi_finds_the_same_intensities_at_the_same_d(tmp_path_factory, one):
    path = export_map(one, tmp_path_factory.mktemp("mtz") / "a.mtz")
    mtz = gemmi.read_mtz_file(str(path))
    n = np.array(one.grid.sampling)
    hkl = mtz.make_miller_array() / n
    assert_allclose(1 / mtz.make_d_array(), inv_d_by_hand(one.cell, hkl), rtol=RTOL_FLOAT32)
    seen = 0
    for sign, ending in ((1, "(+)"), (-1, "(-)")):
        values = mtz.column_with_label(f"I{ending}").array
        for index, value in zip(sign * hkl, values, strict=True):
            if not np.isnan(value):
                assert value == value_at(one.intensity, one.grid, index)
                seen += 1
    assert seen == np.count_nonzero(one.measured)


def test_reciprocalspaceship_reads_both_kinds(tmp_path):
    import reciprocalspaceship as rs

    one = made()
    for label, each in (("I", merge(one).map), ("I(+)", one)):
        read = rs.read_mtz(str(export_map(each, tmp_path / "a.mtz")))
        assert read.spacegroup.xhm() == "P 1"
        hkl = read.get_hkls() / np.array(each.grid.sampling)
        d = read.compute_dHKL()["dHKL"].to_numpy(dtype=float)
        with np.errstate(divide="ignore"):
            assert_allclose(d, 1 / inv_d_by_hand(CELL, hkl), rtol=RTOL_FLOAT32)
        values = read[label].to_numpy(dtype=float)
        expected = [
            value_at(each.intensity, each.grid, x) if np.all(each.grid.index_of(x)[1]) else np.nan
            for x in hkl
        ]
        assert_array_equal(values, expected)
        assert read.dtypes[label].mtztype == ("J" if label == "I" else "K")
    stacked = read.stack_anomalous()
    assert len(stacked) >= np.count_nonzero(one.measured)


# --- CCP4/MRC ------------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=10)
@given(one=maps)
def test_a_volume_has_the_shape_of_reciprocal_space(tmp_path_factory, one):
    path = export_map(one, tmp_path_factory.mktemp("ccp4") / "a.ccp4")
    grid = gemmi.read_ccp4_map(str(path), setup=True).grid
    nodes = one.grid.first_index + np.argwhere(np.ones(one.grid.shape, dtype=bool))
    # Places of grid points by gemmi, the node 0 0 0 being the origin.
    fractions = nodes / np.array([grid.nu, grid.nv, grid.nw])
    places = np.array(
        [grid.unit_cell.orthogonalize(gemmi.Fractional(*x)).tolist() for x in fractions]
    )
    hkl = nodes / np.array(one.grid.sampling)
    vectors = hkl @ np.linalg.inv(cell_vectors(one.cell)).T
    # 100 Å for 1 Å⁻¹; all distances and angles, since the frame is turned.
    tolerance = {"rtol": 1e-4, "atol": 1e-4 * np.abs(places).max() ** 2}
    assert_allclose(places @ places.T, 1e4 * vectors @ vectors.T, **tolerance)
    assert np.linalg.det(grid.unit_cell.orth.mat.tolist()) > 0
    values = [grid.get_value(*(int(x) for x in node)) for node in nodes]
    assert_array_equal(values, np.nan_to_num(one.intensity.ravel()))


@pytest.mark.parametrize("ending", ["mrc", "ccp4", "map"])
def test_mrcfile_finds_a_valid_volume(tmp_path, ending, capsys):
    import mrcfile

    one = made()
    path = export_map(one, tmp_path / f"a.{ending}")
    assert mrcfile.validate(str(path)), capsys.readouterr().out
    with mrcfile.open(path) as file:
        assert_array_equal(file.data.T, np.nan_to_num(one.intensity))
        assert tuple(file.nstart.tolist()) == (-3, -1, -2)
        steps = 100 * one.cell.reciprocal_lengths / np.array(one.grid.sampling)
        assert_allclose(file.voxel_size.tolist(), steps, rtol=RTOL_FLOAT32)
        assert file.get_labels()[0].rstrip() == "Diffuse map of offbragg, axes h k l"


# --- VTK -----------------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=10)
@given(one=maps, ending=st.sampled_from(["vts", "vtk"]))
def test_pyvista_finds_every_voxel_in_its_place(tmp_path_factory, one, ending):
    import pyvista

    read = pyvista.read(export_map(one, tmp_path_factory.mktemp("vtk") / f"a.{ending}"))
    assert read.dimensions == one.grid.shape
    hkl = np.stack([x.ravel(order="F") for x in np.moveaxis(one.grid.hkl(), -1, 0)], axis=1)
    assert_allclose(read.points, hkl @ one.cell.frac_matrix, atol=1e-12)
    assert_allclose(np.linalg.norm(read.points, axis=1), inv_d_by_hand(one.cell, hkl), atol=1e-12)
    for name in (*ARRAYS, "count"):
        assert_array_equal(read.point_data[name], getattr(one, name).ravel(order="F"))
    assert read.active_scalars_name == "intensity"
    assert_array_equal(read.field_data["unit_cell"], one.cell)
    assert_array_equal(read.field_data["sampling"], one.grid.sampling)
    assert_array_equal(read.field_data["first_node"], one.grid.first_index)


def test_only_the_vtk_file_is_left(tmp_path):
    export_map(made(), tmp_path / "a.vts")
    assert [x.name for x in tmp_path.iterdir()] == ["a.vts"]


# --- NeXus: the map file itself ------------------------------------------


def test_nexusformat_finds_what_to_plot(tmp_path):
    from nexusformat.nexus import nxload

    one = made()
    write_map(tmp_path / "a.h5", one)
    root = nxload(tmp_path / "a.h5")
    data = root.get_default()
    assert data.nxpath == "/entry/map"
    assert data.nxclass == "NXdata"
    assert data.nxsignal.nxname == "intensity"
    assert_array_equal(data.nxsignal.nxvalue, one.intensity)
    assert_array_equal(data.nxerrors.nxvalue, one.sigma)
    assert [axis.nxname for axis in data.nxaxes] == ["h", "k", "l"]
    for axis, expected in zip(data.nxaxes, (one.grid.h, one.grid.k, one.grid.l), strict=True):
        assert_array_equal(axis.nxvalue, expected)
    assert_array_equal(root["entry/sample/unit_cell"].nxvalue, CELL)


# --- text and NumPy ------------------------------------------------------


def test_pandas_reads_the_list_with_commas(tmp_path):
    import pandas

    one = made()
    table = pandas.read_csv(export_map(one, tmp_path / "a.csv"), comment="#")
    assert list(table) == ["h", "k", "l", "intensity", "sigma", "count", "half_1", "half_2"]
    for row in table.itertuples():
        value = value_at(one.intensity, one.grid, (row.h, row.k, row.l))
        assert np.float32(row.intensity) == value or (np.isnan(row.intensity) and np.isnan(value))


def test_numpy_reads_the_archive_and_the_list(tmp_path):
    one = made()
    with np.load(export_map(one, tmp_path / "a.npz")) as read:
        assert_array_equal(read["intensity"], one.intensity)
        assert_array_equal(read["l"], one.grid.l)
        assert_array_equal(read["cell"], CELL)
    table = np.loadtxt(export_map(one, tmp_path / "a.txt"))
    assert table.shape[1] == 8
    assert np.count_nonzero(~np.isnan(table[:, 3])) == np.count_nonzero(one.measured)


# --- xarray --------------------------------------------------------------


def test_xarray_has_arrays_axes_and_attributes():
    one = made()
    dataset = one.to_xarray()
    assert dict(dataset.sizes) == {"h": 7, "k": 4, "l": 5}
    for name in (*ARRAYS, "count"):
        assert dataset[name].dims == ("h", "k", "l")
        assert_array_equal(dataset[name], getattr(one, name))
    assert np.shares_memory(dataset["intensity"].values, one.intensity)
    node = dataset.intensity.sel(h=1 / 3, k=2, l=-0.5, method="nearest")
    assert_array_equal(node, value_at(one.intensity, one.grid, (1 / 3, 2, -0.5)))
    assert dataset.attrs["cell"] == list(CELL)
    assert dataset.attrs["space_group"] == "P 1"
    assert dataset.attrs["sampling"] == [3, 1, 2]
    assert dataset.h.attrs["units"] == "r.l.u."
    assert "laue_group" not in dataset.attrs
    merged = merge(one).map.to_xarray()
    assert merged.attrs["laue_group"] == "-1"
    assert '"merge"' in merged.attrs["provenance"]


def test_a_computed_map_has_intensities_only():
    grid = HklGrid.from_resolution(CELL, 4.0)
    dataset = DiffuseMap(grid, np.ones(grid.shape)).to_xarray()
    assert list(dataset) == ["intensity"]
    assert dataset.attrs["d_min"] == 4.0
