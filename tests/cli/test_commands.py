"""Every command on a tiny made experiment: its JSON, its files, and what it must refuse."""

import json
import os
import re
import struct
from dataclasses import asdict, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from offbragg import (
    DiffuseMap,
    HklGrid,
    LiquidLike,
    compare,
    fit,
    merge,
    read_ensemble,
    read_map,
    read_structure,
    simulate,
    split_friedel,
    statistics,
    write_map,
)
from offbragg.cli import fitting
from offbragg.demo import TRUTH, DemoOptions, DemoResult
from offbragg.maps.provenance import plain

LIQUID = ("--model", "liquid-like", "--rms-displacement", "0.35", "--correlation-length", "5")
CELL = ("10", "11", "12", "90", "95", "90")
FLOAT32 = 1e-6  # maps are stored in single precision
KINDS = ("empty", "text", "dir", "missing")


def steps_of(path):
    """Provenance as plain h5py sees it: [(command, options)]."""
    with h5py.File(path) as file:
        names = sorted(n for n in file["entry"] if n.startswith("process_"))
        groups = [file["entry"][n] for n in names]
        return [(g["command"][()].decode(), json.loads(g["options"][()])) for g in groups]


# --- 1 each command, end to end ------------------------------------------


def test_simulate(work, truth):
    made = read_map(work / "m.h5")
    assert_allclose(made.intensity, truth.intensity, rtol=FLOAT32, equal_nan=True)
    assert made.space_group == "P 1 21 1"
    ((command, options),) = steps_of(work / "m.h5")
    assert command == "simulate"
    assert (options["part"], options["adps"], options["voxel_average"]) == (
        "diffuse", "model", False,
    )  # fmt: skip
    assert made.provenance[0]["model"] == repr(LiquidLike(0.35, 5.0))
    assert made.provenance[0]["n_atoms"] == 24


def test_simulate_tells_what_it_made(call, work, tmp_path):
    whole = call("simulate", work / "s.pdb", "--output", tmp_path / "x.h5", *LIQUID, "--d-min", 3,
                 "--voxel-average", "--part", "total", "--json").json  # fmt: skip
    assert whole["command"] == "simulate"
    assert whole["outputs"] == {"map": str(tmp_path / "x.h5")}
    made = read_map(tmp_path / "x.h5")
    result = whole["result"]
    assert result["shape"] == list(made.grid.shape)
    assert result["n_measured"] == made.measured.sum()
    assert result["mean_intensity"] == pytest.approx(np.nanmean(made.intensity), rel=1e-5)
    assert result["arrays"] == ["intensity"]
    assert result["steps"] == ["simulate"]
    ((_, options),) = steps_of(tmp_path / "x.h5")
    assert (options["part"], options["voxel_average"]) == ("total", True)


def test_simulate_like_another_map(call, work, tmp_path):
    structure = read_structure(work / "s.pdb")
    grid = HklGrid(structure.cell, [1, 1.5, 2], [0.5, 1], [-1, 0, 1, 2])
    write_map(tmp_path / "like.h5", DiffuseMap(grid, np.ones(grid.shape), "P 1 21 1"))
    made = call("simulate", work / "s.pdb", "-o", tmp_path / "x.h5", *LIQUID,
                "--like", tmp_path / "like.h5")  # fmt: skip
    assert made.code == 0, made.err
    found = read_map(tmp_path / "x.h5")
    assert found.grid.same_voxels(grid)
    expected = simulate(structure, LiquidLike(0.35, 5.0), grid)
    assert_allclose(found.intensity, expected.intensity, rtol=FLOAT32)


def test_simulate_chooses_atoms_cell_and_group(call, work, tmp_path):
    made = call("simulate", work / "nocell.pdb", "-o", tmp_path / "x.h5", "--model", "uncorrelated",
                "--d-min", 4, "--select", "name CA", "--cell", 15, 14, 9, 90, 100, 90,
                "--space-group", "P 1 21 1")  # fmt: skip
    assert made.code == 0, made.err
    found = read_map(tmp_path / "x.h5")
    assert found.provenance[0]["n_atoms"] == 4
    assert found.space_group == "P 1 21 1"
    assert found.cell == (15, 14, 9, 90, 100, 90)


