"""The command plot: every kind of figure from files, and what it refuses."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from offbragg import read_structure
from offbragg.cli.result_files import read_json, residues_in

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def fitted(work, tmp_path_factory):
    """What a fit, and a covariance, wrote."""
    from tests.cli.conftest import done

    folder = tmp_path_factory.mktemp("fitted")
    model = ("--model", "liquid-like", "--rms-displacement", "0.35", "--correlation-length", "5")
    done("fit", work / "coarse.h5", work / "s.pdb", "-o", folder, *model, "--max-evaluations", 2)
    done("covariance", work / "s.pdb", "-o", folder / "table.json", *model)
    np.save(folder / "v.npy", 0.1 * np.eye(24) + 0.05)
    return folder


def texts_of(path):
    """All that is written in a figure; an SVG keeps it as text."""
    root = ET.parse(path).getroot()
    return {"".join(x.itertext()) for x in root.iter(f"{SVG}text")}, root


def width_of(root):
    return float(root.get("width").removesuffix("pt")) / 72


# --- 1 what is drawn -------------------------------------------------------


def test_sections(call, work, tmp_path):
    whole = call("plot", "sections", work / "m.h5", work / "merged.h5", "-o", tmp_path / "x.svg",
                 "--plane", "hl", "--level", 1, "--rings", 4, 3, "--nodes", "--shared",
                 "--titles", "made", "measured", "--json").json  # fmt: skip
    assert whole["command"] == "plot"
    assert whole["outputs"] == {"figure": str(tmp_path / "x.svg")}
    assert whole["result"]["size_inch"][0] == 7
    texts, root = texts_of(tmp_path / "x.svg")
    assert {"made, k = 1", "measured, k = 1", "4 Å", "3 Å", "1/d along a* (Å⁻¹)",
            "anisotropic intensity (each map's own unit)"} <= texts  # fmt: skip
    assert width_of(root) == 7


def test_one_map_fills_a_column_and_is_in_its_unit(call, work, tmp_path):
    made = call("plot", "sections", work / "m.h5", "-o", tmp_path / "x.svg", "--no-anisotropic",
                "--contrast", "log")  # fmt: skip
    assert made.code == 0, made.err
    assert made.out.startswith("3.5 x ")
    texts, root = texts_of(tmp_path / "x.svg")
    assert {"m, l = 0", "intensity (e² per unit cell)"} <= texts
    assert width_of(root) == 3.5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("profile", "map.h5", "merged.h5", "--variation"),
         {"mean intensity (arbitrary units)", "map (band: ± σ of a voxel)"}),
        (("profile", "m.h5", "--log", "--no-sigma"), {"mean intensity (e² per unit cell)", "m"}),
        (("shells", "map.h5"), {"correlation", "CC½, map, anisotropic", "CC½, map, whole"}),
        (("shells", "merged.h5", "m.h5", "--n-shells", "4"),
         {"CC½, merged, anisotropic", "CC of equivalents, m, whole",
          "CC, merged and m, anisotropic"}),
        (("model", "merged.h5", "m.h5", "--rings", "3"),
         {"map, l = 0", "model, l = 0", "difference, l = 0", "CC", "R",
          "map and model, anisotropic"}),
        (("halos", "m.h5", "--n-shells", "2"),
         {"distance Δq from the nearest Bragg node (Å⁻¹)", "mean intensity (e² per unit cell)"}),
        (("halos", "map.h5", "m.h5", "--anisotropic", "--bin-width", "0.05", "--d-min", "3"),
         {"mean anisotropic intensity (each map's own unit)"}),
    ],
)  # fmt: skip
def test_kinds_of_figures(call, work, tmp_path, arguments, expected):
    kind, *rest = (work / x if x.endswith(".h5") else x for x in arguments)
    made = call("plot", kind, *rest, "-o", tmp_path / "x.svg")
    assert (made.code, made.err) == (0, "")
    texts, _ = texts_of(tmp_path / "x.svg")
    assert expected <= texts


def test_a_fit_shows_working_and_held_out_voxels(call, fitted, tmp_path):
    made = call("plot", "shells", fitted / "parameters.json", "-o", tmp_path / "x.svg")
    assert made.code == 0, made.err
    texts, _ = texts_of(tmp_path / "x.svg")
    assert {"CC", "R", "working, anisotropic", "held-out, whole"} <= texts


def test_correlations_of_a_fit_are_those_of_its_model(call, work, fitted, tmp_path):
    made = call("plot", "correlations", fitted / "parameters.json", "-o", tmp_path / "x.svg")
    assert made.code == 0, made.err
    texts, _ = texts_of(tmp_path / "x.svg")
    assert {"residue number", "correlation of displacements"} <= texts
    path = fitted / "parameters.json"
    found = residues_in(path, read_json(path))
    structure = read_structure(work / "s.pdb")
    numbers = np.unique(structure.residue_numbers)
    assert found.numbers.tolist() == numbers.tolist()
    assert np.all(np.diag(found.correlation) == 1)
    assert np.all((found.correlation > 0) & (found.correlation <= 1))


def test_correlations_of_atoms(call, work, fitted, tmp_path):
    made = call("plot", "correlations", fitted / "v.npy", "--structure", work / "s.pdb",
                "-o", tmp_path / "x.svg")  # fmt: skip
    assert made.code == 0, made.err
    assert "residue number" in texts_of(tmp_path / "x.svg")[0]
    made = call("plot", "correlations", fitted / "table.json", "-o", tmp_path / "y.svg")
    assert made.code == 0, made.err
    assert "distance of the atoms (Å)" in texts_of(tmp_path / "y.svg")[0]


@pytest.mark.parametrize(("name", "start"), [("x.pdf", b"%PDF-"), ("x.png", b"\x89PNG")])
def test_the_ending_names_the_format(call, work, tmp_path, name, start):
    made = call("plot", "profile", work / "m.h5", "-o", tmp_path / name, "--width", 2, "--dpi", 50)
    assert made.code == 0, made.err
    assert (tmp_path / name).read_bytes().startswith(start)


def test_slides_have_larger_text(call, work, tmp_path):
    sizes = []
    for style in ("journal", "slides"):
        path = tmp_path / f"{style}.svg"
        assert call("plot", "profile", work / "m.h5", "-o", path, "--style", style).code == 0
        found = re.findall(r"font-size: ([\d.]+)px", path.read_text())
        sizes.append(max(map(float, found)))
    assert sizes == [8.0, 10.0]


# --- 5 errors --------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sections", "m.h5", "-o", "x.gif"), "expected a name in .pdf, .png or .svg, got .gif"),
        (("sections", "m.h5", "-o", "x"), "expected a name in .pdf, .png or .svg, got none"),
        (("sections", "-o", "x.pdf"), "plot needs at least one map file"),
        (("sections", "m.h5", "-o", "x.pdf", "--level", "99"), "--level must be -"),
        (("sections", "none.h5", "-o", "x.pdf"), "no such file"),
        (("sections", "text.h5", "-o", "x.pdf"), "text.h5"),
        (("sections", "m.h5", "m.h5", "-o", "x.pdf"), "must differ: give --titles"),
        (("sections", "m.h5", "-o", "x.pdf", "--titles", "a", "b"),
         "--titles must be as many as the files, 1, got 2"),
        (("sections", "m.h5", "-o", "none/x.pdf"), "does not exist"),
        (("shells", "m.h5", "-o", "x.pdf", "--n-shells", "0"), "--n-shells must be >= 1, got 0"),
        (("shells", "nan.h5", "-o", "x.pdf"), "nothing is measured|no voxel|none"),
        (("model", "m.h5", "nan.h5", "-o", "x.pdf"), "compare: "),
        (("halos", "nan.h5", "-o", "x.pdf"), "expected voxels measured"),
        (("correlations", "m.h5", "-o", "x.pdf"), "not JSON"),
        (("correlations", "none.json", "-o", "x.pdf"), "no such file"),
        (("correlations", "three.npy", "-o", "x.pdf"), "needs --structure FILE"),
        (("correlations", "three.npy", "-o", "x.pdf", "--structure", "s.pdb"), "24"),
        (("correlations", "text.npy", "-o", "x.pdf", "--structure", "s.pdb"), "not a .npy file"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(refused, work, tmp_path, arguments, message):
    output = arguments.index("-o") + 1
    given = [
        tmp_path / x if n == output else work / x if x.endswith((".h5", ".npy", ".pdb", ".json"))
        else x
        for n, x in enumerate(arguments)
    ]  # fmt: skip
    line = refused("plot", *given, code=1)
    assert re.search(message.replace("(", r"\("), line), line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "expected an object, found list"),
        ("{}", "expected the inferred.json of infer"),
        ('{"parameters": {}, "residues": null}', "no correlations of residues"),
        ('{"residues": ["A GLY 1"], "covariance": [[1, 2]]}', "expected the inferred.json"),
        ('{"residues": ["A GLY x"], "covariance": [[1]]}', "expected the inferred.json"),
        ('{"residues": ["A GLY 1"], "covariance": [[null]]}', "expected the inferred.json"),
        ('{"command": "covariance", "result": 3}', "expected the inferred.json"),
        ('{"residues": 3, "covariance": 3, "statistics": {"working": 3}}', "expected the infer"),
        ('{"statistics": {"working": {"shells": {"cc": [1]}}}}', "expected the inferred.json"),
    ],
)
def test_other_json_is_refused(refused, tmp_path, content, message):
    path = tmp_path / "x.json"
    path.write_text(content)
    line = refused("plot", "correlations", path, "-o", tmp_path / "x.pdf", code=1)
    assert f"{path}: " in line
    assert message in line
    line = refused("plot", "shells", path, "-o", tmp_path / "x.pdf", code=1)
    assert "expected" in line


def test_a_fit_does_not_stand_beside_a_map(refused, work, fitted, tmp_path):
    line = refused("plot", "shells", fitted / "parameters.json", work / "m.h5", "-o",
                   tmp_path / "x.pdf", code=1)  # fmt: skip
    assert "a fit stands alone" in line
    line = refused("plot", "correlations", fitted / "table.json", "--structure", work / "s.pdb",
                   "-o", tmp_path / "x.pdf", code=1)  # fmt: skip
    assert "--structure is for a covariance in .npy" in line
