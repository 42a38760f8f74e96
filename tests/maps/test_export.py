"""Exported maps: round trips without loss, what cannot be held refused, whole files or none."""

import dataclasses

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from tests.strategies import cells

from offbragg import DiffuseMap, HklGrid, export_map, import_map, merge
from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.maps.shells import isotropic_shells

ARRAYS = ("intensity", "sigma", "count", "half_1", "half_2")
READABLE = ("mtz", "ccp4", "mrc", "map", "npz", "hkl", "txt", "csv")
VOLUMES = ("ccp4", "mrc", "map")
CELL = (11.0, 13.0, 17.0, 82.0, 95.0, 104.0)
STEPS = ({"command": "map", "options": {"d_min": 2.0}}, {"command": "merge", "names": ["é"]})
TABLES = {"overall": {"r_int": 0.125, "cc": None}, "shells": {"n": [5, 7], "d_min": [3.0, 2.0]}}


def made(seed=0, cell=CELL, sampling=(3, 1, 2), first=(-3, 0, -1), shape=(8, 3, 4), **changes):
    """A map of made-up numbers with holes, zeros among the measured values, and all arrays."""
    rng = np.random.default_rng(seed)
    axes = [(a + np.arange(n)) / s for a, n, s in zip(first, shape, sampling, strict=True)]
    grid = HklGrid(cell, *axes, sampling, 0.7)
    arrays = {n: rng.normal(size=shape).astype(np.float32) for n in ARRAYS}
    arrays["count"] = rng.integers(0, 9, shape).astype(np.int32)
    arrays["intensity"][rng.uniform(size=shape) < 0.3] = np.nan
    arrays["intensity"][rng.uniform(size=shape) < 0.1] = 0.0
    arrays["half_1"][rng.uniform(size=shape) < 0.3] = np.nan
    values = {"space_group": "P 1", "statistics": TABLES, "provenance": STEPS}
    return DiffuseMap(grid, **(arrays | values | changes))


def check_same(found, expected, arrays=ARRAYS):
    assert found.grid.same_voxels(expected.grid)
    assert (found.cell, found.grid.d_min) == (expected.cell, expected.grid.d_min)
    assert (found.space_group, found.laue_group) == (expected.space_group, expected.laue_group)
    for name in arrays:
        one, two = getattr(found, name), getattr(expected, name)
        assert (one is None) == (two is None), name
        if one is not None:
            assert_array_equal(one, two, err_msg=name)
            assert one.dtype == two.dtype


def held_by(ending):
    return ("intensity",) if ending in VOLUMES else ARRAYS


# --- 1 reference numbers -------------------------------------------------


def test_the_columns_of_an_mtz_file(tmp_path):
    whole = made(first=(-3, -1, -1), shape=(7, 3, 3))
    apart = gemmi.read_mtz_file(str(export_map(whole, tmp_path / "a.mtz")))
    assert [(c.label, c.type) for c in apart.columns[3:9]] == [
        ("I(+)", "K"), ("I(-)", "K"), ("SIGI(+)", "M"), ("SIGI(-)", "M"), ("N(+)", "I"),
        ("N(-)", "I"),
    ]  # fmt: skip
    merged = gemmi.read_mtz_file(str(export_map(merge(whole).map, tmp_path / "b.mtz")))
    assert [(c.label, c.type) for c in merged.columns] == [
        ("H", "H"), ("K", "H"), ("L", "H"), ("I", "J"), ("SIGI", "Q"), ("N", "I"),
        ("I_HALF1", "J"), ("I_HALF2", "J"),
    ]  # fmt: skip
    for mtz in (apart, merged):
        assert mtz.spacegroup.xhm() == "P 1"
        assert mtz.cell.parameters == pytest.approx((33.0, 13.0, 34.0, 82.0, 95.0, 104.0))
        assert mtz.history[0] == "Diffuse map of offbragg: indices are 3 h, 1 k, 2 l of the crystal"
        assert len(mtz.history) <= 30  # what CCP4 reads
        assert max(map(len, mtz.history)) <= 80
        # One of each pair of Friedel mates, in the half that CCP4 takes for P 1.
        asu = gemmi.ReciprocalAsu(gemmi.SpaceGroup("P 1"))
        assert all(asu.is_in(hkl) for hkl in mtz.make_miller_array().tolist())


