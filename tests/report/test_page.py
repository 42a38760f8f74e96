"""Pages: self-contained, escaped, whole or not at all."""

import base64
import io
import re
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure
from tests.report.outline import Outline

from offbragg import HklGrid, LiquidLike, MissingFileError, RigidBody, fit, simulate
from offbragg.formatting import show
from offbragg.made_crystal import make_peptide
from offbragg.report import Finding, Page, write_fit_report

NASTY = "<script>alert(\"x\")</script> & 'quotes'"


def figure():
    made = Figure(figsize=(2, 1))
    made.subplots().plot([0, 1], [1, 0])
    return made


# --- 1 reference numbers -------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (np.float64("nan"), "–"),
        (0.123456, "0.1235"),
        (np.float64(123456.0), "1.235e+05"),
        (12345, "12345"),
        (True, "True"),
        ("text", "text"),
    ],
)
def test_values_for_people(value, expected):
    assert show(value) == expected


# --- 2 independent oracle ------------------------------------------------


def test_a_figure_is_within_the_page():
    page = Page("x")
    page.figure(figure(), "a caption")
    outline = Outline(page.render())
    sources = {name: value for tag, name, value in outline.attributes if tag == "img"}
    assert sources["alt"] == "a caption"
    prefix, data = sources["src"].split(",")
    assert prefix == "data:image/png;base64"
    picture = matplotlib.image.imread(io.BytesIO(base64.b64decode(data)), format="png")
    assert picture.shape[:2] == (150, 300)
    assert "a caption" in outline.texts


# --- 3 exact limits ------------------------------------------------------


def test_an_empty_page_is_a_page():
    outline = Outline(Page("nothing").render())
    assert outline.tags[:2] == ["html", "head"]
    assert outline.texts.count("nothing") == 2  # title and heading


# --- 4 invariances -------------------------------------------------------


def test_whatever_is_written_stays_text():
    page = Page(NASTY)
    page.heading(NASTY)
    page.text(NASTY)
    page.note(NASTY)
    page.code("", NASTY)
    page.findings([Finding("warning", NASTY)])
    page.table((NASTY, "b"), [(NASTY, None), (1.0, NASTY)], NASTY, {NASTY: NASTY})
    with page.details(NASTY):
        pass
    page.figure(figure(), NASTY)
    text = page.render()
    outline = Outline(text)
    assert "script" not in outline.tags
    assert "<script" not in text
    # Title, heading of the page, heading, text, note, code, finding, caption, head, two cells, term
    # and meaning, summary, figcaption.
    assert "".join(outline.texts).count(NASTY) == 15
    alts = [value for tag, name, value in outline.attributes if (tag, name) == ("img", "alt")]
    assert alts == [NASTY]


def test_parts_keep_their_order():
    page = Page("t")
    page.text("first")
    page.table(("n",), [(1,), (2,)])
    page.text("last")
    text = page.render()
    assert text.index("first") < text.index("<table>") < text.index("last")


def test_headings_have_anchors_and_levels_in_order():
    page = Page("t")
    page.heading("In short")
    with page.part("Map: ä.h5"):
        page.heading("How it was made")
        page.heading("Below", 1)
    with page.part("Map: ä.h5"):
        page.heading("How it was made")
    page.heading("Last")
    outline = Outline(page.render())
    levels = [int(tag[1]) for tag in outline.tags if tag[0] == "h" and tag[1:].isdigit()]
    assert levels == [1, 2, 2, 3, 4, 2, 3, 2]
    anchors = [value for _, name, value in outline.attributes if name == "id"]
    assert anchors == [
        "in-short", "map-h5", "how-it-was-made", "below", "map-h5-2", "how-it-was-made-2", "last"
    ]  # fmt: skip
    links = [value for tag, name, value in outline.attributes if (tag, name) == ("a", "href")]
    assert links == [f"#{name}" for name in anchors if name != "below"]
    assert ("html", "lang", "en") in outline.attributes


def test_few_headings_need_no_contents():
    page = Page("t")
    for text in "abc":
        page.heading(text)
    assert "<nav" not in page.render()
    page.heading("d")
    assert "<nav" in page.render()


def test_even_columns_have_the_same_decimals_and_text_stays():
    page = Page("t")
    rows = [(0.1234567, 12.345, "a", 7), (0.5, 1.0, "b", 1234), (None, float("nan"), "c", 0)]
    page.table(("x", "y", "z", "n"), rows, even=True, total=True)
    texts = [text for text in Outline(page.render()).texts if text.strip()]
    cells = texts[texts.index("n") + 1 :]
    assert cells == ["0.123", "12.3", "a", "7", "0.500", "1.0", "b", "1234", "–", "–", "c", "0"]
    assert page.render().count('<tr class="total">') == 1


