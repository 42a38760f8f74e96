"""Map files: layout for other programs, round trips, whole or not at all, hostile files."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal, assert_equal

from offbragg.crystal.grid import HklGrid
from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.maps.diffuse_map import DiffuseMap
from offbragg.maps.io import read_map, write_map

CELL = (11.0, 13.0, 17.0, 82.0, 95.0, 104.0)
ARRAYS = ("intensity", "sigma", "count", "half_1", "half_2")
TABLES = {
    "overall": {
        "r_int": 0.125,
        "n_voxels": 12,
        "note": "said once",
        "cc": float("nan"),
        "none": None,
    },
    "shells": {"d_min": [3.0, 2.0], "n": [5, 7], "name": ["a", "β"], "used": [True, False]},
    "empty": {},
    "deep": {"zz": {"list": []}, "aa": {"matrix": [[1, 2], [3, 4]]}},
}
STEPS = (
    {
        "program": "offbragg",
        "command": "map",
        "options": {"d_min": 2.0, "names": ["a"], "nothing": None},
        "corrections": ["polarisation"],
        "inputs": [{"name": "a.cbf", "sha256": "00"}],
    },
    {"program": "other", "time": "2026-01-01T00:00:00+00:00"},
)


def full_map(seed=0, **changes):
    rng = np.random.default_rng(seed)
    grid = HklGrid(CELL, np.arange(-3, 5) / 3, [0.0, 1.0, 2.0], [-0.5, 0.0], d_min=2.5)
    arrays = {n: rng.normal(size=grid.shape).astype(np.float32) for n in ARRAYS}
    arrays["intensity"][0] = np.nan
    arrays["count"] = rng.integers(0, 99, grid.shape).astype(np.int32)
    values = {"space_group": "P 1", "laue_group": "-1", "statistics": TABLES, "provenance": STEPS}
    return DiffuseMap(grid, **(arrays | values | changes))


def check_same(found, expected):
    assert found.grid.same_voxels(expected.grid)
    assert found.cell == expected.cell
    assert found.grid.d_min == expected.grid.d_min
    for name in ARRAYS:
        one, two = getattr(found, name), getattr(expected, name)
        assert (one is None) == (two is None)
        if one is not None:
            assert_array_equal(one, two)
            assert one.dtype == two.dtype
    assert found.space_group == expected.space_group
    assert found.laue_group == expected.laue_group
    assert_equal(dict(found.statistics), dict(expected.statistics))
    assert_equal(list(found.provenance), list(expected.provenance))


@pytest.fixture
def written(tmp_path):
    """A file with everything in it."""
    write_map(tmp_path / "map.h5", full_map())
    return tmp_path / "map.h5"


# --- 1 reference numbers: the layout that other programs read ------------


def test_layout_is_nexus(written):
    with h5py.File(written) as file:
        assert file.attrs["default"] == "entry"
        assert file.attrs["offbragg_format_version"] == 1
        entry, data = file["entry"], file["entry/map"]
        assert entry.attrs["NX_class"] == "NXentry"
        assert entry.attrs["default"] == "map"
        assert data.attrs["NX_class"] == "NXdata"
        assert data.attrs["signal"] == "intensity"
        assert list(data.attrs["axes"]) == ["h", "k", "l"]
        types = {
            n: str(data[n].dtype)
            for n in ("intensity", "intensity_errors", "count", "half_1", "half_2", "h", "k", "l")
        }
        assert types == dict.fromkeys("hkl", "float64") | {
            "intensity": "float32",
            "intensity_errors": "float32",
            "count": "int32",
            "half_1": "float32",
            "half_2": "float32",
        }
        assert data["intensity"].shape == (8, 3, 2)
        assert data["intensity"].compression == "gzip"
        assert all("units" in data[n].attrs for n in types)
        assert_array_equal(data["h"][()], np.arange(-3, 5) / 3)
        assert entry["sample"].attrs["NX_class"] == "NXsample"
        assert_array_equal(entry["sample/unit_cell"][()], CELL)
        assert entry["sample/space_group"].asstr()[()] == "P 1"
        assert_array_equal(entry["statistics/shells/d_min"][()], [3.0, 2.0])
        assert entry["statistics/overall/r_int"][()] == 0.125
        assert entry["process_1"].attrs["NX_class"] == "NXprocess"
        assert (
            entry["process_1/options"].asstr()[()]
            == '{"d_min": 2.0, "names": ["a"], "nothing": null}'
        )


def test_a_plain_computed_map_has_only_what_it_has(tmp_path):
    grid = HklGrid(CELL, [0], [0], [0])
    write_map(tmp_path / "m.h5", DiffuseMap(grid, np.ones((1, 1, 1))))
    with h5py.File(tmp_path / "m.h5") as file:
        assert set(file["entry/map"]) == {"intensity", "h", "k", "l"}
        assert set(file["entry/sample"]) == {"unit_cell", "space_group"}


# --- 2 independent oracle: what h5py writes by itself --------------------


def test_a_minimal_file_by_hand_is_read(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["offbragg_format_version"] = 1
        file["entry/map/intensity"] = np.arange(4, dtype=">i2").reshape(2, 2, 1)
        file["entry/map/h"], file["entry/map/k"], file["entry/map/l"] = [3, 4], [-0.5, 0.0], [7]
        file["entry/sample/unit_cell"] = [10, 10, 10, 90, 90, 90]
        file["entry/sample/space_group"] = "P 41"
    found = read_map(tmp_path / "m.h5")
    assert found.grid.sampling == (1, 2, 1)
    assert found.space_group == "P 41"
    assert found.intensity.dtype == np.float32
    assert_array_equal(found.intensity.ravel(), [0, 1, 2, 3])
    assert found.sigma is None
    assert found.statistics == {}
    assert found.provenance == ()


# --- 3 exact limits ------------------------------------------------------


def test_everything_comes_back(written):
    check_same(read_map(written), full_map())


def test_order_of_tables_columns_and_steps_is_kept(tmp_path):
    steps = tuple({"command": str(i)} for i in range(12))
    columns = {f"c{i}": [i] for i in range(20, 0, -1)}
    write_map(tmp_path / "m.h5", full_map(statistics={"z": columns, "a": {}}, provenance=steps))
    found = read_map(tmp_path / "m.h5")
    assert list(found.statistics) == ["z", "a"]
    assert list(found.statistics["z"]) == list(columns)
    assert found.provenance == steps


def test_double_precision_is_stored_as_single(tmp_path):
    values = full_map()
    exact = np.full(values.grid.shape, np.pi)
    write_map(tmp_path / "m.h5", dataclasses.replace(values, intensity=exact))
    assert_array_equal(read_map(tmp_path / "m.h5").intensity, exact.astype(np.float32))


# --- 4 invariances -------------------------------------------------------


@settings(deadline=None, derandomize=True, max_examples=30)
@given(
    first=st.tuples(*[st.integers(-9, 9)] * 3),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    sampling=st.tuples(*[st.integers(1, 4)] * 3),
    present=st.sets(st.sampled_from(ARRAYS[1:])),
    d_min=st.none() | st.floats(0.5, 9),
    laue_group=st.none() | st.sampled_from(["-1", "mmm"]),
    tables=st.dictionaries(
        st.text("abcé_ ", min_size=1),
        st.dictionaries(
            st.text("abcé_ ", min_size=1),
            st.lists(st.floats(allow_nan=False))
            | st.lists(st.integers(-(2**62), 2**62), min_size=1)
            | st.text("xyß\n"),
            max_size=3,
        ),
        max_size=3,
    ),
)
def test_round_trip(tmp_path_factory, first, shape, sampling, present, d_min, laue_group, tables):
    axes = [(a + np.arange(n)) / s for a, n, s in zip(first, shape, sampling, strict=True)]
    grid = HklGrid(CELL, *axes, sampling, d_min)
    values = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    arrays = {n: values.astype(np.int32) if n == "count" else values for n in present}
    expected = DiffuseMap(grid, values, laue_group=laue_group, statistics=tables, **arrays)
    path = tmp_path_factory.mktemp("maps") / "map.h5"
    write_map(path, expected)
    check_same(read_map(path), expected)


def test_writing_over_a_file_replaces_it(written):
    write_map(written, full_map(seed=1))
    check_same(read_map(written), full_map(seed=1))
    assert os.listdir(written.parent) == [written.name]


# --- 5 errors: whole or not at all ---------------------------------------


def test_an_interrupted_write_leaves_the_old_file(written, monkeypatch):
    before = written.read_bytes()

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("offbragg.maps.io.os.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_map(written, full_map(seed=1))
    assert written.read_bytes() == before
    assert os.listdir(written.parent) == [written.name]


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on the size of files")
def test_a_full_disk_is_one_line_and_leaves_the_old_file(written):
    # A limit on the size of files stands for the disk; in a process of its own.
    before = written.read_bytes()
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from offbragg.maps.io import read_map, write_map\n"
        "found = read_map(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    write_map(sys.argv[1], found)\n"
        "except FileNotFoundError as error:\n    sys.exit(str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(written)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith("map.h5: cannot be written: File too large")
    assert written.read_bytes() == before
    assert os.listdir(written.parent) == [written.name]


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(MissingFileError, match=r"m.h5: folder .*none does not exist"):
        write_map(tmp_path / "none" / "m.h5", full_map())
    with pytest.raises(MissingFileError, match="expected the name of a file, found a folder"):
        write_map(tmp_path, full_map())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intensity": np.full((8, 3, 2), 1e39)}, r"intensity must fit float32, got .*1e\+39"),
        ({"count": np.full((8, 3, 2), 2**31)}, r"count must fit int32, got .*2147483648"),
        ({"statistics": {"a": {"b": object()}}}, "b must be a number, text or an even list"),
        ({"statistics": {"a": {"b": [[1], [2, 3]]}}}, "b must be a number, text or an even list"),
        ({"statistics": {"a": {"b/c": 1}}}, "names in a map file must not be empty or hold '/'"),
        ({"statistics": {"": {}}}, "names in a map file must not be empty or hold '/', got ''"),
    ],
)
def test_what_a_file_cannot_hold_is_named(written, changes, message):
    before = written.read_bytes()
    with pytest.raises(InputError, match=message):
        write_map(written, full_map(**changes))
    assert written.read_bytes() == before
    assert os.listdir(written.parent) == [written.name]


def test_a_missing_file(tmp_path):
    with pytest.raises(MissingFileError, match=r"none.h5: no such file"):
        read_map(tmp_path / "none.h5")
    with pytest.raises(MissingFileError, match="no such file"):
        read_map(tmp_path)


def test_a_file_that_is_no_map(tmp_path):
    (tmp_path / "a.txt").write_text("plain")
    with pytest.raises(FormatError, match=r"a.txt: expected a map in HDF5, found another kind"):
        read_map(tmp_path / "a.txt")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data"] = [1]
    with pytest.raises(
        FormatError, match="offbragg_format_version: expected 1, found none: not a map"
    ):
        read_map(tmp_path / "b.h5")


def delete(name):
    def change(file):
        del file[name]

    return change


def put(name, value, **attrs):
    def change(file):
        if name in file:
            del file[name]
        file[name] = value
        for key, entry in attrs.items():
            file[name].attrs[key] = entry

    return change


def deepen(file):
    group = file["entry/statistics"]
    for _ in range(20):
        group = group.create_group("a")


def loop(file):
    file["entry/statistics/again"] = file["entry/statistics"]


def link_outside(file):
    del file["entry/map/intensity"]
    file["entry/map/intensity"] = h5py.ExternalLink("other.h5", "/entry/map/intensity")


def store_outside(file):
    del file["entry/map/intensity"]
    file["entry/map"].create_dataset("intensity", (8, 3, 2), "f4", external=[("other", 0, 192)])


def virtual(file):
    del file["entry/map/intensity"]
    layout = h5py.VirtualLayout((8, 3, 2), "f4")
    layout[...] = h5py.VirtualSource("other.h5", "x", (8, 3, 2))
    file["entry/map"].create_virtual_dataset("intensity", layout)


def set_attribute(name, key, value):
    def change(file):
        file[name].attrs[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_attribute("/", "offbragg_format_version", 2), "expected 1, found 2: a later version"),
        (delete("entry/map/intensity"), "/entry/map/intensity: expected a dataset, found none"),
        (delete("entry/map/k"), "/entry/map/k: expected a dataset, found none"),
        (
            delete("entry/sample/unit_cell"),
            "/entry/sample/unit_cell: expected a dataset, found none",
        ),
        (delete("entry"), "/entry/map: expected a group, found none"),
        (put("entry/map", 3), "/entry/map: expected a group, found a dataset"),
        (delete("entry/sample/space_group"), "/entry/sample/space_group: expected a dataset"),
        (
            put("entry/map/h", [1 / 3, 2 / 3]),
            r"intensity: expected numbers of shape \(2, 3, 2\), found float32",
        ),
        (put("entry/map/h", [1.0, 1.5, 3.0]), "axis h must rise in equal steps"),
        (
            put("entry/map/h", "text"),
            "/entry/map/h: expected numbers in 1 dimensions, found object in 0",
        ),
        (put("entry/map/count", np.ones((8, 3, 2))), "count: expected integers of shape"),
        (put("entry/map/half_1", np.ones((8, 3, 1))), "half_1: expected numbers of shape"),
        (put("entry/sample/unit_cell", [1.0, 2.0]), "cell must be six numbers .* got 2"),
        (put("entry/sample/space_group", "Q 7"), "space group must be a Hermann-Mauguin"),
        (put("entry/sample/space_group", 7), "space_group: expected a text, found int64"),
        (put("entry/map/d_min", -1.0), "d_min must be > 0 Å, got -1.0"),
        (set_attribute("entry/map", "sampling", "abc"), "sampling: expected 3 integers"),
        (set_attribute("entry/map", "sampling", [7, 1, 2]), "axis h must rise in equal steps"),
        (
            put("entry/process_1/options", "{1", content_type="application/json"),
            "expected JSON, found '{1'",
        ),
        (
            put("entry/process_1/options", "[" * 100000, content_type="application/json"),
            "expected JSON",
        ),
        (put("entry/statistics/overall/r_int", np.complex64(1)), "r_int: expected numbers or text"),
        (deepen, "expected at most 8 groups inside each other"),
        (loop, "expected at most 8 groups inside each other"),
        (link_outside, "/entry/map/intensity: expected a dataset, found a link"),
        (
            store_outside,
            "/entry/map/intensity: expected a dataset in this file, found one in another",
        ),
        (virtual, "/entry/map/intensity: expected a dataset in this file, found one in another"),
    ],
    ids=lambda x: None if isinstance(x, str) else getattr(x, "__name__", "change"),
)
def test_a_wrong_file_is_told_by_name_and_dataset(written, change, message):
    with h5py.File(written, "r+") as file:
        change(file)
    with pytest.raises(FormatError, match=re.escape(str(written)) + ".*" + message) as caught:
        read_map(written)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [10, 600, 5000])
def test_a_cut_file_is_refused(written, keep):
    written.write_bytes(written.read_bytes()[:keep])
    with pytest.raises(FormatError, match=r"damaged|another kind of file"):
        read_map(written)


def test_flipped_bytes_are_refused_or_change_numbers_only(written):
    # Whatever the damage: a FormatError or a map, never another error.
    raw = written.read_bytes()
    rng = np.random.default_rng(2)
    refused = 0
    for _ in range(60):
        damaged = bytearray(raw)
        for place in rng.integers(0, len(raw), 20):
            damaged[place] = int(rng.integers(256))
        Path(written).write_bytes(bytes(damaged))
        try:
            read_map(written)
        except FormatError:
            refused += 1
    assert refused > 0