@pytest.mark.parametrize(
    "options",
    [
        ("rigid-body", "--translation", "0.1"),
        ("rigid-body", "--translation", "0.1", "0.1", "0.1", "0", "0", "-0.01"),
        ("covariance", "--covariance", "V.npy"),
        ("liquid-like", "--rms-displacement", ".3", "--correlation-length", "4", "--order", "2"),
        ("liquid-like", "--rms-displacement", ".3", "--correlation-length", "4", "--kernel",
         "gaussian", "--coherence", "cell"),
        ("uncorrelated",),
    ],
)  # fmt: skip
def test_simulate_knows_every_model(call, work, tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    np.save("V.npy", 0.1 * np.eye(24))
    made = call("simulate", work / "s.pdb", "-o", "x.h5", "--d-min", 4, "--model", *options)
    assert made.code == 0, made.err
    assert np.nanmin(read_map("x.h5").intensity) >= 0


def test_expose_and_map(call, work, tmp_path):
    whole = call("expose", work / "total.h5", work / "e.expt", "-o", tmp_path, "--photons", 20,
                 "--background", 2, "--seed", 5, "--json").json  # fmt: skip
    assert set(whole["outputs"]) == {"experiments", "images_1"}
    assert whole["result"]["mean_counts"] == pytest.approx(22, rel=0.01)
    assert whole["result"]["n_pixels"] == 20 * 64 * 64
    assert whole["result"]["seed"] == 5
    mapped = call("map", whole["outputs"]["experiments"], "-o", tmp_path / "map.h5", "--d-min", 2.6,
                  "--sampling", 2, 2, 2, "--bragg-radius", 0.2, "--seed", 3, "--workers", 1,
                  "--json").json  # fmt: skip
    assert mapped["result"]["arrays"] == ["intensity", "sigma", "count", "half_1", "half_2"]
    ((command, options),) = steps_of(tmp_path / "map.h5")
    assert command == "map"
    expected = {"d_min": 2.6, "sampling": [2, 2, 2], "bragg_radius": 0.2, "seed": 3, "n_workers": 1}
    assert {name: options[name] for name in expected} == expected
    again = call("map", tmp_path / "exposed.expt", "-o", tmp_path / "again.h5", "--d-min", 2.6,
                 "--sampling", 2, 2, 2, "--bragg-radius", 0.2, "--seed", 3)  # fmt: skip
    assert again.code == 0
    a, b = read_map(tmp_path / "map.h5"), read_map(tmp_path / "again.h5")
    assert_array_equal(a.intensity, b.intensity)
    assert_array_equal(a.half_1, b.half_1)


@pytest.mark.parametrize(("height", "said"), [(1, "0 of 1 sweeps, spheres"), (2000, " Å⁻¹")])
def test_map_says_what_shape_spots_have(call, work, tmp_path, height, said):
    total = read_map(work / "total.h5")
    grid = HklGrid.from_resolution(total.cell, 2.4, (6, 6, 6))
    values = np.where(grid.is_node(), height, 1.0)
    write_map(tmp_path / "peaks.h5", DiffuseMap(grid, values, total.space_group))
    call("expose", tmp_path / "peaks.h5", work / "e.expt", "-o", tmp_path, "--photons", 50)
    arguments = ("map", tmp_path / "exposed.expt", "-o", tmp_path / "map.h5", "--d-min", 2.6)
    shapes = call(*arguments, "--json").json["result"]["spot_shapes"]
    row = next(line for line in call(*arguments).out.splitlines() if "spot shape" in line)
    assert said in row
    assert len(shapes) == (height > 1)


def test_the_seed_of_expose_decides(call, work, tmp_path):
    counts = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        made = call("expose", work / "total.h5", work / "e.expt", "-o", tmp_path / name,
                    "--photons", 5, "--seed", seed)  # fmt: skip
        assert made.code == 0
        with h5py.File(tmp_path / name / "exposed.h5") as file:
            counts.append(file["entry/data/data"][()])
    assert_array_equal(counts[0], counts[1])
    assert (counts[0] != counts[2]).any()


def test_merge_and_stats(call, work, tmp_path):
    whole = call("merge", work / "map.h5", "-o", tmp_path / "x.h5", "--json").json
    expected = merge(read_map(work / "map.h5"))
    assert whole["result"]["laue_group"] == "2/m"
    assert whole["result"]["statistics"] == plain(expected.statistics)
    assert_array_equal(read_map(tmp_path / "x.h5").intensity, expected.map.intensity)
    assert [command for command, _ in steps_of(tmp_path / "x.h5")] == ["map", "merge"]
    # A merged map tells the table from before it was merged.
    stored = call("stats", tmp_path / "x.h5", "--json").json["result"]
    assert stored["overall"] == whole["result"]["statistics"]["overall"]


def test_merge_with_friedel_mates_apart_or_split(call, work, tmp_path):
    observed = read_map(work / "map.h5")
    kept = call("merge", work / "map.h5", "-o", tmp_path / "a.h5", "--friedel", "apart", "--json")
    assert (kept.json["result"]["laue_group"], kept.json["result"]["friedel"]) == (
        "P 1 2 1", "apart",
    )  # fmt: skip
    apart = read_map(tmp_path / "a.h5")
    assert apart.friedel == "apart"
    assert_array_equal(apart.intensity, merge(observed, friedel="apart").map.intensity)
    whole = call("merge", work / "map.h5", "-o", tmp_path / "x.h5", "--friedel", "split", "--json")
    assert whole.json["result"]["laue_group"] == "2/m"
    assert whole.json["result"]["statistics"] == kept.json["result"]["statistics"]
    assert whole.json["outputs"] == {
        "map": str(tmp_path / "x.h5"), "difference": str(tmp_path / "x_difference.h5"),
    }  # fmt: skip
    split = split_friedel(observed)
    for name, expected in (("x.h5", split.mean), ("x_difference.h5", split.difference)):
        found = read_map(tmp_path / name)
        assert found.laue_group == expected.laue_group
        assert_array_equal(found.intensity, expected.intensity)
        assert_array_equal(found.sigma, expected.sigma)
    text = call("merge", work / "map.h5", "-o", tmp_path / "y.h5").out
    assert "Friedel mates" in text


def test_merge_keeps_no_mates_apart_that_are_averaged(refused, work, tmp_path):
    for how in ("apart", "split"):
        said = refused("merge", work / "merged.h5", "-o", tmp_path / "x.h5", "--friedel", how)
        assert "expected maps whose Friedel mates are apart, got one merged by 2/m" in said


def test_merge_several_maps(call, work, tmp_path):
    two = call("merge", work / "map.h5", work / "map.h5", "-o", tmp_path / "x.h5",
               "--laue-group", "2/m", "--json").json  # fmt: skip
    assert two["result"]["statistics"]["overall"]["multiplicity"] == pytest.approx(
        2 * statistics(read_map(work / "map.h5"))["overall"]["multiplicity"]
    )


def test_stats(call, work):
    whole = call("stats", work / "map.h5", "--n-shells", 3, "--json").json
    assert whole["result"] == plain(statistics(read_map(work / "map.h5"), 3))
    assert len(whole["result"]["shells"]["cc_half"]) == 3
    text = call("stats", work / "m.h5").out
    assert "no standard errors" in text
    assert "CC_eq" in text


def test_compare_is_symmetric(call, work):
    a, b = work / "merged.h5", work / "m.h5"
    one, other = (call("compare", *pair, "--json").json["result"] for pair in ((a, b), (b, a)))
    assert one == plain(asdict(compare(read_map(a), read_map(b))))
    assert one["overall"]["n"] == other["overall"]["n"] > 1000
    for row, mirrored in zip(one["shells"], other["shells"], strict=True):
        assert row["cc"] == pytest.approx(mirrored["cc"], rel=1e-9)
        assert row["d_min"] == pytest.approx(mirrored["d_min"], rel=1e-6)


def test_compare_maps_of_two_samplings(call, work):
    # By common hkl: the coarse map's voxels are all there.
    result = call("compare", work / "m.h5", work / "coarse.h5", "--d-max", 8, "--d-min", 3,
                  "--no-anisotropic", "--n-shells", 4, "--json").json["result"]  # fmt: skip
    assert result["overall"]["cc"] == pytest.approx(1, abs=1e-6)
    assert result["scale"] == pytest.approx(1, rel=1e-4)
    assert len(result["shells"]) == 4
    assert result["overall"]["d_max"] <= 8
    assert result["overall"]["d_min"] >= 3 - 1e-9
    assert result["is_anisotropic"] is False


def test_a_figure_that_is_not_defined_is_null(call, work):
    result = call("compare", work / "flat.h5", work / "flat.h5", "--json").json["result"]
    assert result["overall"]["cc"] is None
    assert result["overall"]["n"] == 27
    table = call("stats", work / "flat.h5", "--json").json["result"]
    assert table["overall"]["cc_equivalents"] is None
    assert "–" in call("compare", work / "flat.h5", work / "flat.h5").out


def test_fit(call, work, tmp_path):
    out = tmp_path / "new" / "fit"
    whole = call("fit", work / "coarse.h5", work / "s.pdb", "-o", out, "--model", "liquid-like",
                 "--held-out", 0.2, "--seed", 4, "--background", "shells",
                 "--json").json  # fmt: skip
    assert whole["outputs"] == {
        "parameters": str(out / "parameters.json"),
        "model": str(out / "model.h5"),
        "residual": str(out / "residual.h5"),
        "modes": str(out / "modes.pdb"),
        "report": str(out / "report.html"),
    }
    assert sorted(x.name for x in out.iterdir()) == [
        "model.h5", "modes.pdb", "parameters.json", "report.html", "residual.h5",
    ]  # fmt: skip
    _, frames = read_ensemble(out / "modes.pdb")
    assert len(frames) == 36
    assert_allclose(frames[0], read_structure(work / "s.pdb").positions, atol=1e-3)
    result = whole["result"]
    assert json.loads((out / "parameters.json").read_text(encoding="utf-8")) == result
    found = result["parameters"]
    assert found["rms_displacement"]["value"] == pytest.approx(0.35, rel=1e-3)
    assert found["correlation_length"]["value"] == pytest.approx(5.0, rel=1e-3)
    assert found["correlation_length"]["unit"] == "Å"
    assert result["converged"] is True
    assert result["statistics"]["working"]["chi2_reduced"] is None
    expected = fit(
        read_map(work / "coarse.h5"), read_structure(work / "s.pdb"), LiquidLike(0.4, 8.0),
        held_out=0.2, rng=np.random.default_rng(4), background="shells",
    )  # fmt: skip
    assert result["statistics"] == plain(expected.statistics)
    assert [command for command, _ in steps_of(out / "model.h5")] == ["simulate", "fit"]
    options = steps_of(out / "model.h5")[-1][1]
    assert (options["held_out"], options["background"]) == (0.2, "shells")


def test_fit_again_replaces_what_was_there(call, work, tmp_path):
    for held_out in ("0", "0.3"):
        made = call("fit", work / "coarse.h5", work / "s.pdb", "-o", tmp_path, *LIQUID,
                    "--max-evaluations", 2, "--held-out", held_out)  # fmt: skip
        assert made.code == 0, made.err
    assert steps_of(tmp_path / "model.h5")[-1][1]["held_out"] == 0.3
    assert len(list(tmp_path.iterdir())) == 5


def test_fit_refines_what_is_named(call, work, tmp_path):
    for n, names in enumerate((["rms_displacement"], ["correlation_length", "rms_displacement"])):
        result = call("fit", work / "coarse.h5", work / "s.pdb", "-o", tmp_path / str(n), *LIQUID,
                      "--max-evaluations", 2, "--refine", *names, "--json").json  # fmt: skip
        assert list(result["result"]["parameters"]) == names


def test_fit_says_that_a_cell_is_one_per_cent_off_once(call, work, tmp_path):
    made = call("fit", work / "coarse.h5", work / "off1.pdb", "-o", tmp_path / "fit", *LIQUID,
                "--max-evaluations", 3)  # fmt: skip
    assert made.code == 0
    assert " ".join(made.err.split()).count("cell a differs by 1.00 %") == 1


def test_fit_for_people_shows_numbers_and_message(call, work, tmp_path):
    text = call("fit", work / "coarse.h5", work / "s.pdb", "-o", tmp_path / "fit", *LIQUID,
                "--max-evaluations", 1).out  # fmt: skip
    for part in ("rms_displacement", "standard error", "held_out", "unique", "Å", "report: "):
        assert part in text


@pytest.mark.parametrize(
    ("basis", "n_modes"),
    [(("tls",), 6), (("modes", "--n-modes", 2), 2), (("fields",), 9), (("b.npy",), 1)],
)
def test_fit_of_a_covariance_in_a_basis(call, work, tmp_path, monkeypatch, basis, n_modes):
    monkeypatch.chdir(tmp_path)
    np.save("b.npy", np.ones((read_structure(work / "s.pdb").n_atoms, 3, 1)))
    whole = call("fit", work / "coarse.h5", work / "s.pdb", "-o", "fit", "--model", "covariance",
                 "--basis", *basis, "--max-evaluations", 2, "--json").json  # fmt: skip
    found = whole["result"]["parameters"]["coefficients"]
    assert np.shape(found["value"]) == (n_modes, n_modes)
    assert np.linalg.eigvalsh(found["value"])[0] > -1e-9


def test_fit_of_motions_of_low_rank(call, refused, work, tmp_path):
    """Beside others too; and not of a model without a basis."""
    asked = ("--basis", "tls", "--rank", 1, "--max-evaluations", 2, "--json")
    whole = call("fit", work / "coarse.h5", work / "s.pdb", "-o", tmp_path / "fit", "--model",
                 "covariance", "--model", "free-adps", *asked).json  # fmt: skip
    found = whole["result"]["parameters"]["covariance.factor"]["value"]
    assert np.shape(found) == (read_structure(work / "s.pdb").n_atoms, 3, 1)
    message = refused("fit", work / "coarse.h5", work / "s.pdb", "-o", tmp_path / "x", *LIQUID,
                      "--rank", 1)  # fmt: skip
    assert "--rank needs --model covariance with --basis" in message
    assert not (tmp_path / "x").exists()


def test_infer(call, work, tmp_path):
    out = tmp_path / "inferred"
    whole = call("infer", work / "coarse.h5", work / "s.pdb", "-o", out, *LIQUID, "--harmonics", 0,
                 "--smoothing", 20, "--block-edge", 1, "--n-folds", 2, "--n-resamples", 2,
                 "--json").json  # fmt: skip
    names = ["inferred.json", "model.h5", "modes.pdb", "report.html", "residual.h5"]
    assert sorted(x.name for x in out.iterdir()) == names
    assert sorted(whole["outputs"].values()) == [str(out / name) for name in names]
    written = json.loads((out / "inferred.json").read_text())
    assert written == whole["result"]
    assert written["exact"]["gain"] == pytest.approx(
        written["exact"]["cc"] - written["exact"]["base"]
    )
    assert len(written["covariance"]) == len(written["residues"])
    assert set(written["base"]["parameters"]) == {"rms_displacement", "correlation_length"}
    assert steps_of(out / "model.h5")[-1][0] == "infer"
    assert "Which residues move together" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--smoothing", "0"), "smoothing must be > 0"),
        (("--n-resamples", "1"), "n_resamples must be 0 or at least 2"),
        (("--coherence", "crystal"), "motions stay within one copy"),
    ],
)
def test_infer_refuses(refused, work, tmp_path, options, says):
    line = refused("infer", work / "coarse.h5", work / "s.pdb", "-o", tmp_path / "x", *LIQUID,
                   *options)  # fmt: skip
    assert says in line
    assert not (tmp_path / "x").exists()


