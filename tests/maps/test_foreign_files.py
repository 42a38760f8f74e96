"""Files that other programs wrote: mdx2, eryx, MTZ of a supercell, lists of h k l I."""

import logging

import gemmi
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from offbragg import DiffuseMap, HklGrid, import_map, merge, write_map
from offbragg.errors import FormatError, InputError, MissingFileError

CELL = (24.0, 29.0, 35.0, 90.0, 90.0, 90.0)
TRICLINIC = (11.0, 13.0, 17.0, 82.0, 95.0, 104.0)
SAMPLING = (3, 2, 1)


def write_mdx2_map(path, values, axes, name="intensity", crystal=False):
    """The layout of a map.nxs of mdx2 1.0.5."""
    with h5py.File(path, "w") as file:
        group = file.create_group(f"entry/{name}")
        group.attrs["NX_class"] = "NXdata"
        group.attrs["axes"] = ["h", "k", "l"]
        group.attrs["signal"] = "signal"
        group["signal"] = values
        for axis, numbers in zip("hkl", axes, strict=True):
            group[axis] = numbers
        if crystal:
            file["entry/crystal/unit_cell"] = CELL
            file["entry/crystal/space_group"] = "P 21 21 21"


def write_mdx2_table(path, node, n_div, values, **columns):
    """The layout of a merged.nxs of mdx2 1.0.5."""
    with h5py.File(path, "w") as file:
        group = file.create_group("entry/hkl_table")
        for axis, numbers in zip("hkl", node.T / np.array(n_div)[:, None], strict=True):
            group[axis] = numbers
        group["ndiv"] = np.array(n_div)
        group["intensity"] = values
        for name, column in columns.items():
            group[name] = column


def some_values(shape, seed=0):
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    values[0] = np.nan
    return values


# --- mdx2 ------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["nxs", "h5"])
def test_a_map_of_mdx2(tmp_path, suffix):
    values = some_values((5, 3, 4))
    axes = (np.arange(-2, 3) / 3, np.arange(0, 3) / 2, np.arange(-1.0, 3.0))
    write_mdx2_map(tmp_path / f"map.{suffix}", values, axes)
    found = import_map(tmp_path / f"map.{suffix}", CELL, "P 21 21 21")
    assert_array_equal(found.intensity, values)
    assert found.intensity.dtype == np.float32
    assert found.grid.sampling == (3, 2, 1)
    assert_array_equal(found.grid.first_index, (-2, 0, -1))
    assert (found.cell, found.space_group) == (CELL, "P 21 21 21")


def test_another_signal_of_mdx2_and_a_crystal_beside_it(tmp_path):
    values = some_values((3, 3, 3))
    axes = (np.arange(3.0),) * 3
    write_mdx2_map(tmp_path / "map.nxs", values, axes, name="scale", crystal=True)
    for key in (None, "scale"):
        found = import_map(tmp_path / "map.nxs", key=key)
        assert_array_equal(found.intensity, values)
        assert (found.cell, found.space_group) == (CELL, "P 21 21 21")


def test_a_table_of_mdx2_fills_the_sphere_by_merging(tmp_path):
    node = np.array([[1, 2, 3], [0, 1, 2], [2, 0, 0]])
    write_mdx2_table(
        tmp_path / "merged.nxs", node, (3, 3, 3), np.float32([5, 6, 7]),
        intensity_error=np.float32([0.5, 0.6, 0.7]), count=np.int32([9, 8, 7]),
    )  # fmt: skip
    found = import_map(tmp_path / "merged.nxs", CELL, "P 21 21 21")
    assert np.count_nonzero(found.measured) == 3
    place = tuple(node[0] - found.grid.first_index)
    assert (found.intensity[place], found.sigma[place], found.count[place]) == (
        5, np.float32(0.5), 9
    )  # fmt: skip
    whole = merge(found).map
    index, inside = whole.grid.index_of([[1 / 3, -2 / 3, 1], [-1 / 3, -2 / 3, -1]])
    assert inside.all()
    assert_array_equal(whole.intensity[tuple(index.T)], [5, 5])