def test_a_page_is_written_whole(tmp_path):
    page = Page("Å, ² and –")
    page.write(tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == page.render()
    page.text("more")
    page.write(str(tmp_path / "a.html"))
    assert "more" in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert [x.name for x in tmp_path.iterdir()] == ["a.html"]


def test_a_failure_leaves_the_old_page(tmp_path, monkeypatch):
    page = Page("new")
    (tmp_path / "a.html").write_text("old")

    def fail(self):
        raise RuntimeError("no")

    monkeypatch.setattr(Page, "render", fail)
    with pytest.raises(RuntimeError):
        page.write(tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text() == "old"
    assert [x.name for x in tmp_path.iterdir()] == ["a.html"]


def test_the_report_of_a_fit_holds_its_figures(tmp_path):
    peptide = make_peptide("GASM", u=0.1)
    structure = replace(peptide, elements=np.full(peptide.n_atoms, "C"))
    truth = LiquidLike(0.3, 5.0)
    observed = simulate(structure, truth, HklGrid.from_resolution(structure.cell, 2.2))
    result = fit(observed, structure, truth, max_evaluations=2)
    write_fit_report(tmp_path / "fit.html", observed, result)
    text = (tmp_path / "fit.html").read_text(encoding="utf-8")
    outline = Outline(text)
    assert outline.tags.count("img") == 4
    sources = [value for _, name, value in outline.attributes if name == "src"]
    assert all(value.startswith("data:image/png;base64,") for value in sources)
    assert "http" not in text
    anchors = {f"#{value}" for _, name, value in outline.attributes if name == "id"}
    assert all(value in anchors for _, name, value in outline.attributes if name == "href")
    joined = "\n".join(outline.texts)
    for name, parameter in result.parameters.items():
        assert name.replace("_", " ") in outline.texts
        assert f"{parameter.value:.4g}" in outline.texts
    assert f"{result.statistics['held_out']['n_unique']}" in outline.texts
    shells = result.statistics["held_out"]["shells"]
    for key in ("cc", "r", "cc_anisotropic", "r_anisotropic"):
        told = ["–" if value is None else f"{value:.3f}" for value in shells[key]]
        assert all(text in outline.texts for text in told)
    assert f"{shells['d_max'][0]:.2f}–{shells['d_min'][0]:.2f}" in outline.texts
    assert result.message in joined
    assert repr(result.model) in joined
    assert "simulate" in outline.texts
    assert "fit" in outline.texts


def test_a_fit_that_did_not_converge_stands_out(tmp_path):
    peptide = make_peptide("GASM", u=0.1)
    structure = replace(peptide, elements=np.full(peptide.n_atoms, "C"))
    observed = simulate(
        structure, LiquidLike(0.3, 5.0), HklGrid.from_resolution(structure.cell, 2.2)
    )
    inverse = replace(observed, intensity=-observed.intensity)
    result = fit(inverse, structure, LiquidLike(0.3, 6.0), max_evaluations=2, held_out=0.0)
    write_fit_report(tmp_path / "fit.html", inverse, result)
    text = (tmp_path / "fit.html").read_text(encoding="utf-8")
    first, *_ = re.findall(r'<p class="finding warning"><b>Warning:</b> (.*?)</p>', text)
    assert first.startswith("The fit has not converged: ")
    assert "does not resemble the map" in first


def test_what_a_coarse_map_does_not_determine_is_said(tmp_path):
    """Turning and screw at 7 Å, amid noise; at 3 Å no more than the diagonal of the screw."""
    peptide = make_peptide("GASM", u=0.1, cell=(16, 24, 18, 90, 100, 90))
    screw = 0.003 * np.array([[0.0, 1.0, 0.5], [-0.5, 0.0, 1.0], [1.0, 0.5, 0.0]])
    truth = RigidBody(np.diag([0.12, 0.06, 0.08]), 0.004 * np.eye(3), screw)
    said = {}
    for d_min, noise in ((7.0, 0.5), (3.0, 0.01)):
        made = simulate(peptide, truth, HklGrid.from_resolution(peptide.cell, d_min))
        rng = np.random.default_rng(0)
        sigma = np.full(made.grid.shape, noise * np.nanmean(made.intensity))
        noisy = made.intensity + sigma * rng.normal(size=sigma.shape)
        observed = replace(made, intensity=noisy, sigma=sigma)
        result = fit(observed, peptide, truth, held_out=0.0, max_evaluations=24, background="none")
        write_fit_report(tmp_path / "fit.html", observed, result)
        text = (tmp_path / "fit.html").read_text(encoding="utf-8")
        said[d_min] = result.told_undetermined
        assert said[d_min] in text
    assert re.search(r"Not determined by this map: .*screw", said[7.0])
    assert re.search(r"Not told from zero, .*libration", said[7.0])
    assert said[3.0] == "Not determined by this map: screw (3 of 9 numbers)."


# --- 5 errors ------------------------------------------------------------


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"folder .* does not exist"):
        Page("x").write(tmp_path / "nowhere" / "a.html")


def test_a_folder_is_no_page(tmp_path):
    with pytest.raises(MissingFileError, match="expected the name of a file, found a folder"):
        Page("x").write(tmp_path)