def test_demo_passes_its_options_on(call, work, tmp_path, monkeypatch):
    # The demo itself: tests/test_demo.py.
    observed = read_map(work / "coarse.h5")
    found = fit(observed, read_structure(work / "s.pdb"), LiquidLike(0.35, 5.0), max_evaluations=1)
    asked = []

    def run_demo(out, options, progress):
        asked.append((out, options))
        agreement = compare(observed, observed)
        return DemoResult({"report": out / "report.html"}, TRUTH, found, agreement, {})

    monkeypatch.setattr(fitting, "run_demo", run_demo)
    whole = call("demo", "--out", tmp_path, "--n-images", 40, "--n-pixels", 64, "--photons", 3,
                 "--seed", 7, "--json").json  # fmt: skip
    assert asked == [(tmp_path, DemoOptions(40, 64, 3.0, 7))]
    assert whole["outputs"] == {"report": str(tmp_path / "report.html")}
    assert whole["result"]["map_to_truth_cc_anisotropic"] == pytest.approx(1)
    row = whole["result"]["parameters"]["rms_displacement"]
    assert row["truth"] == TRUTH.rms_displacement
    assert row["recovered"] == found.parameters["rms_displacement"].value
    assert "correlation 1.000 with the truth" in call("demo", "--out", tmp_path).out