def test_the_labels_of_a_ccp4_file(tmp_path):
    raw = export_map(made(), tmp_path / "a.ccp4").read_bytes()
    labels = raw[224:1024].decode("ascii")
    assert labels[:80].rstrip() == "Diffuse map of offbragg, axes h k l"
    assert labels[80:160].startswith("1 A of the viewer = 0.01 1/A (1/d, without 2 pi), hkl = 0 at")
    words = np.frombuffer(raw[:224], "<i4")
    assert words[[0, 1, 2]].tolist() == [8, 3, 4]
    assert words[[4, 5, 6]].tolist() == [-3, 0, -1]


def test_the_lines_of_a_list(tmp_path):
    grid = HklGrid(CELL, [0.0, 1 / 3], [-1.0], [1.0, 2.0], (3, 1, 1))
    one = DiffuseMap(
        grid,
        np.array([[[1.5, np.nan]], [[0.1, 2.0]]], dtype=np.float32),
        sigma=np.array([[[0.5, np.nan]], [[np.nan, 1.0]]], dtype=np.float32),
        count=np.array([[[7, 0]], [[2, 3]]], dtype=np.int32),
    )
    lines = export_map(one, tmp_path / "a.hkl").read_text().splitlines()
    assert lines[1:3] == ["# cell 11.0 13.0 17.0 82.0 95.0 104.0", "# space group P 1"]
    assert lines[4:] == [
        "# h k l intensity sigma count",
        "0 -1 1 1.5 0.5 7",
        "0.3333333333 -1 1 0.100000001 nan 2",
        "0.3333333333 -1 2 2 1 3",
    ]
    lines = export_map(one, tmp_path / "a.csv").read_text().splitlines()
    assert lines[4:6] == ["h,k,l,intensity,sigma,count", "0,-1,1,1.5,0.5,7"]


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize("ending", READABLE)
def test_a_map_comes_back(tmp_path, ending):
    for name, one in (("whole", made()), ("merged", merge(made(first=(-4, -1, -2))).map)):
        found = import_map(export_map(one, tmp_path / f"{name}.{ending}"))
        check_same(found, one, held_by(ending))
        assert found.provenance[-1]["command"] == "import"


@pytest.mark.parametrize("ending", ["mtz", "npz"])
def test_tables_and_steps_come_back(tmp_path, ending):
    found = import_map(export_map(made(), tmp_path / f"a.{ending}"))
    assert found.statistics == TABLES
    assert found.provenance[:-1] == STEPS


def test_an_archive_keeps_double_precision(tmp_path):
    one = made()
    double = dataclasses.replace(one, intensity=one.intensity.astype(np.float64) / 3)
    for ending in ("npz", "hkl", "csv"):
        found = import_map(export_map(double, tmp_path / f"a.{ending}"))
        assert found.intensity.dtype == np.float64
        assert_array_equal(found.intensity, double.intensity)


@pytest.mark.parametrize("ending", READABLE)
def test_a_map_of_intensities_only_comes_back(tmp_path, ending):
    one = made(sigma=None, count=None, half_1=None, half_2=None, statistics={}, provenance=())
    check_same(import_map(export_map(one, tmp_path / f"a.{ending}")), one)


def test_zeros_are_told_from_holes_in_a_volume(tmp_path):
    one = made()
    assert np.any(one.intensity == 0)
    stored = gemmi.read_ccp4_map(str(export_map(one, tmp_path / "a.ccp4")), setup=False)
    values = np.array(stored.grid)
    # Every program sees 0 in both.
    assert np.all(values[~one.measured] == 0)
    assert_array_equal(import_map(tmp_path / "a.ccp4").measured, one.measured)


