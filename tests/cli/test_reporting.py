"""The command report: a page, what it says on stdout, and errors before anything is written."""

import pytest

from offbragg.report import report as report_module


def test_a_map_becomes_a_page(work, call, tmp_path):
    made = call("report", work / "map.h5", "-o", tmp_path / "r.html", "--title", "A & B", "--json")
    whole = made.json
    assert whole["outputs"] == {"report": str(tmp_path / "r.html")}
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<h1>A &amp; B</h1>" in text
    found = whole["result"]["findings"]
    assert {"input", "kind", "level", "text"} == set(found[0])
    assert {x["kind"] for x in found} == {"map"}
    assert any("No scaling was done" in x["text"] for x in found)
    # What the reduction was told and did is there.
    assert "Corrections of the counts" in text
    assert "0 to 180" in text


def test_several_inputs_share_a_page(work, call, tmp_path, monkeypatch):
    monkeypatch.setattr(report_module, "add_map", lambda page, facts: page.heading("All else"))
    made = call("report", work / "map.h5", work / "merged.h5", "-o", tmp_path / "r.html")
    assert made.code == 0, made.err
    assert "map.h5" in made.out
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert text.count("<h2 ") == 4  # in short, two maps, files


def test_what_a_fit_and_a_ranking_wrote_become_a_page(work, call, tmp_path):
    options = ("--max-evaluations", 2, "--seed", 1)
    model = ("--model", "liquid-like", "--rms-displacement", 0.3, "--correlation-length", 5)
    for arguments in (
        ("fit", work / "merged.h5", work / "s.pdb", "-o", tmp_path / "fit", *model, *options),
        ("rank", work / "merged.h5", work / "s.pdb", "-o", tmp_path / "ranking.json",
         "--models", "liquid-like", "uncorrelated", "--n-folds", 2),
    ):  # fmt: skip
        assert call(*arguments).code == 0
    made = call(
        "report", tmp_path / "fit", tmp_path / "ranking.json", "-o", tmp_path / "r.html", "--json"
    )
    found = made.json["result"]["findings"]
    assert {x["kind"] for x in found} == {"fit", "ranking"}
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Refined parameters" in text
    assert "Models, in their order" in text
    assert "LiquidLike(" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{tmp}/nothing.h5", "-o", "{tmp}/r.html"), "nothing.h5: no such file or folder"),
        (("{work}/text.h5", "-o", "{tmp}/r.html"), "expected a map (.h5), a folder of fit"),
        (("{work}/nan.h5", "-o", "{tmp}/r.html"), "nan.h5: map: expected at least one measured"),
        (("{work}/map.h5", "-o", "{tmp}/r.pdf"), "expected a name in .html, got .pdf"),
        (("{work}/map.h5", "-o", "{tmp}/no/r.html"), "does not exist"),
        (("-o", "{tmp}/r.html"), "at least one map, folder or file of results"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(work, call, tmp_path, arguments, message):
    made = call("report", *(x.format(work=work, tmp=tmp_path) for x in arguments))
    assert made.code == 1
    assert message in made.err
    assert made.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_pdf_without_a_browser_is_refused_before_anything_is_written(
    work, call, tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    made = call("report", work / "map.h5", "-o", tmp_path / "r.html", "--pdf")
    assert made.code == 1
    assert "a PDF needs one of chromium" in made.err
    assert not list(tmp_path.iterdir())
