"""The measured diffuse map of staphylococcal nuclease: import, its symmetry, merging.

Figures are those of the data's README: the map agrees with itself under 4/m (about 0.86 for
(h,k,-l), 0.70 to 0.87 for the four-fold, by the shells), while (k,h,l), no symmetry of it, is far
lower. All of the anisotropic part, in shells of 0.01 Å⁻¹.
"""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from offbragg.maps.comparison import compare
from offbragg.maps.importers import import_map
from offbragg.maps.io import read_map, write_map
from offbragg.maps.statistics import statistics
from offbragg.maps.symmetrize import apply_operation, merge
from offbragg.maps.unique_voxels import unique_voxels

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def snc(shared_data):
    """The map as a NumPy archive."""
    return import_map(shared_data / "snase/maps/snc_map.npz", space_group="P 41")


# --- 1 reference numbers -------------------------------------------------


def test_the_archive_holds_integer_hkl(snc):
    assert snc.grid.shape == (63, 63, 63)
    assert snc.grid.sampling == (1, 1, 1)
    assert_array_equal(snc.grid.first_index, -31)
    assert snc.measured.sum() == 64335


@pytest.mark.parametrize(
    ("operation", "low", "high"),
    [
        ("h,k,-l", 0.84, 0.88),
        ("-k,h,l", 0.69, 0.77),
        ("k,-h,l", 0.69, 0.77),
        ("-h,-k,l", 0.74, 0.85),
    ],
)
def test_symmetry_of_the_map(snc, operation, low, high):
    turned = apply_operation(snc, operation)
    for d_max, d_min in ((None, None), (10.0, 2.2)):
        assert low < compare(snc, turned, d_max, d_min).overall.cc < high


@pytest.mark.parametrize("operation", ["k,h,l", "k,h,-l", "h,-k,l"])
def test_what_is_no_symmetry_is_far_lower(snc, operation):
    turned = apply_operation(snc, operation)
    for d_max, d_min in ((None, None), (10.0, 2.2)):
        assert compare(snc, turned, d_max, d_min).overall.cc < 0.3


# --- 2 independent oracle ------------------------------------------------


def test_lattice_and_archive_are_the_same_map(snc, shared_data):
    lat = import_map(shared_data / "snase/maps/snc.wmpn.lat", snc.cell, "P 41")
    assert lat.grid.shape == (64, 64, 64)
    assert lat.measured.sum() == snc.measured.sum()
    index, inside = lat.grid.index_of(snc.grid.hkl())
    assert inside.all()
    assert_array_equal(lat.intensity[tuple(np.moveaxis(index, -1, 0))], snc.intensity)


# --- 3 exact limits ------------------------------------------------------


def test_merged_map_agrees_with_itself_and_its_equivalents(snc):
    merged = merge(snc).map
    assert merged.laue_group == "4/m"
    assert merge(merged).map is merged
    for operation in ("h,k,l", "h,k,-l", "-k,h,l", "-h,-k,-l"):
        row = compare(merged, apply_operation(merged, operation)).overall
        assert row.n == merged.measured.sum()
        assert row.cc == pytest.approx(1, abs=1e-12)
        assert row.r == pytest.approx(0, abs=1e-12)
    assert compare(merged, apply_operation(merged, "k,h,l")).overall.cc < 0.3
    assert compare(snc, merged).overall.cc > 0.85
    assert len(unique_voxels(merged)) == len(unique_voxels(snc))


# --- 4 invariances -------------------------------------------------------


def test_statistics_and_file(snc, tmp_path):
    result = merge(snc)
    table = statistics(snc)["overall"]
    assert table["n_voxels"] == 64335
    assert 0.70 < table["cc_equivalents_anisotropic"] < 0.87
    assert table["r_int"] < 0.02 < 0.4 < table["r_int_anisotropic"] < 0.5
    wrong = merge(snc, "4/mmm").statistics["overall"]
    assert wrong["cc_equivalents_anisotropic"] < table["cc_equivalents_anisotropic"] - 0.2
    write_map(tmp_path / "snc.h5", result.map)
    again = read_map(tmp_path / "snc.h5")
    assert_array_equal(again.intensity, result.map.intensity)
    assert dict(statistics(again)["overall"]) == result.statistics["overall"]