def test_holes_may_hold_the_mean_of_their_shell(tmp_path):
    one = made(first=(-6, -2, -4), shape=(13, 5, 9))
    path = export_map(one, tmp_path / "a.ccp4", missing="mean")
    values = np.array(gemmi.read_ccp4_map(str(path), setup=False).grid)
    assert_array_equal(values[one.measured], one.intensity[one.measured])
    shell = isotropic_shells(one.grid.inv_d())
    hole = tuple(np.argwhere(~one.measured & one.grid.within())[3])
    same = (shell == shell[hole]) & one.measured
    assert_allclose(values[hole], np.mean(one.intensity[same]) if np.any(same) else 0, rtol=1e-5)
    assert np.all(values[~one.grid.within() & ~one.measured] == 0)


def test_a_map_without_holes_comes_back_however_they_are_filled(tmp_path):
    one = made(intensity=np.ones((8, 3, 4), dtype=np.float32))
    found = import_map(export_map(one, tmp_path / "a.mrc", missing="mean"))
    check_same(found, one, ("intensity",))


def test_mates_that_are_no_copies_are_both_kept(tmp_path):
    # The map says that it is merged; its values do not.
    one = made(first=(-3, -1, -2), shape=(7, 3, 5), laue_group="-1")
    mtz = gemmi.read_mtz_file(str(export_map(one, tmp_path / "a.mtz")))
    assert "I(+)" in mtz.column_labels()
    check_same(import_map(tmp_path / "a.mtz"), one)


# --- 4 invariances -------------------------------------------------------

maps = st.builds(
    made,
    seed=st.integers(0, 2**20),
    cell=cells(),
    sampling=st.tuples(*[st.integers(1, 4)] * 3),
    first=st.tuples(*[st.integers(-5, 4)] * 3),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
)


@pytest.mark.parametrize("ending", ["mtz", "ccp4", "npz", "hkl", "csv"])
@settings(deadline=None, derandomize=True, max_examples=8)
@given(one=maps, merged=st.booleans())
def test_any_map_comes_back(tmp_path_factory, ending, one, merged):
    if not np.any(one.measured):
        one = dataclasses.replace(one, intensity=np.ones_like(one.intensity))
    one = merge(one).map if merged else one
    path = export_map(one, tmp_path_factory.mktemp("map") / f"a.{ending}")
    check_same(import_map(path), one, held_by(ending))


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.mtz.gz"])
def test_other_endings_are_named_and_nothing_is_left(tmp_path, name):
    with pytest.raises(
        InputError, match=r"a name in one of \.mtz \.ccp4 .*, got (\.xyz|none|\.gz)"
    ):
        export_map(made(), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [*READABLE, "vts", "vtk"])
def test_a_folder_that_is_missing_is_named(tmp_path, ending):
    with pytest.raises(MissingFileError, match=r"folder .*nowhere does not exist"):
        export_map(made(), tmp_path / "nowhere" / f"a.{ending}")


@pytest.mark.parametrize("ending", ["mtz", "ccp4"])
def test_values_beyond_single_precision_are_refused(tmp_path, ending):
    one = made(intensity=np.full((8, 3, 4), 1e300))
    with pytest.raises(InputError, match=r"intensity must fit float32, got .*1e\+300"):
        export_map(one, tmp_path / f"a.{ending}")
    assert not list(tmp_path.iterdir())


def test_counts_that_mtz_cannot_hold_are_refused(tmp_path):
    one = made(count=np.full((8, 3, 4), 2**24 + 1))
    with pytest.raises(InputError, match=r"count must fit float32, got .*16777217"):
        export_map(one, tmp_path / "a.mtz")
    check_same(import_map(export_map(one, tmp_path / "a.npz")), one)


def test_nothing_measured_is_no_mtz_file(tmp_path):
    nothing = np.full((8, 3, 4), np.nan)
    one = DiffuseMap(made().grid, nothing)
    with pytest.raises(InputError, match="expected a measured voxel to write as MTZ, found none"):
        export_map(one, tmp_path / "a.mtz")
    assert not list(tmp_path.iterdir())
    for ending in ("ccp4", "npz"):
        assert not np.any(import_map(export_map(one, tmp_path / f"a.{ending}")).measured)