def test_what_mdx2_files_lack_is_named(tmp_path, caplog):
    axes = (np.arange(3.0),) * 3
    write_mdx2_map(tmp_path / "map.nxs", some_values((3, 3, 3)), axes)
    with pytest.raises(InputError, match=r"map\.nxs: expected a cell .*geometry\.nxs"):
        import_map(tmp_path / "map.nxs")
    with caplog.at_level(logging.WARNING):
        assert import_map(tmp_path / "map.nxs", CELL).space_group == "P 1"
    assert "no space group given" in caplog.text
    with pytest.raises(FormatError, match=r"/entry/other: expected a group, found none"):
        import_map(tmp_path / "map.nxs", CELL, key="other")
    write_mdx2_map(tmp_path / "b.nxs", some_values((3, 3, 2)), axes)
    with pytest.raises(FormatError, match=r"b\.nxs: intensity must have the grid's shape"):
        import_map(tmp_path / "b.nxs", CELL)
    write_mdx2_map(tmp_path / "c.nxs", some_values((3, 3, 3)), (*axes[:2], [0.0, 0.3, 2.0]))
    with pytest.raises(FormatError, match=r"c\.nxs: axis l must rise in equal steps"):
        import_map(tmp_path / "c.nxs", CELL)
    (tmp_path / "d.nxs").write_bytes(b"text")
    with pytest.raises(FormatError, match=r"d\.nxs: expected .*HDF5"):
        import_map(tmp_path / "d.nxs", CELL)


def test_links_to_other_files_are_not_followed(tmp_path):
    axes = (np.arange(3.0),) * 3
    write_mdx2_map(tmp_path / "other.nxs", some_values((3, 3, 3)), axes)
    write_mdx2_map(tmp_path / "map.nxs", some_values((3, 3, 3)), axes)
    with h5py.File(tmp_path / "map.nxs", "a") as file:
        del file["entry/intensity/signal"]
        file["entry/intensity/signal"] = h5py.ExternalLink("other.nxs", "/entry/intensity/signal")
    with pytest.raises(FormatError, match="signal: expected a dataset, found a link"):
        import_map(tmp_path / "map.nxs", CELL)


def test_a_map_file_of_this_program_needs_no_import(tmp_path):
    write_map(tmp_path / "a.h5", DiffuseMap(HklGrid(CELL, [0], [0], [0]), np.ones((1, 1, 1))))
    with pytest.raises(FormatError, match="found a map file of this program"):
        import_map(tmp_path / "a.h5", CELL)


# --- eryx --------------------------------------------------------------------


@pytest.mark.parametrize("flat", [False, True])
def test_an_array_of_eryx(tmp_path, flat):
    # hsampling = (-2, 2, 3), ksampling = (-1, 1, 2), lsampling = (-3, 3, 1): n (high − low) + 1
    # points an axis; models return them flattened, l fastest.
    shape = (13, 5, 7)
    values = np.random.default_rng(0).normal(size=shape)
    np.save(tmp_path / "a.npy", values.ravel() if flat else values)
    found = import_map(tmp_path / "a.npy", TRICLINIC, "P 1", origin=(-2, -1, -3), sampling=SAMPLING)
    assert_array_equal(found.intensity, values)
    for axis, (low, high, n) in zip("hkl", ((-2, 2, 3), (-1, 1, 2), (-3, 3, 1)), strict=True):
        points = int(n * (high - low) + 1)
        assert_allclose(getattr(found.grid, axis), np.linspace(low, high, points), atol=1e-12)


