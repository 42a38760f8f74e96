"""reindex: a map comes to another one's indexing."""

import numpy as np
import pytest

from offbragg import DiffuseMap, HklGrid, read_map, write_map
from offbragg.maps.symmetrize import apply_operation


@pytest.fixture
def maps(tmp_path):
    """A map of a tetragonal crystal, and the same in the other mode."""
    grid = HklGrid.from_resolution((12, 12, 15, 90, 90, 90), 3.0)
    values = np.random.default_rng(0).gamma(4.0, 25.0, grid.shape)
    made = DiffuseMap(grid, np.where(grid.within(), values, np.nan), "P 4")
    write_map(tmp_path / "a.h5", made)
    write_map(tmp_path / "b.h5", apply_operation(made, "k,h,-l"))
    return tmp_path


def test_a_map_comes_to_the_indexing_of_another(call, maps):
    whole = call("reindex", maps / "b.h5", "-o", maps / "c.h5", "--like", maps / "a.h5", "--json")
    found = whole.json["result"]
    assert found["operation"] != "h,k,l"
    assert found["cc"][found["operation"]] == pytest.approx(1.0)
    again = call("reindex", maps / "c.h5", "-o", maps / "d.h5", "--like", maps / "a.h5", "--json")
    assert again.json["result"]["operation"] == "h,k,l"
    assert read_map(maps / "c.h5").provenance[-1]["command"] == "reindex"


def test_an_operation_may_be_given(call, maps):
    call("reindex", maps / "b.h5", "-o", maps / "c.h5", "--operation", "k,h,-l")
    one, other = read_map(maps / "c.h5"), read_map(maps / "a.h5")
    assert np.array_equal(one.intensity, other.intensity, equal_nan=True)


def test_what_is_wrong_is_named(refused, maps):
    message = refused("reindex", maps / "b.h5", "-o", maps / "c.h5")
    assert "reindex needs one of --like MAP and --operation" in message
    message = refused("reindex", maps / "b.h5", "-o", maps / "c.h5", "--operation", "k,k,l")
    assert "determinant 1 or -1" in message
