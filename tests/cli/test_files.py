"""The commands import and export: there and back, and what is refused."""

import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from offbragg import DiffuseMap, HklGrid, read_map, write_map
from offbragg.cli.main import DONE, FAILED, WRONG_USE, run

CELL = (11.0, 13.0, 17.0, 82.0, 95.0, 104.0)


@pytest.fixture
def map_file(tmp_path):
    grid = HklGrid(CELL, [-0.5, 0, 0.5], [0, 1], [-1 / 3, 0, 1 / 3])
    values = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    values[0, 0, 0] = np.nan
    write_map(tmp_path / "map.h5", DiffuseMap(grid, values, sigma=np.abs(values)))
    return tmp_path / "map.h5"


@pytest.mark.parametrize("ending", ["mtz", "ccp4", "npz", "csv"])
def test_there_and_back(map_file, capsys, ending):
    out = map_file.with_name(f"out.{ending}")
    assert run(["export", str(map_file), str(out), "--json"]) == DONE
    printed = json.loads(capsys.readouterr().out)
    assert printed["outputs"] == {"export": str(out)}
    assert printed["result"]["bytes"] == out.stat().st_size
    assert printed["result"]["n_measured"] == 17
    back = map_file.with_name("back.h5")
    assert run(["import", str(out), "-o", str(back)]) == DONE
    one, two = read_map(map_file), read_map(back)
    assert one.grid.same_voxels(two.grid)
    assert_array_equal(one.intensity, two.intensity)
    assert (two.sigma is None) == (ending == "ccp4")
    assert two.provenance[-1]["command"] == "import"


def test_a_volume_without_holes(map_file, capsys):
    out = map_file.with_name("out.mrc")
    assert run(["export", str(map_file), str(out), "--missing", "mean"]) == DONE
    assert run(["import", str(out), "-o", str(map_file.with_name("back.h5"))]) == FAILED
    assert "voxels that were not measured hold means" in capsys.readouterr().err


def test_an_array_with_its_grid(map_file):
    np.save(map_file.with_name("a.npy"), np.ones((5, 3, 3)))
    back = map_file.with_name("back.h5")
    options = ["--cell", *map(str, CELL), "--space-group", "P 1", "--origin", "-1", "-1", "-1"]
    options += ["--sampling", "2", "1", "1"]
    source = str(map_file.with_name("a.npy"))
    assert run(["import", source, "-o", str(back), *options]) == DONE
    assert_array_equal(read_map(back).grid.h, [-1, -0.5, 0, 0.5, 1])


def test_what_is_refused(map_file, capsys):
    name = str(map_file)
    assert run(["export", name, str(map_file.with_name("a.xyz"))]) == FAILED
    assert "expected a name in one of .mtz .ccp4" in capsys.readouterr().err
    assert run(["export", name, str(map_file.with_name("a.npz")), "--missing", "mean"]) == FAILED
    assert "missing is for .ccp4, .mrc and .map only" in capsys.readouterr().err
    assert run(["export", name, str(map_file.with_name("a.mrc")), "--missing", "no"]) == WRONG_USE
    assert run(["export", str(map_file.with_name("b.h5")), name + ".npz"]) == FAILED
    assert "b.h5: no such file" in capsys.readouterr().err
    assert sorted(x.name for x in map_file.parent.iterdir()) == ["map.h5"]
