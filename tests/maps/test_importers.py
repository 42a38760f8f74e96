"""Imported maps: files made by hand, both byte orders and versions, invariances, errors."""

import logging
import struct

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from offbragg.errors import FormatError, InputError, MissingFileError
from offbragg.maps.formats.lunus import read_lat
from offbragg.maps.formats.numpy_archive import read_npz
from offbragg.maps.importers import import_map

CELL = (20.0, 25.0, 30.0, 90.0, 90.0, 90.0)
SHAPE = (4, 3, 5)
CUBE = np.ones((2, 2, 2))
FIRST = (-2, -1, 0)  # node of the first voxel: neither centred nor odd


def lattice_values():
    values = np.arange(60, dtype=np.float32).reshape(SHAPE)
    values[1, 2, 3] = np.nan
    return values


def write_lat(path, order="<", count="I", extra=0, sampling=1, first=FIRST, shape=SHAPE):
    """A lattice by struct, voxel by voxel: x fastest; bounds to the last voxel or one beyond."""
    values = lattice_values()
    with open(path, "wb") as file:
        file.write(struct.pack(f"{order}3{count}", *shape))
        for a, n, edge in zip(first, shape, CELL[:3], strict=True):
            step = 1 / (edge * sampling)
            file.write(struct.pack(f"{order}2f", a * step, (a + n - 1 + extra) * step))
        for z in range(SHAPE[2]):
            for y in range(SHAPE[1]):
                for x in range(SHAPE[0]):
                    v = values[x, y, z]
                    file.write(struct.pack(f"{order}f", -32768.0 if np.isnan(v) else v))


@pytest.fixture
def lat(tmp_path):
    write_lat(tmp_path / "a.lat")
    return tmp_path / "a.lat"


# --- 1 reference numbers -------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("count", ["I", "Q"])
@pytest.mark.parametrize("extra", [0, 1])
def test_lattice_of_each_version(tmp_path, order, count, extra):
    write_lat(tmp_path / "a.lat", order, count, extra)
    found = read_lat(tmp_path / "a.lat", CELL, "P 2 2 2")
    assert_array_equal(found.intensity, lattice_values())
    assert found.intensity.dtype == np.float32
    assert found.grid.sampling == (1, 1, 1)
    assert_array_equal(found.grid.first_index, FIRST)
    assert found.space_group == "P 2 2 2"
    assert found.sigma is None
    assert found.provenance[0]["command"] == "import"
    assert found.provenance[0]["inputs"][0]["name"] == "a.lat"


def test_sampling_follows_from_the_cell(tmp_path):
    write_lat(tmp_path / "a.lat", sampling=3)
    found = read_lat(tmp_path / "a.lat", CELL, "P 1")
    assert found.grid.sampling == (3, 3, 3)
    assert_allclose(found.grid.h, np.arange(-2, 2) / 3)


def test_a_cell_measured_elsewhere_is_taken(tmp_path):
    write_lat(tmp_path / "a.lat")
    found = read_lat(tmp_path / "a.lat", (20.1, 25.1, 30.1, 90, 90, 90), "P 1")
    assert_array_equal(found.grid.first_index, FIRST)


# --- 2 independent oracle: archives by NumPy itself ----------------------


def test_archive_with_axes_and_everything(tmp_path):
    values = lattice_values()
    arrays = {"intensity": values, "sigma": values + 1, "half_1": values + 2, "half_2": values + 3}
    axes = {"h": [-1, -0.5, 0, 0.5], "k": [3, 4, 5], "l": np.arange(5)}
    count = np.arange(60).reshape(SHAPE)
    np.savez(tmp_path / "a.npz", **arrays, **axes, count=count, cell=CELL, space_group="P 41")
    found = read_npz(tmp_path / "a.npz")
    assert found.space_group == "P 41"
    assert found.cell == CELL
    assert_allclose(found.grid.h, axes["h"])
    for name, expected in arrays.items():
        assert_array_equal(getattr(found, name), expected)
    assert_array_equal(found.count, count)


@pytest.mark.parametrize(
    ("stored", "options"),
    [
        ({"hkl_range": [[-2, 1], [-1, 1], [0, 4]]}, {}),
        ({}, {"origin": (-2, -1, 0)}),
        ({"hkl_range": [0, 4]}, {"origin": (-2, -1, 0)}),
    ],
)
def test_archive_with_an_origin(tmp_path, stored, options):
    np.savez(tmp_path / "a.npz", other=lattice_values(), cell=CELL, **stored)
    found = import_map(tmp_path / "a.npz", space_group="P 1", **options)
    assert_array_equal(found.grid.first_index, FIRST)
    assert_array_equal(found.intensity, lattice_values())


def test_archive_with_an_origin_and_sampling(tmp_path):
    np.savez(tmp_path / "a.npz", a=lattice_values(), b=2 * lattice_values(), cell=CELL)
    found = read_npz(tmp_path / "a.npz", key="b", origin=(-1, 0.5, 0), sampling=(2, 2, 1))
    assert_allclose(found.grid.h, [-1, -0.5, 0, 0.5])
    assert_allclose(found.grid.k, [0.5, 1, 1.5])
    assert found.grid.sampling == (2, 2, 1)
    assert_array_equal(found.intensity, 2 * lattice_values())


def test_one_range_for_all_axes(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.ones((3, 3, 3)), cell=CELL, hkl_range=[-1, 1])
    found = read_npz(tmp_path / "a.npz")
    assert_array_equal(found.grid.l, [-1, 0, 1])