def test_import_an_archive(call, tmp_path):
    values = np.random.default_rng(0).normal(5, 1, (3, 5, 7)).astype(np.float32)
    values[0, 0, 0] = np.nan
    np.savez(tmp_path / "x.npz", data=values, h=[-1, 0, 1], k=np.arange(-2, 3), l=np.arange(-3, 4))
    whole = call("import", tmp_path / "x.npz", "-o", tmp_path / "x.h5", "--cell", *CELL,
                 "--space-group", "P 1 2 1", "--key", "data", "--json").json  # fmt: skip
    found = read_map(tmp_path / "x.h5")
    assert_array_equal(found.intensity, values)
    assert found.space_group == "P 1 2 1"
    assert whole["result"]["n_measured"] == 104
    assert steps_of(tmp_path / "x.h5")[0][0] == "import"


def test_import_a_lattice_of_lunus(call, tmp_path):
    # 3 counts, 6 bounds [1/Å times edge⁻¹], float32 with x fastest; −32768 is not measured.
    values = np.arange(3 * 5 * 7, dtype="<f4").reshape(3, 5, 7)
    values[1, 2, 3] = -32768
    bounds = [bound for n, edge in ((1, 10), (2, 11), (3, 12)) for bound in (-n / edge, n / edge)]
    raw = struct.pack("<3i", 3, 5, 7) + struct.pack("<6f", *bounds)
    (tmp_path / "x.lat").write_bytes(raw + values.transpose(2, 1, 0).tobytes())
    made = call("import", tmp_path / "x.lat", "-o", tmp_path / "x.h5", "--cell", *CELL,
                "--space-group", "P 1 2 1")  # fmt: skip
    assert (made.code, made.err) == (0, "")
    found = read_map(tmp_path / "x.h5")
    assert np.isnan(found.intensity[1, 2, 3])
    assert found.intensity[2, 4, 6] == values[2, 4, 6]
    assert_array_equal(found.grid.l, np.arange(-3, 4))


