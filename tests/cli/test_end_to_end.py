"""The program from made images to a fit, and one line for whatever goes wrong."""

import json

import h5py
import numpy as np
import pytest

from offbragg import HklGrid, LiquidLike, read_map, simulate, write_map
from offbragg.cli.main import build_app, run
from offbragg.crystal.writers import write_pdb
from offbragg.made_crystal import make_experiment, make_peptide
from offbragg.reduction.dials_writer import write_experiments

COMMANDS = (
    "demo",
    "simulate",
    "expose",
    "map",
    "merge",
    "stats",
    "fit",
    "compare",
    "import",
    "info",
)
# A map reduced from 20 noisy images of 64² pixels: enough to see that it is the same map.
CC_OF_A_FEW_IMAGES = 0.6
# The exposed map has two voxels a reciprocal-lattice unit: interpolation smooths it, which
# shortens the correlation length by a quarter.
RECOVERY = 0.35


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A structure, its map, an experiment and its images, reduced and merged by the program."""
    out = tmp_path_factory.mktemp("program")
    structure = make_peptide("GASG", u=0.1)
    write_pdb(out / "model.pdb", structure)
    grid = HklGrid.from_resolution(structure.cell, 2.8, (2, 2, 2))
    write_map(out / "truth.h5", simulate(structure, LiquidLike(0.3, 5.0), grid))
    experiment = make_experiment(structure.cell, d_min=3.0, n_images=20, n_pixels=64)
    write_experiments(out / "geometry.expt", experiment)
    steps = (
        ("expose", "truth.h5", "geometry.expt", "-o", "images", "--photons", "200"),
        ("map", "images/exposed.expt", "-o", "map.h5", "--d-min", "3", "--sampling", "2", "2", "2",
         "--bragg", "keep"),
        ("merge", "map.h5", "-o", "merged.h5"),
    )  # fmt: skip
    for step in steps:
        assert run([_path(out, word) for word in step]) == 0
    return out


def _path(out, word):
    return str(out / word) if word.endswith((".h5", ".expt", ".pdb", "images")) else word


def _json(capsys, *arguments):
    capsys.readouterr()
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"command", "version", "outputs", "result"}
    assert found["command"] == arguments[0]
    return found["result"]


def test_images_become_the_map_that_was_exposed(folder, capsys):
    result = _json(capsys, "compare", str(folder / "merged.h5"), str(folder / "truth.h5"))
    assert result["overall"]["cc"] > CC_OF_A_FEW_IMAGES
    wrong = read_map(folder / "truth.h5")
    write_map(
        folder / "turned.h5",
        simulate(make_peptide("GASG", u=0.1), LiquidLike(0.3, 0.5), wrong.grid),
    )
    other = _json(capsys, "compare", str(folder / "merged.h5"), str(folder / "turned.h5"))
    assert other["overall"]["cc"] < result["overall"]["cc"]


def test_the_fit_writes_what_it_found(folder, capsys):
    result = _json(
        capsys, "fit", str(folder / "merged.h5"), str(folder / "model.pdb"), "-o",
        str(folder / "fit"), "--model", "liquid-like", "--rms-displacement", "0.4",
    )  # fmt: skip
    written = json.loads((folder / "fit" / "parameters.json").read_text())
    assert written == result
    for name, truth in (("rms_displacement", 0.3), ("correlation_length", 5.0)):
        found = result["parameters"][name]
        assert found["value"] == pytest.approx(truth, rel=RECOVERY)
        assert found["unit"] == "Å"
    page = (folder / "fit" / "report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("data:image/png;base64,") == 4
    assert read_map(folder / "fit" / "model.h5").measured.any()


def test_simulate_like_a_map_has_its_voxels(folder, capsys):
    _json(
        capsys, "simulate", str(folder / "model.pdb"), "-o", str(folder / "like.h5"), "--model",
        "rigid-body", "--translation", "0.1", "--like", str(folder / "merged.h5"),
    )  # fmt: skip
    like, merged = read_map(folder / "like.h5"), read_map(folder / "merged.h5")
    assert like.grid.same_voxels(merged.grid)
    assert like.provenance[-1]["command"] == "simulate"


def test_options_are_kept_in_the_file(folder):
    steps = read_map(folder / "merged.h5").provenance
    assert [step["command"] for step in steps] == ["map", "merge"]
    assert steps[0]["options"]["bragg"] == "keep"
    with h5py.File(folder / "map.h5") as file:
        assert json.loads(file["entry/process_1/options"][()])["d_min"] == 3.0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    assert run([command, "--help"]) == 0
    assert command in capsys.readouterr().out


def test_the_commands_are_those_of_the_contract():
    assert set(COMMANDS) <= set(build_app().resolved_commands())


def test_stats_and_info_say_what_a_map_is(folder, capsys):
    table = _json(capsys, "stats", str(folder / "map.h5"))
    assert 0 < table["overall"]["cc_half"] <= 1
    assert _json(capsys, "info", str(folder / "map.h5"))["space_group"] == "P 1 21 1"
    experiments = _json(capsys, "info", str(folder / "images" / "exposed.expt"))["experiments"]
    assert experiments[0]["n_images"] == 20
    assert run(["stats", str(folder / "map.h5")]) == 0
    assert "CC½" in capsys.readouterr().out


def test_a_numpy_map_is_imported(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", snc=np.arange(27.0).reshape(3, 3, 3))
    result = _json(
        capsys, "import", str(tmp_path / "x.npz"), "-o", str(tmp_path / "x.h5"), "--cell",
        "10", "11", "12", "90", "90", "90", "--key", "snc",
        "--origin", "-1", "-1", "-1",
    )  # fmt: skip
    assert result["n_measured"] == 27


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["stats", "absent.h5"], 1, "absent.h5: no such file"),
        (["stats", "MODEL"], 1, "model.pdb"),
        (["nonsense"], 2, "nonsense"),
        (["map", "GEOMETRY", "-o", "x.h5"], 2, "d-min"),
        (["map", "GEOMETRY", "-o", "x.h5", "--d-min", "3", "--bragg", "half"], 2, "bragg must be"),
        (["map", "-o", "x.h5", "--d-min", "3"], 1, "at least one .expt"),
        (["merge", "-o", "x.h5"], 1, "at least one map"),
        (["simulate", "MODEL", "-o", "x.h5", "--model", "liquid-like", "--d-min", "3"], 1,
         "--rms-displacement"),
        (["simulate", "MODEL", "-o", "x.h5", "--model", "uncorrelated"], 1, "--d-min or --like"),
        (["simulate", "MODEL", "-o", "no/such/x.h5", "--model", "uncorrelated", "--d-min", "4"], 1,
         "does not exist"),
        (["simulate", "MODEL", "-o", "x.h5", "--model", "uncorrelated", "--translation", "0.1",
          "--d-min", "4"], 1, "--translation belongs to --model rigid-body"),
        (["fit", "TRUTH", "MODEL", "-o", "MODEL", "--model", "liquid-like"], 1, "folder"),
        (["fit", "TRUTH", "MODEL", "-o", "f", "--model", "uncorrelated"], 1, "no"),
        (["simulate", "MODEL", "-o", "x.h5", "--model", "uncorrelated", "--d-min", "4",
          "--select", "chain Q"], 1, "chain Q"),
    ],
)  # fmt: skip
def test_bad_input_gives_one_line(folder, tmp_path, monkeypatch, capsys, arguments, code, says):
    monkeypatch.chdir(tmp_path)
    names = {"MODEL": "model.pdb", "GEOMETRY": "geometry.expt", "TRUTH": "truth.h5"}
    assert run([str(folder / names[x]) if x in names else x for x in arguments]) == code
    streams = capsys.readouterr()
    assert streams.out == ""
    assert len(streams.err.strip().splitlines()) == 1
    assert says in streams.err
    assert list(tmp_path.iterdir()) == []