def test_how_holes_are_filled_is_checked(tmp_path):
    with pytest.raises(InputError, match="missing must be one of zero, mean, got 'nan'"):
        export_map(made(), tmp_path / "a.ccp4", missing="nan")
    with pytest.raises(InputError, match=r"missing is for \.ccp4, \.mrc and \.map only"):
        export_map(made(), tmp_path / "a.npz", missing="mean")
    assert not list(tmp_path.iterdir())


def test_holes_that_hold_means_cannot_be_read_back(tmp_path):
    export_map(made(), tmp_path / "a.ccp4", missing="mean")
    with pytest.raises(FormatError, match=r"a\.ccp4: voxels that were not measured hold means"):
        import_map(tmp_path / "a.ccp4")


@pytest.mark.parametrize("ending", READABLE)
def test_a_cut_file_is_refused_in_one_line(tmp_path, ending):
    raw = export_map(made(), tmp_path / f"a.{ending}").read_bytes()
    for length in (0, 3, 100, len(raw) // 2):
        (tmp_path / f"b.{ending}").write_bytes(raw[:length])
        if ending in ("hkl", "txt", "csv") and length > 100:
            continue  # a shorter list is a list
        with pytest.raises(FormatError, match=rf"^\S*b\.{ending}: [^\n]*$"):
            import_map(tmp_path / f"b.{ending}")


def test_a_header_of_a_later_version_is_named(tmp_path):
    text = export_map(made(), tmp_path / "a.hkl").read_text()
    (tmp_path / "a.hkl").write_text(text.replace('"offbragg_map":1', '"offbragg_map":2'))
    with pytest.raises(FormatError, match="header offbragg_map: expected 1, found 2: a later"):
        import_map(tmp_path / "a.hkl")
    (tmp_path / "a.hkl").write_text(text.replace('"shape":[8,', '"shape":[2,'))
    with pytest.raises(FormatError, match=r"a\.hkl: voxels: expected hkl within the grid, found"):
        import_map(tmp_path / "a.hkl")
    (tmp_path / "a.hkl").write_text(text.replace('"first"', '"last"'))
    with pytest.raises(FormatError, match=r"a\.hkl: header: expected first, found none"):
        import_map(tmp_path / "a.hkl")


def test_a_sampling_that_the_file_tells_is_not_overruled(tmp_path, caplog):
    one = made()
    found = import_map(export_map(one, tmp_path / "a.mtz"), sampling=(1, 1, 1))
    assert found.grid.same_voxels(one.grid)
    assert "a.mtz: the file tells its sampling and origin" in caplog.text


@pytest.mark.parametrize("ending", READABLE)
def test_a_cell_and_group_given_overrule_the_file(tmp_path, ending):
    path = export_map(made(), tmp_path / f"a.{ending}")
    found = import_map(path, cell=(11.1, 13, 17, 90, 95, 90), space_group="P 1 2 1")
    assert (found.cell.a, found.space_group) == (11.1, "P 1 2 1")


def test_an_mtz_file_that_was_changed_since_is_refused(tmp_path):
    mtz = gemmi.read_mtz_file(str(export_map(made(), tmp_path / "a.mtz")))
    mtz.set_cell_for_all(gemmi.UnitCell(11, 13, 17, 82, 95, 104))
    mtz.write_to_file(str(tmp_path / "b.mtz"))
    with pytest.raises(FormatError, match=r"b\.mtz: history: cell a differs by .*expected at most"):
        import_map(tmp_path / "b.mtz")
    mtz = gemmi.read_mtz_file(str(tmp_path / "a.mtz"))
    mtz.spacegroup = gemmi.SpaceGroup("P 1 21 1")
    mtz.write_to_file(str(tmp_path / "b.mtz"))
    with pytest.raises(FormatError, match=r"b\.mtz: space group: expected P 1, found P 1 21 1"):
        import_map(tmp_path / "b.mtz")
    mtz = gemmi.read_mtz_file(str(tmp_path / "a.mtz"))
    mtz.remove_column(mtz.column_labels().index("I(+)"))
    mtz.write_to_file(str(tmp_path / "b.mtz"))
    with pytest.raises(
        FormatError, match=r"b\.mtz: expected a column I or I\(\+\), found H I\(-\)"
    ):
        import_map(tmp_path / "b.mtz")