def test_import_without_a_space_group_says_so(call, tmp_path):
    np.savez(tmp_path / "x.npz", data=np.ones((3, 3, 3)), hkl_range=[-1, 1])
    made = call("import", tmp_path / "x.npz", "-o", tmp_path / "x.h5", "--cell", *CELL, "--json")
    assert made.json["result"]["space_group"] == "P 1"
    assert "no space group given, P 1 is used" in " ".join(made.err.split())


def test_info(call, work):
    result = call("info", work / "map.h5", "--json").json["result"]
    stored = read_map(work / "map.h5")
    assert result["sampling"] == [2, 2, 2]
    assert_allclose(result["cell"], stored.cell)
    assert result["n_measured"] == stored.measured.sum()
    assert result["steps"] == ["map"]
    (experiment,) = call("info", work / "images/exposed.expt", "--json").json["result"][
        "experiments"
    ]
    assert (experiment["n_images"], experiment["n_panels"]) == (20, 2)
    assert experiment["template"].endswith("exposed.h5")
    assert call("info", work / "nan.h5", "--json").json["result"]["mean_intensity"] is None


@pytest.mark.parametrize("name", ["m.h5", "images/exposed.expt", "nan.h5", "merged.h5"])
def test_info_for_people(call, work, name):
    made = call("info", work / name)
    assert (made.code, made.err) == (0, "")
    assert "cell" in made.out


