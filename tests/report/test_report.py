"""Whole pages: figures of the map's tables, history, structure, nothing from outside."""

import json
import re
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
from tests.report.outline import Outline

from offbragg import InputError, LiquidLike, fit, merge, simulate, write_map
from offbragg.crystal.grid import HklGrid
from offbragg.errors import FormatError, MissingFileError
from offbragg.made_crystal import make_peptide
from offbragg.maps.column_names import column_groups
from offbragg.maps.provenance import make_step, plain
from offbragg.reduction.options import CORRECTIONS, MapOptions
from offbragg.reduction.standard_scaling import ScalingOptions
from offbragg.report import build_report, read_source
from offbragg.report import report as report_module
from offbragg.report.corrections_table import corrections_table
from offbragg.report.history import default_options, input_files, option_words, told

CURVE = {"at": [0.0, 9.0], "mean": [1.0, 1.1], "low": [1.0, 1.0], "high": [1.1, 1.2]}


@pytest.fixture(scope="module")
def reduced(good):
    """A map with all that a reduction with scaling tells."""
    made = good.map
    sweep = {
        "wavelength": 0.9763, "space_group": "P 1 2 1", "cell": list(made.cell), "first_deg": 0.0,
        "last_deg": 90.0, "width_deg": 0.5, "axis_hkl": [0.0, 26.0, 0.0], "n_panels": 1,
        "pixels": [400, 500], "pixel_size_mm": [0.172, 0.172], "distance_mm": 123.4,
        "exposure_time": 0.1,
    }  # fmt: skip
    options = MapOptions(d_min=3.0, sampling=(2, 2, 2), bragg_radius=0.3)
    step = make_step(
        "map", options, corrections=["solid-angle", "polarization"], inputs={"a.expt": "f" * 64},
        images=[{"template": "a_####.cbf", "n_images": 180}], sweeps=[sweep],
        masked_pixels=[{"experiment": 0, "hot": 3, "dead": 1}],
    )  # fmt: skip
    scale = make_step(
        "scale", ScalingOptions(),
        figures={"n_observations": 1234567, "n_outliers": 5, "r_meas_before": 0.31,
                 "r_meas_after": 0.22, "inflation": 1.2, "fraction": 0.03, "converged": True},
        curves=[{"name": "scale", "kind": "all", "sweep": 0, "by": "angle", **CURVE}],
        shells={"d_max": [9.0], "d_min": [3.0], "n": [1234567], "r_meas_before": [0.3123],
                "r_meas_after": [0.2234]},
    )  # fmt: skip
    return replace(made, provenance=(step, scale))


def written(folder, *maps):
    """Sources of maps that were written to files."""
    sources = []
    for number, diffuse_map in enumerate(maps):
        path = folder / f"map{number}.h5"
        write_map(path, diffuse_map)
        sources.append(read_source(path))
    return sources


@pytest.fixture(scope="module")
def page(reduced, tmp_path_factory):
    """Source, text and outline of the page on that map; drawing it takes most of the time."""
    (source,) = written(tmp_path_factory.mktemp("page"), reduced)
    text = build_report([source]).render()
    return source, text, Outline(text)


# --- 1 what a page holds ---------------------------------------------------


def test_every_figure_of_the_tables_is_on_the_page(page):
    source, _, outline = page
    facts = source.facts
    for names in column_groups(list(facts.shells)).values():
        for name in names:
            values = [*facts.shells[name], facts.overall[name]]
            floats = [abs(x) for x in values if isinstance(x, float) and x == x]
            decimals = 3 if max(floats, default=0) < 2 else 2 if max(floats) < 10 else 1
            for x in values:
                shown = f"{x:.{decimals}f}" if isinstance(x, float) else str(x)
                assert shown in outline.cells, name


def test_the_history_is_on_the_page(page):
    _, text, outline = page
    joined = " ".join(outline.texts)
    assert "f" * 64 in outline.cells
    assert "a_####.cbf (180 images)" in outline.cells
    assert "0 to 90" in outline.cells
    assert "0.9763" in outline.cells
    assert "1234567" in outline.cells
    assert "0.223" in outline.cells
    # Options that are not the defaults come first, the others are folded away.
    changed, folded = text.split("<details>")[:2]
    assert "bragg_radius" in changed
    assert "bragg_radius_unit" not in changed
    assert "bragg_radius_unit" in folded
    assert "Of the sphere." in joined
    assert "11 more options of scale, all at their defaults" in joined