def test_what_an_array_lacks_is_named(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(30))
    with pytest.raises(InputError, match=r"a\.npy: expected a cell"):
        import_map(tmp_path / "a.npy", origin=(0, 0, 0))
    with pytest.raises(InputError, match=r"a\.npy: expected origin \(the hkl of its first"):
        import_map(tmp_path / "a.npy", CELL)
    with pytest.raises(InputError, match=r"expected 3 x 3 x 3 values, from the origin.*found 30"):
        import_map(tmp_path / "a.npy", CELL, origin=(-1, -1, -1))
    np.save(tmp_path / "a.npy", np.ones((3, 10)))
    with pytest.raises(FormatError, match=r"three dimensions, or one, found .* \(3, 10\)"):
        import_map(tmp_path / "a.npy", CELL, origin=(-1, -1, -1))
    np.save(tmp_path / "a.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(FormatError, match="Object arrays cannot be loaded"):
        import_map(tmp_path / "a.npy", CELL, origin=(-1, -1, -1))


# --- MTZ -----------------------------------------------------------------------


def write_supercell(path, node, columns, sampling=SAMPLING, space_group="P 1"):
    """Reflections as another program might index a supercell."""
    mtz = gemmi.Mtz(with_base=True)
    mtz.spacegroup = gemmi.SpaceGroup(space_group)
    mtz.set_cell_for_all(
        gemmi.UnitCell(*np.array(TRICLINIC[:3]) * np.array(sampling), *TRICLINIC[3:])
    )
    for (label, kind), _ in columns:
        mtz.add_column(label, kind)
    mtz.set_data(np.column_stack([node, *(v for _, v in columns)]).astype(np.float32))
    mtz.write_to_file(str(path))


NODES = np.array([[1, 2, 3], [-2, 0, 1], [0, 0, 2]])


def test_a_supercell_of_another_program(tmp_path):
    columns = [(("IMEAN", "J"), [5, 6, 7]), (("SIGIMEAN", "Q"), [1, 2, 3]), (("X", "R"), [0, 0, 0])]
    write_supercell(tmp_path / "a.mtz", NODES, columns)
    found = import_map(tmp_path / "a.mtz", sampling=SAMPLING)
    assert found.cell == pytest.approx(TRICLINIC, rel=1e-6)
    assert found.grid.sampling == SAMPLING
    places = tuple((NODES - found.grid.first_index).T)
    assert_array_equal(found.intensity[places], [5, 6, 7])
    assert_array_equal(found.sigma[places], [1, 2, 3])
    assert np.count_nonzero(found.measured) == 3
    other = import_map(tmp_path / "a.mtz", sampling=SAMPLING, key="X")
    assert_array_equal(other.intensity[places], [0, 0, 0])
    assert other.sigma is None


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 2, 1, 3)])
def test_mates_apart_of_another_program(tmp_path, order):
    columns = [
        (("I(+)", "K"), [5, 6, np.nan]), (("SIGI(+)", "M"), [1, 2, np.nan]),
        (("I(-)", "K"), [8, np.nan, 9]), (("SIGI(-)", "M"), [3, np.nan, 4]),
    ]  # fmt: skip
    write_supercell(tmp_path / "a.mtz", NODES, [columns[n] for n in order])
    found = import_map(tmp_path / "a.mtz", sampling=SAMPLING)
    mates = np.array([[1, 2, 3], [-2, 0, 1], [-1, -2, -3], [0, 0, -2]])
    places = tuple((mates - found.grid.first_index).T)
    assert_array_equal(found.intensity[places], [5, 6, 8, 9])
    assert_array_equal(found.sigma[places], [1, 2, 3, 4])
    assert np.count_nonzero(found.measured) == 4


def test_without_a_sampling_reflections_are_nodes(tmp_path, caplog):
    write_supercell(tmp_path / "a.mtz", NODES, [(("I", "J"), [5, 6, 7])], sampling=(1, 1, 1))
    assert import_map(tmp_path / "a.mtz").grid.sampling == (1, 1, 1)
    assert "a.mtz: no sampling given, 1 1 1 is used" in caplog.text


def test_what_is_wrong_with_another_mtz_file_is_named(tmp_path):
    write_supercell(tmp_path / "a.mtz", NODES, [(("F", "F"), [5, 6, 7])])
    with pytest.raises(InputError, match=r"a column of intensities .*found H:H K:H L:H F:F"):
        import_map(tmp_path / "a.mtz", sampling=SAMPLING)
    with pytest.raises(InputError, match="expected a column J, found"):
        import_map(tmp_path / "a.mtz", sampling=SAMPLING, key="J")
    with pytest.raises(InputError, match="sampling must be three whole numbers"):
        import_map(tmp_path / "a.mtz", sampling=(0, 1, 1))
    write_supercell(tmp_path / "a.mtz", NODES[[0, 0, 1]], [(("I", "J"), [5, 6, 7])])
    with pytest.raises(FormatError, match=r"expected each hkl once, found 0\.333333 1 3 more"):
        import_map(tmp_path / "a.mtz", sampling=SAMPLING)
    (tmp_path / "a.mtz").write_bytes(b"MTZ but not quite")
    with pytest.raises(FormatError, match=r"a\.mtz: expected an MTZ file"):
        import_map(tmp_path / "a.mtz", sampling=SAMPLING)


# --- CCP4 ----------------------------------------------------------------------


def test_a_volume_of_density_is_not_taken_for_a_map(tmp_path):
    density = gemmi.Ccp4Map()
    density.grid = gemmi.FloatGrid(np.ones((4, 4, 4), dtype=np.float32))
    density.grid.set_unit_cell(gemmi.UnitCell(*TRICLINIC))
    density.update_ccp4_header()
    density.write_ccp4_map(str(tmp_path / "a.ccp4"))
    with pytest.raises(FormatError, match="labels: expected those of a map that this program"):
        import_map(tmp_path / "a.ccp4")


# --- lists -----------------------------------------------------------------------

ROWS = [(0, 0, 1, 5.5, 1, 7), (1 / 3, -0.5, 2, 6.5, 2, 8), (-2 / 3, 0, 0, 7.5, 3, 9)]


