"""Pages as PDF, where a browser is there; and one clear line where there is none."""

import os
import re
import stat

import pytest

from offbragg import InputError, MissingFileError
from offbragg.report import Page
from offbragg.report.pdf import BROWSERS, find_browser, write_pdf


@pytest.fixture
def page():
    page = Page("A page")
    for number in range(60):
        page.heading(f"Heading {number}")
        page.text("Text.")
    return page.render()


def fake_browser(folder, script):
    path = folder / BROWSERS[0]
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return f"{folder}{os.pathsep}/bin{os.pathsep}/usr/bin"


def test_a_page_becomes_a_pdf_of_several_pages(page, tmp_path):
    try:
        find_browser()
    except MissingFileError:
        pytest.skip("needs Chromium or Chrome")
    write_pdf(tmp_path / "a.pdf", page)
    written = (tmp_path / "a.pdf").read_bytes()
    assert written.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", written)) > 1
    assert [x.name for x in tmp_path.iterdir()] == ["a.pdf"]


def test_what_is_folded_away_is_printed(tmp_path, monkeypatch):
    # The browser is told to open them: what it is given is kept here in the place of a PDF.
    script = (
        "for a; do case $a in --print-to-pdf=*) out=${a#*=};; file://*) in=${a#file://};; esac; "
        'done; cp "$in" "$out"'
    )
    monkeypatch.setenv("PATH", fake_browser(tmp_path, script))
    page = Page("t")
    with page.details("more"):
        page.text("hidden")
    write_pdf(tmp_path / "a.pdf", page.render())
    assert "<details open>" in (tmp_path / "a.pdf").read_text(encoding="utf-8")


def test_without_a_browser_it_says_what_to_do(tmp_path, monkeypatch, page):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingFileError, match=r"a PDF needs one of chromium, .* found none"):
        write_pdf(tmp_path / "a.pdf", page)
    assert not list(tmp_path.iterdir())


def test_a_browser_that_fails_leaves_no_file(tmp_path, monkeypatch, page):
    monkeypatch.setenv("PATH", fake_browser(tmp_path, "echo no display >&2; exit 3"))
    with pytest.raises(InputError, match=r"wrote no PDF \(exit code 3\): no display"):
        write_pdf(tmp_path / "a.pdf", page)
    assert not (tmp_path / "a.pdf").exists()