def test_headings_tables_and_figures_are_accessible(page):
    _, text, outline = page
    levels = [int(tag[1]) for tag in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert outline.tags.count("img") >= 8
    assert all(alt.strip() for tag, name, alt in outline.attributes if name == "alt")
    assert sum(name == "alt" for _, name, _ in outline.attributes) == outline.tags.count("img")
    assert ("html", "lang", "en") in outline.attributes
    anchors = [value for _, name, value in outline.attributes if name == "id"]
    assert len(set(anchors)) == len(anchors)
    links = [value for tag, name, value in outline.attributes if name == "href"]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(anchors)
    assert outline.tags.count("th") == text.count('<th scope="col"')
    assert outline.tags.count("caption") >= 10
    assert "@media print" in text
    assert "prefers-color-scheme: dark" in text


def test_nothing_comes_from_outside(page):
    _, text, outline = page
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert not {"script", "link", "iframe", "object", "embed"} & set(outline.tags)
    sources = [value for _, name, value in outline.attributes if name in ("src", "srcset")]
    assert all(value.startswith("data:image/png;base64,") for value in sources)


def test_what_to_know_comes_before_all_else(tmp_path, reduced, monkeypatch):
    monkeypatch.setattr(report_module, "add_map", lambda page, facts: page.heading("All else"))
    merged = merge(replace(reduced, half_1=None, half_2=None)).map
    sources = written(tmp_path, reduced, merged)
    text = build_report(sources).render()
    assert text.index("CC½ cannot be given") < text.index("All else</h3>")
    for source in sources:
        assert f"Map: {source.name}</h3>" in text  # in short
        assert f"Map: {source.name}</h2>" in text


def test_a_map_of_a_model_has_no_empty_sections(tmp_path):
    peptide = make_peptide("GAS", u=0.1)
    grid = HklGrid.from_resolution(peptide.cell, 4.0)
    made = simulate(peptide, LiquidLike(0.3, 5.0), grid)
    text = build_report(written(tmp_path, made)).render()
    for missing in ("Does the symmetry hold?", "Scaling", "Corrections of the counts", "Sweeps"):
        assert missing not in text
    assert "What is in it" in text


# --- 2 history ---------------------------------------------------------------


def test_corrections_that_were_not_made_say_why():
    options = plain(MapOptions(d_min=2.0, corrections=tuple(x for x in CORRECTIONS if x != "air")))
    step = {"options": options, "corrections": ["solid-angle", "exposure"]}
    rows = {name: (made, why) for name, made, why in corrections_table(step)}
    assert rows["solid angle"][0] == rows["exposure"][0] == "yes"
    assert rows["air"] == ("no", "switched off (--corrections)")
    assert rows["dark"] == ("no", "no file was given (--dark)")
    assert rows["absorption"] == (
        "no", "thickness and material of the sensor are not in the experiment"
    )  # fmt: skip
    assert rows["background"][0] == "no"
    assert rows["Bragg peaks"] == (
        "yes", "pixels within 0.25 of a lattice unit of a node were left out"
    )  # fmt: skip
    assert len(rows) == len(CORRECTIONS) + 2
    for shapes, said in (
        ([{}, {}], "pixels within 4 σ of the fitted shape of spots were left out"),
        ([{}], "pixels within 4 σ of the fitted shape of spots (1 of 2 sweeps) or within 0.25 of a "
         "lattice unit of a node were left out"),
    ):  # fmt: skip
        fitted = {**step, "spot_shapes": shapes, "sweeps": [{}, {}]}
        assert corrections_table(fitted)[-1] == ("Bragg peaks", "yes", said)
    kept = corrections_table({"options": options | {"bragg": "keep"}})
    assert kept[-1] == ("Bragg peaks", "no", "they were kept (--bragg keep)")


def test_files_of_either_kind_of_step_are_listed():
    mapped = {"command": "map", "inputs": {"a.expt": "aa"}, "images": []}
    imported = {"command": "import", "inputs": [{"name": "b.lat", "sha256": "bb"}]}
    assert input_files(mapped) == [("map", "a.expt", "aa")]
    assert input_files(imported) == [("import", "b.lat", "bb")]
    assert input_files({"command": "merge"}) == []


def test_defaults_and_words_are_those_of_the_options():
    stored = plain(asdict(MapOptions(d_min=2.0)))
    defaults = default_options(MapOptions)
    assert {n for n, v in stored.items() if n not in defaults or defaults[n] != v} == {"d_min"}
    words = option_words(MapOptions)
    assert set(words) == set(stored)
    assert words["hot_pixels"] == (
        "Find hot and dead pixels from a hundred of the images and exclude them."
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [([], "–"), ("", "–"), ([1.5, None], "1.5, –"), ([[1, 2]], "[[1, 2]]"), (True, "yes")],
)
def test_values_of_options(value, expected):
    assert told(value) == expected


# --- 3 results of fits ---------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    peptide = replace(make_peptide("GASM", u=0.1), elements=np.full(24, "C"))
    truth = LiquidLike(0.3, 5.0)
    observed = simulate(peptide, truth, HklGrid.from_resolution(peptide.cell, 2.4))
    return fit(observed, peptide, truth, max_evaluations=2)


@pytest.fixture
def folder(tmp_path, fitted):
    """What `offbragg fit` writes and a page needs."""
    figures = {
        "parameters": fitted.parameters, "scale": fitted.scale, "n_numbers": fitted.n_numbers,
        "n_determined": fitted.n_determined, "undetermined": "", "model": repr(fitted.model),
        "statistics": fitted.statistics, "converged": fitted.converged,
        "message": fitted.message, "residues": fitted.residues.labels,
        "covariance": fitted.residues.covariance,
    }  # fmt: skip
    (tmp_path / "fit").mkdir()
    (tmp_path / "fit/parameters.json").write_text(json.dumps(plain(figures)), encoding="utf-8")
    write_map(tmp_path / "fit/model.h5", fitted.model_map)
    write_map(tmp_path / "fit/residual.h5", fitted.residual_map)
    return tmp_path / "fit"


def test_a_fit_that_was_written_reads_as_the_fit_itself(folder, fitted):
    source = read_source(folder)
    assert source.kind == "fit"
    for name, p in fitted.parameters.items():
        found = source.fit.parameters[name]
        assert found.value == pytest.approx(p.value)
        assert found.standard_error == pytest.approx(p.standard_error)
        assert found.unit == p.unit
    assert source.fit.residues.labels == fitted.residues.labels
    assert source.fit.residues.correlation == pytest.approx(fitted.residues.correlation)
    # The observed map is the model's and the residual.
    both = fitted.model_map.intensity + fitted.residual_map.intensity
    assert np.allclose(source.observed.intensity, both, rtol=1e-5, equal_nan=True)
    outline = Outline(build_report([source]).render())
    assert "The model predicts held-out voxels" in " ".join(outline.texts)
    for p in fitted.parameters.values():
        assert f"{p.value:.4g}" in outline.cells
    assert read_source(folder / "parameters.json").kind == "fit"


# --- 5 errors --------------------------------------------------------------------


def test_what_is_no_source_is_named(tmp_path, folder):
    cases = {
        "nothing.h5": (MissingFileError, "no such file or folder"),
        "empty": (FormatError, "found a folder without parameters.json or inferred.json"),
        "text.h5": (FormatError, r"expected a map \(.h5\), a folder of fit or infer"),
        "list.json": (FormatError, "found JSON of something else"),
        "broken.json": (FormatError, "expected JSON"),
        "none.json": (FormatError, "ranking: expected at least one model, found none"),
        "short.json": (FormatError, "n_numbers: expected an entry, found none"),
    }
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.h5").write_text("no map")
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "none.json").write_text('{"ranking": []}')
    (tmp_path / "short.json").write_text('{"ranking": [{"name": "a", "model": "b"}]}')
    for name, (error, message) in cases.items():
        with pytest.raises(error, match=message) as raised:
            read_source(tmp_path / name)
        assert name in str(raised.value)
    (folder / "residual.h5").unlink()
    with pytest.raises(MissingFileError, match=r"residual\.h5"):
        read_source(folder)


def test_no_source_is_refused():
    with pytest.raises(InputError, match="at least one map, folder or file of results"):
        build_report([])