def list_text(separator=" ", names="", digits=3, columns=6):
    rows = [
        separator.join([*(f"{x:.{digits}f}" for x in r[:3]), *map(str, r[3:columns])]) for r in ROWS
    ]
    return "\n".join(([names] if names else []) + rows) + "\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.hkl", list_text()),
        ("a.txt", list_text("   ", digits=6)),
        ("a.txt", "# made by hand\n\n" + list_text()),
        ("a.csv", list_text(",", names="h,k,l,I,sigma,n")),
        ("a.csv", list_text(", ")),
        ("a.csv", "\ufeff" + list_text(",", names='"h","k","l","intensity","sig","count"')),
    ],
)
def test_a_list_of_another_program(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = import_map(tmp_path / name, CELL, "P 1")
    assert found.grid.sampling == SAMPLING
    index, _ = found.grid.index_of([row[:3] for row in ROWS])
    places = tuple(index.T)
    assert_array_equal(found.intensity[places], [5.5, 6.5, 7.5])
    assert_array_equal(found.sigma[places], [1, 2, 3])
    assert_array_equal(found.count[places], [7, 8, 9])
    assert np.count_nonzero(found.measured) == 3


def test_columns_by_name_in_any_order(tmp_path):
    text = "l k h count other intensity\n1 0 0 4 9 5.5\n0 0 1 3 9 6.5\n"
    (tmp_path / "a.txt").write_text(text)
    found = import_map(tmp_path / "a.txt", CELL, "P 1")
    assert found.intensity[0, 0, 1] == 5.5
    assert found.count[1, 0, 0] == 3
    assert found.sigma is None


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    sampling=st.tuples(*[st.integers(1, 12)] * 3),
    digits=st.integers(4, 9),
    seed=st.integers(0, 2**20),
)
def test_the_sampling_of_a_list_is_found(tmp_path_factory, sampling, digits, seed):
    rng = np.random.default_rng(seed)
    node = np.unique(rng.integers(-30, 31, (200, 3)), axis=0)
    path = tmp_path_factory.mktemp("list") / "a.hkl"
    np.savetxt(path, np.column_stack([node / sampling, node[:, 0]]), fmt=f"%.{digits}f")
    found = import_map(path, CELL, "P 1")
    assert found.grid.sampling == sampling
    assert_array_equal(found.intensity[tuple((node - found.grid.first_index).T)], node[:, 0])


def test_a_sampling_given_is_used(tmp_path):
    (tmp_path / "a.hkl").write_text("0 0 1 5\n1 0 0 6\n")
    found = import_map(tmp_path / "a.hkl", CELL, "P 1", sampling=(2, 3, 4))
    assert found.grid.sampling == (2, 3, 4)
    assert found.grid.shape == (3, 1, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected rows of numbers, found none"),
        ("# only a comment\n", "expected rows of numbers, found none"),
        ("h k l I\n", "expected columns h k l I|expected at least one"),
        ("h k I\n0 0 1\n", "expected columns h k l I, .* found 3 columns h k I"),
        ("a title of words\n0 0 1 5\n", "found 4 columns a title of words"),
        ("0 0 1\n", "expected columns h k l I, then perhaps sigma and count, found 3"),
        ("0 0 1 2 3 4 5\n", "found 7 columns"),
        ("0 0 1 5\n0 0 x 6\n", "expected rows of numbers: could not convert string 'x'"),
        ("0 0 1 5\n0 0 2\n", "expected rows of numbers: "),
        ("0 0 1 5\n0 0 1 6\n", "expected each hkl once, found 0 0 1 more than once"),
        ("0 0 0.01 5\n", "l: expected multiples of 1/n for n = up to 30, found others"),
        ("0 0 1 5 1 2.5\n", "count must be whole numbers >= 0, got 2.5"),
        ("0 0 1 5\n0 0 900000 1\n900000 900000 0 1\n", "expected hkl of one map, found a box"),
        ("nan 0 0 1\n", "expected multiples"),
    ],
)
def test_what_is_wrong_with_a_list_is_named(tmp_path, text, message):
    (tmp_path / "a.hkl").write_text(text)
    with pytest.raises(FormatError, match=rf"a\.hkl: .*({message})"):
        import_map(tmp_path / "a.hkl", CELL, "P 1")


def test_a_list_needs_a_cell_and_text(tmp_path):
    (tmp_path / "a.hkl").write_text(list_text())
    with pytest.raises(InputError, match=r"a\.hkl: expected a cell"):
        import_map(tmp_path / "a.hkl")
    (tmp_path / "a.hkl").write_bytes(bytes(range(256)))
    with pytest.raises(FormatError, match=r"a\.hkl: expected a list of h k l I: "):
        import_map(tmp_path / "a.hkl", CELL)


@pytest.mark.parametrize("ending", ["npy", "nxs", "mtz", "ccp4", "hkl"])
def test_a_file_that_is_missing_is_named(tmp_path, ending):
    with pytest.raises(MissingFileError, match=rf"a\.{ending}: no such file"):
        import_map(tmp_path / f"a.{ending}", CELL)