# --- 3 exact limits ------------------------------------------------------


def test_arguments_overrule_the_file(tmp_path, caplog):
    np.savez(
        tmp_path / "a.npz", a=np.ones((3, 3, 3)), cell=CELL, hkl_range=[-1, 1], space_group="P 1"
    )
    found = read_npz(tmp_path / "a.npz", cell=(10, 10, 10, 90, 90, 90), space_group="P 4")
    assert found.cell.a == 10
    assert found.space_group == "P 4"
    assert caplog.text == ""


def test_no_space_group_is_said(lat, caplog):
    with caplog.at_level(logging.WARNING):
        assert read_lat(lat, CELL).space_group == "P 1"
    assert "a.lat: no space group given, P 1 is used" in caplog.text


# --- 4 invariances -------------------------------------------------------


def test_lattice_and_archive_of_the_same_map_agree(lat):
    np.savez(lat.with_suffix(".npz"), intensity=lattice_values())
    one = import_map(lat, CELL, "P 1")
    two = import_map(lat.with_suffix(".npz"), CELL, "P 1", origin=FIRST)
    assert one.grid.same_voxels(two.grid)
    assert_array_equal(one.intensity, two.intensity)


# --- 5 errors ------------------------------------------------------------


def test_names_that_are_not_known(tmp_path):
    with pytest.raises(
        InputError, match=r"expected a name in one of \.lat \.npz \.npy .*, got \.xyz"
    ):
        import_map(tmp_path / "a.xyz")
    for name in ("a.lat", "a.npz"):
        with pytest.raises(MissingFileError, match=f"{name}: no such file"):
            import_map(tmp_path / name, CELL)


def test_a_lattice_needs_a_cell_that_fits(lat):
    with pytest.raises(
        InputError, match=r"a.lat: expected a cell \(a b c alpha beta gamma\), found none"
    ):
        read_lat(lat)
    with pytest.raises(
        InputError, match=r"a.lat: cell b: expected about 25.00 Å divided by the sampling.*got 35"
    ):
        read_lat(lat, (20, 35, 30, 90, 90, 90))


def test_what_is_no_lattice(tmp_path, lat):
    raw = lat.read_bytes()
    for cut in (b"", raw[:20], raw[:-1], raw + b"0000"):
        (tmp_path / "b.lat").write_bytes(cut)
        with pytest.raises(
            FormatError, match=f"expected a LUNUS lattice .* found {len(cut)} bytes"
        ):
            read_lat(tmp_path / "b.lat", CELL)
    bounds = struct.pack("<2f", 1.0, -1.0)
    (tmp_path / "b.lat").write_bytes(raw[:12] + bounds + raw[20:])
    with pytest.raises(FormatError, match=r"bounds of h: expected low < high, found 1.0 -1.0"):
        read_lat(tmp_path / "b.lat", CELL)
    # 0.37 steps off in either reading of the bounds.
    bounds = struct.pack("<2f", 0.37 / 20, 3.37 / 20)
    (tmp_path / "b.lat").write_bytes(raw[:12] + bounds + raw[20:])
    with pytest.raises(FormatError, match="bounds of h: expected hkl = 0 on a voxel"):
        read_lat(tmp_path / "b.lat", CELL)


@pytest.mark.parametrize(
    ("arrays", "options", "kind", "message"),
    [
        ({"a": CUBE}, {"origin": (0, 0, 0)}, InputError, "expected a cell"),
        ({"a": CUBE, "cell": [1, 2]}, {}, FormatError, "cell must be six numbers"),
        ({"a": CUBE, "cell": CELL}, {}, InputError, "expected axes h k l or hkl_range"),
        ({"a": np.ones(3), "cell": CELL}, {}, InputError, r"one 3D array .* found a\(3,\)"),
        ({"a": CUBE, "b": CUBE}, {}, InputError, "or its key, found a"),
        ({"a": CUBE}, {"key": "c"}, InputError, "key 'c': expected a 3D array"),
        ({"a": CUBE, "cell": CELL, "hkl_range": [0, 1, 2]}, {}, FormatError, "hkl_range: expected"),
        ({"a": CUBE, "cell": CELL, "hkl_range": [0, 9]}, {}, FormatError, "axis h must rise"),
        ({"a": CUBE, "cell": CELL}, {"origin": (0, 0)}, InputError, "origin must be three numbers"),
        ({"a": CUBE, "cell": CELL}, {"origin": (0, 0, 0.3)}, FormatError, "axis l must rise"),
        (
            {"a": CUBE, "sigma": CUBE[:1], "cell": CELL, "hkl_range": [0, 1]},
            {"key": "a"}, FormatError, r"sigma must have the grid's shape \(2, 2, 2\)",
        ),
        ({"a": np.array([{}]), "cell": CELL}, {}, FormatError, "Object arrays cannot be loaded"),
    ],
)  # fmt: skip
def test_what_an_archive_lacks_is_named(tmp_path, arrays, options, kind, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(kind, match=f"a.npz: .*{message}"):
        read_npz(tmp_path / "a.npz", **options)


def test_what_is_no_archive(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"plain text")
    with pytest.raises(FormatError, match=r"a.npz: expected a NumPy archive of plain arrays"):
        read_npz(tmp_path / "a.npz")
    with open(tmp_path / "b.npz", "wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(FormatError, match=r"b.npz: expected an archive of arrays, found one array"):
        read_npz(tmp_path / "b.npz")