# --- 5 bad input: one line, nothing written ------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_structure_that_is_none(refused, work, tmp_path, kind):
    for command in (
        ("simulate", work / f"{kind}.pdb", "-o", tmp_path / "x.h5", "--d-min", 4, *LIQUID),
        ("fit", work / "m.h5", work / f"{kind}.pdb", "-o", tmp_path / "x", *LIQUID),
    ):
        assert f"{kind}.pdb" in refused(*command, code=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_that_is_none(refused, work, tmp_path, kind):
    bad, x = work / f"{kind}.h5", tmp_path / "x.h5"
    for command in (
        ("stats", bad),
        ("info", bad),
        ("compare", work / "m.h5", bad),
        ("compare", bad, work / "m.h5"),
        ("merge", work / "m.h5", bad, "-o", x),
        ("simulate", work / "s.pdb", "-o", x, "--like", bad, *LIQUID),
        ("fit", bad, work / "s.pdb", "-o", tmp_path / "x", *LIQUID),
        ("expose", bad, work / "e.expt", "-o", tmp_path / "x", "--photons", 1),
    ):
        assert f"{kind}.h5" in refused(*command, code=1)


@pytest.mark.parametrize("kind", [*KINDS, "list", "none"])
def test_an_experiment_list_that_is_none(refused, work, tmp_path, kind):
    bad = work / f"{kind}.expt"
    for command in (
        ("info", bad),
        ("map", bad, "-o", tmp_path / "x.h5", "--d-min", 3),
        ("expose", work / "m.h5", bad, "-o", tmp_path / "x", "--photons", 1),
    ):
        assert f"{kind}.expt" in refused(*command, code=1)


@pytest.mark.parametrize("suffix", ["npz", "lat"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_foreign_map_that_is_none(refused, work, tmp_path, kind, suffix):
    name = f"{kind}.{suffix}"
    line = refused("import", work / name, "-o", tmp_path / "x.h5", "--cell", *CELL, code=1)
    assert name in line


def test_files_in_each_others_place(refused, work, tmp_path):
    x = tmp_path / "x.h5"
    for command in (
        ("fit", work / "s.pdb", work / "m.h5", "-o", tmp_path / "x", *LIQUID),
        ("simulate", work / "m.h5", "-o", x, "--d-min", 3, *LIQUID),
        ("simulate", work / "e.expt", "-o", x, "--d-min", 3, *LIQUID),
        ("map", work / "m.h5", "-o", x, "--d-min", 3),
        ("map", work / "images/exposed.h5", "-o", x, "--d-min", 3),
        ("map", work / "e.expt", "-o", x, "--d-min", 3),  # without images
        ("stats", work / "images/exposed.h5"),
        ("info", work / "s.pdb"),
        ("expose", work / "e.expt", work / "m.h5", "-o", tmp_path / "x", "--photons", 1),
        ("import", work / "m.h5", "-o", x),
        ("import", work / "s.pdb", "-o", x, "--cell", *CELL),
    ):
        refused(*command, code=1)


@pytest.mark.parametrize("output", ["dir.h5", "missing/x.h5", "m.h5/x.h5", "/proc/x.h5", ""])
def test_an_output_that_cannot_be(refused, work, output):
    target = work / output if output else ""
    for command in (
        ("simulate", work / "s.pdb", "--d-min", 4, "--model", "uncorrelated"),
        ("merge", work / "m.h5"),
        ("map", work / "images/exposed.expt", "--d-min", 3),
    ):
        refused(*command, "-o", target, code=1)


def test_a_device_is_not_replaced_by_a_map(refused, work, tmp_path):
    # /dev/null renamed over would be gone for every program of the machine.
    os.mkfifo(tmp_path / "pipe")
    line = refused("merge", work / "m.h5", "-o", tmp_path / "pipe", code=1)
    assert "found a device or pipe" in line
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("output", ["s.pdb", "s.pdb/x", "/proc/x"])
def test_a_folder_that_cannot_be(refused, work, output):
    refused("fit", work / "coarse.h5", work / "s.pdb", "-o", work / output, *LIQUID,
            "--max-evaluations", 2, code=1)  # fmt: skip
    refused("expose", work / "m.h5", work / "e.expt", "-o", work / output, "--photons", 1, code=1)


@pytest.mark.parametrize(
    "name", ["parameters.json", "model.h5", "residual.h5", "report.html", "modes.pdb"]
)
def test_a_fit_writes_all_of_its_files_or_none(refused, work, tmp_path, name):
    (tmp_path / name).mkdir()
    line = refused("fit", work / "m.h5", work / "s.pdb", "-o", tmp_path, *LIQUID, code=1)
    assert f"{name}: expected the name of a file, found a folder" in line
    assert [x.name for x in tmp_path.iterdir()] == [name]


def test_a_full_disk_leaves_no_half_of_a_map(refused, work, tmp_path, monkeypatch):
    (tmp_path / "x.h5").write_text("as it was")

    def fail(self, data):
        with open(self, "wb") as file:
            file.write(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    line = refused("merge", work / "m.h5", "-o", tmp_path / "x.h5", code=1)
    assert "No space left on device" in line
    assert (tmp_path / "x.h5").read_text() == "as it was"


@pytest.mark.parametrize(
    "options",
    [
        ("--d-min", "0"), ("--d-min", "-2"), ("--d-min", "nan"), ("--d-min", "inf"),
        ("--d-min", "100"), ("--d-min", "two"),
        ("--d-min", "3", "--sampling", "0", "1", "1"),
        ("--d-min", "3", "--sampling", "-1", "1", "1"),
        ("--d-min", "3", "--sampling", "1", "1"),
        ("--d-min", "3", "--like", "m.h5"), (),
        ("--d-min", "3", "--cell", "15", "14", "9", "90", "100"),
        ("--d-min", "3", "--cell", "15", "14", "-9", "90", "100", "90"),
        ("--d-min", "3", "--cell", "15", "14", "9", "90", "100", "200"),
        ("--d-min", "3", "--space-group", "P 42 42 42"),
        ("--d-min", "3", "--select", "water"), ("--d-min", "3", "--select", "((("),
        ("--d-min", "3", "--select", ""),
        ("--d-min", "3", "--part", "most"), ("--d-min", "3", "--adps", "mine"),
        ("--d-min", "3", "--translation", "0.1"),
        ("--d-min", "3", "--rms-displacement", "0.3"),  # twice
        ("--d-min", "3", "--order", "0"), ("--d-min", "3", "--order", "one"),
        ("--d-min", "3", "--order", "2", "--adps", "file"),
    ],
)  # fmt: skip
def test_simulate_refuses(refused, work, tmp_path, monkeypatch, options):
    monkeypatch.chdir(work)
    refused("simulate", work / "s.pdb", "-o", tmp_path / "x.h5", *LIQUID, *options)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (("liquid-like",), "needs --rms-displacement and --correlation-length"),
        (("liquid-like", "--rms-displacement", "-0.3", "--correlation-length", "5"), "got -0.3"),
        (("liquid-like", "--rms-displacement", "0.3", "--correlation-length", "0"), "got 0.0"),
        (("liquid-like", "--rms-displacement", "0.5", "--correlation-length", "5", "--adps",
          "file"), "moves atom A GLY 1 N (index 0) by more than its ADP"),
        (("rigid-body",), "needs --translation"),
        (("rigid-body", "--translation"), "one number or six"),
        (("rigid-body", "--translation", "0.1", "0.1"), "one number or six"),
        (("rigid-body", "--translation", "-0.1"), "positive semi-definite"),
        (("covariance", "--covariance", "missing.npy"), "no such file"),
        (("covariance", "--covariance", "empty.npy"), "not a .npy file"),
        (("covariance", "--covariance", "text.npy"), "not a .npy file"),
        (("covariance", "--covariance", "dir.npy"), "no such file"),
        (("covariance", "--covariance", "three.npy"), "24 atoms, got 3"),
        (("magic",), "Invalid value"),
    ],
)  # fmt: skip
def test_simulate_refuses_models(refused, work, tmp_path, monkeypatch, model, says):
    monkeypatch.chdir(work)
    line = refused("simulate", work / "s.pdb", "-o", tmp_path / "x.h5", "--d-min", 3,
                   "--model", *model)  # fmt: skip
    assert says in line


def test_simulate_refuses_a_structure_without_or_with_another_cell(refused, work, tmp_path):
    x = tmp_path / "x.h5"
    line = refused("simulate", work / "nocell.pdb", "-o", x, "--d-min", 3, *LIQUID, code=1)
    assert "no unit cell: give one (cell=, --cell)" in line
    line = refused("simulate", work / "off5.pdb", "-o", x, "--like", work / "m.h5", *LIQUID, code=1)
    assert "cell a differs by 5.00 %" in line


@pytest.mark.parametrize(
    "options",
    [
        ("--d-min", "0"), ("--d-max", "0"), ("--d-min", "-1"), ("--d-max", "-1"),
        ("--d-min", "nan"), ("--d-max", "2", "--d-min", "3"),
        ("--held-out", "1"), ("--held-out", "-0.1"), ("--held-out", "nan"), ("--held-out", "0.99"),
        ("--max-evaluations", "0"), ("--max-evaluations", "-3"), ("--seed", "-1"),
        ("--refine", "sigma"), ("--refine",), ("--refine", "rms_displacement", "rms_displacement"),
        ("--background", "flat"), ("--adps", "file"),
        ("--rms-displacement", "0"), ("--rms-displacement", "10"), ("--rms-displacement", "-1"),
        ("--correlation-length", "1e6"),
    ],
)  # fmt: skip
def test_fit_refuses(refused, work, tmp_path, options):
    refused("fit", work / "coarse.h5", work / "s.pdb", "-o", tmp_path / "x", "--model",
            "liquid-like", *options)  # fmt: skip


def test_errors_by_bootstrap(call, work, tmp_path):
    made = call("fit", work / "coarse.h5", work / "s.pdb", "-o", tmp_path, *LIQUID, "--errors",
                "bootstrap", "--max-evaluations", 2, "--json")  # fmt: skip
    assert made.code == 0, made.err
    written = json.loads((tmp_path / "parameters.json").read_text())
    for p in (*written["parameters"].values(), written["scale"]):
        assert len(p["interval"]) == 2
    assert re.search(r"Errors by bootstrap over \d+ blocks", written["message"])
    assert len(written["statistics"]["held_out"]["shells"]["cc"]) == 10


def test_motions_of_an_earlier_fit_do_not_stay(call, work, tmp_path):
    # Motions that are cut off are listed by pairs: no film of one copy.
    (tmp_path / "modes.pdb").write_text("of an earlier fit")
    made = call("fit", work / "coarse.h5", work / "s.pdb", "-o", tmp_path, *LIQUID, "--cutoff", 5,
                "--max-evaluations", 2, "--json")  # fmt: skip
    assert made.code == 0, made.err
    assert "modes" not in made.json["outputs"]
    assert not (tmp_path / "modes.pdb").exists()


def test_rank(call, work, tmp_path):
    out = tmp_path / "rank.json"
    told = call(
        "rank", work / "coarse.h5", work / "s.pdb", "-o", out, "--models", "uncorrelated",
        "liquid-like", "--n-folds", 3, "--background", "none", "--json", "--null", "--report",
        tmp_path / "rank.html",
    )  # fmt: skip
    assert told.code == 0, told.err
    result = json.loads(told.out)["result"]
    assert json.loads(out.read_text()) == result
    first, second = result["ranking"]
    assert (first["name"], second["name"]) == ("liquid-like", "uncorrelated")
    assert first["cc"] > 0.999 > second["cc"]
    assert first["n_numbers"] == 2
    assert len(first["cc_by_fold"]) == 3
    assert first["behind"] == 0 < second["behind"]
    assert first["reference"] == "liquid-like"
    assert second["gain"] == pytest.approx(-second["behind"])
    assert 0 < second["gain_error"] < second["behind"]
    assert first["gain"] == first["gain_error"] == 0
    assert abs(first["cc_null"]) < 0.5
    page = (tmp_path / "rank.html").read_text(encoding="utf-8")
    for text in ("gain over liquid-like", "CC null", f"{second['cc']:.3f}", "Uncorrelated()"):
        assert text in page


def test_rank_refuses(refused, work, tmp_path):
    maps = (work / "coarse.h5", work / "s.pdb")
    assert "expected a name in .json, got .txt" in refused(
        "rank", *maps, "-o", tmp_path / "rank.txt", code=1
    )
    assert "expected a name in .html, got .pdf" in refused(
        "rank", *maps, "--report", tmp_path / "rank.pdf", code=1
    )
    assert "reference must be one of tls, got 'rigid-body'" in refused(
        "rank", *maps, "--models", "tls", "--reference", "rigid-body", code=1
    )
    assert "n_folds must be 2 to" in refused("rank", *maps, "--n-folds", 1, code=1)
    refused("rank", *maps, "--models", "best", code=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (("uncorrelated",), "expected a parameter of Uncorrelated"),
        (("rigid-body", "--translation", "0"), "translation must start above 0 to be refined"),
        (("rigid-body",), "needs --translation"),
        (("covariance",), "needs one of --covariance FILE.npy"),
    ],
)
def test_fit_refuses_models_without_parameters(refused, work, tmp_path, model, says):
    assert says in refused(
        "fit", work / "coarse.h5", work / "s.pdb", "-o", tmp_path / "x", "--model", *model, code=1
    )


def test_fit_refuses_cells_and_maps(refused, work, tmp_path):
    for map_name, structure, says in (
        ("coarse.h5", "nocell.pdb", "no unit cell"),
        ("coarse.h5", "off5.pdb", "structure and map: cell a differs by 5.00 %"),
        ("flat.h5", "s.pdb", "cell"),
    ):
        line = refused("fit", work / map_name, work / structure, "-o", tmp_path / "x", *LIQUID,
                       code=1)  # fmt: skip
        assert says in line


def test_fit_refuses_a_map_that_does_not_vary(refused, work, tmp_path):
    stored = read_map(work / "coarse.h5")
    for name, value, says in (
        ("zero.h5", 0.0, "varies beyond an isotropic background"),
        ("nan.h5", np.nan, "at least one measured voxel"),
    ):
        write_map(tmp_path / name, replace(stored, intensity=value * stored.intensity))
        line = refused("fit", tmp_path / name, work / "s.pdb", "-o", tmp_path / "x", *LIQUID)
        assert says in line


@pytest.mark.parametrize(
    "options",
    [
        ("--d-min", "0"), ("--d-max", "0"), ("--d-max", "-1"), ("--d-min", "nan"),
        ("--d-max", "2", "--d-min", "3"), ("--n-shells", "0"),
        ("--n-shells", "-1"),
    ],
)  # fmt: skip
def test_compare_refuses(refused, work, options):
    refused("compare", work / "m.h5", work / "coarse.h5", *options)


def test_maps_that_do_not_go_together(refused, work, tmp_path):
    x = tmp_path / "x.h5"
    for command, says in (
        (("compare", work / "m.h5", work / "flat.h5"), "cell"),
        (("compare", work / "nan.h5", work / "flat.h5"), "measured in both"),
        (("merge", work / "m.h5", work / "coarse.h5", "-o", x), "one sampling"),
        (("merge", work / "m.h5", work / "flat.h5", "-o", x), "sampling"),
        (("merge", work / "coarse.h5", work / "flat.h5", "-o", x), "cell"),
        (("merge", work / "nan.h5", "-o", x), "at least one measured voxel"),
        (("merge", work / "merged.h5", "-o", x, "--laue-group", "-1"), "must contain 2/m"),
        (("merge", work / "m.h5", "-o", x, "--laue-group", "4/mmm"), "does not fit the cell"),
        (("merge", work / "m.h5", "-o", x, "--laue-group", "9/m"), "must be a space group or one"),
        (("merge", "-o", x), "at least one map file"),
        (("stats", work / "nan.h5"), "at least one measured voxel"),
        (("stats", work / "m.h5", "--n-shells", "0"), "--n-shells must be >= 1"),
    ):
        assert says in refused(*command)


@pytest.mark.parametrize(
    "options",
    [
        (), ("--photons", "0"), ("--photons", "-1"), ("--photons", "nan"),
        ("--photons", "1e12"), ("--photons", "5", "--background", "-1"),
        ("--photons", "5", "--seed", "-1"), ("--photons", "5", "--workers", "0"),
        ("--photons", "5", "--n-pixel", "0"),
    ],
)  # fmt: skip
def test_expose_refuses(refused, work, tmp_path, options):
    refused("expose", work / "total.h5", work / "e.expt", "-o", tmp_path / "x", *options)


def test_expose_leaves_images_that_are_there(refused, work):
    line = refused("expose", work / "total.h5", work / "e.expt", "-o", work / "images",
                   "--photons", 5, code=1)  # fmt: skip
    assert "exists; choose another folder, or overwrite" in line


@pytest.mark.parametrize(
    "options",
    [
        ("--d-min", "0"), ("--d-min", "nan"), ("--d-min", "3", "--sampling", "0", "1", "1"),
        ("--d-min", "3", "--bragg-radius", "-1"), ("--d-min", "3", "--bragg-radius", "9"),
        ("--d-min", "3", "--bragg-radius-unit", "mm"), ("--d-min", "3", "--scaling", "yes"),
        ("--d-min", "3", "--seed", "-1"), ("--d-min", "3", "--workers", "0"),
        ("--d-min", "3", "--mask", "missing.npy"), ("--d-min", "3", "--mask", "text.npy"),
        ("--d-min", "3", "--mask", "empty.npy"), ("--d-min", "3", "--mask", "dir.npy"),
        ("--d-min", "3", "--images", "nowhere_####.cbf"), ("--d-min", "3", "--images", "dir.h5"),
        ("--d-min", "3", "--corrections", "all"), ("--d-min", "3", "--oversample", "0", "1"),
        ("--d-min", "3", "--oversample", "2"), ("--d-min", "3", "--overload", "-1"),
        ("--d-min", "3", "--overload-margin", "-1"),
    ],
)  # fmt: skip
def test_map_refuses(refused, work, tmp_path, monkeypatch, options):
    monkeypatch.chdir(work)
    refused("map", work / "images/exposed.expt", "-o", tmp_path / "x.h5", *options)


def test_map_needs_an_experiment(refused, tmp_path):
    line = refused("map", "-o", tmp_path / "x.h5", "--d-min", 3)
    assert "at least one .expt file" in line


def test_import_refuses(refused, work, tmp_path):
    folder, x = work, tmp_path / "x.h5"
    cube = np.ones((3, 3, 3))
    axes = {"h": [-1, 0, 1], "k": [-1, 0, 1], "l": [-1, 0, 1]}
    np.savez(tmp_path / "plain.npz", a=cube)
    np.savez(tmp_path / "two.npz", a=cube, b=cube, **axes)
    np.savez(tmp_path / "group.npz", a=cube, space_group="P 9", cell=[9, 9, 9, 90, 90, 90], **axes)
    np.savez(tmp_path / "cell.npz", a=cube, cell=[9, 9, -9, 90, 90, 90], **axes)
    np.savez(tmp_path / "axis.npz", a=cube, h=[0, 1, 3], k=[-1, 0, 1], l=[-1, 0, 1])
    np.savez(tmp_path / "shape.npz", a=cube, h=[0, 1], k=[-1, 0, 1], l=[-1, 0, 1])
    np.savez(tmp_path / "object.npz", a=np.array([{}], dtype=object))
    group = ("--space-group", "P 1")
    for arguments, says in (
        ((tmp_path / "plain.npz", *group), "expected a cell"),
        ((tmp_path / "plain.npz", "--cell", *CELL, *group), "origin"),
        ((tmp_path / "two.npz", "--cell", *CELL, *group), "or its key"),
        ((tmp_path / "two.npz", "--cell", *CELL, *group, "--key", "h"), "key 'h'"),
        ((tmp_path / "group.npz",), "P 9"),
        ((tmp_path / "cell.npz", *group), "edges > 0"),
        ((tmp_path / "axis.npz", "--cell", *CELL, *group), "axis h"),
        ((tmp_path / "shape.npz", "--cell", *CELL, *group), "shape"),
        ((tmp_path / "object.npz", "--cell", *CELL, *group), "Object arrays"),
        ((tmp_path / "two.npz", "--key", "a", "--cell", "1", "2", *group), "requires 6"),
        ((tmp_path / "two.npz", "--key", "a", "--cell", *CELL, "--space-group", "Q"), "'Q'"),
    ):
        assert says in refused("import", *arguments, "-o", x), says
    assert folder.is_dir()
