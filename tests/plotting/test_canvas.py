"""Style and files of figures: sizes, text as text, nothing global, nothing half written."""

import itertools
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread
from tests.plotting.made_maps import made_map

from offbragg import InputError, MissingFileError
from offbragg.plotting import (
    DOUBLE_COLUMN,
    SINGLE_COLUMN,
    SectionOptions,
    draw_profiles,
    draw_sections,
    journal_style,
    save_figure,
)
from offbragg.plotting.canvas import new_figure

SVG = "{http://www.w3.org/2000/svg}"
POINTS = 72  # an inch


def profile(width):
    return draw_profiles({"m": made_map()}, width=width)


# --- 1 the style ----------------------------------------------------------


def test_the_style_of_journals_is_small_and_ends_with_its_block():
    before = dict(mpl.rcParams)
    with journal_style():
        ax = profile(SINGLE_COLUMN).axes[0]
    assert dict(mpl.rcParams) == before
    assert ax.xaxis.label.get_size() == 8
    assert ax.get_xticklabels()[0].get_size() == 7
    assert ax.lines[0].get_linewidth() == 1.0
    assert ax.spines["left"].get_linewidth() == 0.6
    assert profile(SINGLE_COLUMN).axes[0].xaxis.label.get_size() == 10


def test_labels_of_resolution_do_not_overlap():
    with journal_style():
        figure = profile(SINGLE_COLUMN)
        figure.draw_without_rendering()
    boxes = [x.get_window_extent() for x in figure.axes[0].get_xticklabels()]
    assert len(boxes) >= 4
    for left, right in itertools.pairwise(boxes):
        assert left.x1 < right.x0


def test_labels_are_within_the_figure():
    maps = {"one": made_map(seed=1), "other": made_map(seed=2)}
    for width in (SINGLE_COLUMN, DOUBLE_COLUMN):
        with journal_style():
            figure = draw_sections(maps, SectionOptions(rings=(3.0,)), width=width)
            figure.draw_without_rendering()
        box, page = figure.get_tightbbox(), figure.get_size_inches()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= page[0]
        assert box.y1 <= page[1]


# --- 2 the files ----------------------------------------------------------


def test_a_pdf_has_its_width_and_embedded_fonts(tmp_path):
    with journal_style():
        save_figure(profile(SINGLE_COLUMN), tmp_path / "x.pdf")
    content = (tmp_path / "x.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    assert f"/MediaBox [ 0 0 {SINGLE_COLUMN * POINTS:g} ".encode() in content
    assert b"/FontFile2" in content  # TrueType, whose text can be edited
    assert b"/Type3" not in content


def test_the_text_of_an_svg_is_text(tmp_path):
    with journal_style():
        save_figure(profile(DOUBLE_COLUMN), tmp_path / "x.svg")
    root = ET.parse(tmp_path / "x.svg").getroot()
    assert root.get("width") == f"{DOUBLE_COLUMN * POINTS:g}pt"
    texts = {x.text for x in root.iter(f"{SVG}text")}
    assert "mean intensity (arbitrary units)" in texts
    assert "resolution d (Å), equal steps of 1/d" in texts


def test_a_png_has_the_dots_asked_for(tmp_path):
    with journal_style():
        figure = profile(SINGLE_COLUMN)
        save_figure(figure, tmp_path / "x.png")
        save_figure(figure, tmp_path / "y.PNG", dpi=100)
    assert imread(tmp_path / "x.png").shape[1] == 1050
    assert imread(tmp_path / "y.PNG").shape[1] == 350


@pytest.mark.parametrize("suffix", ["pdf", "svg", "png"])
def test_the_same_figure_is_the_same_file(tmp_path, suffix):
    for name in "ab":
        save_figure(profile(3.0), tmp_path / f"{name}.{suffix}")
    one, other = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab")
    assert one == other


def test_maps_in_vector_files_are_pictures(tmp_path):
    save_figure(draw_sections({"m": made_map(d_min=1.0)}), tmp_path / "x.svg")
    root = ET.parse(tmp_path / "x.svg").getroot()
    assert len(list(root.iter(f"{SVG}image"))) >= 1
    assert len(list(root.iter(f"{SVG}path"))) < 100


# --- 5 errors -------------------------------------------------------------


@pytest.mark.parametrize(("name", "found"), [("x.gif", ".gif"), ("x", "none")])
def test_other_endings_are_refused(tmp_path, name, found):
    with pytest.raises(InputError, match=f"expected a name in .pdf, .png or .svg, got {found}"):
        save_figure(new_figure(1, 1), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(MissingFileError, match=r"folder .* does not exist"):
        save_figure(new_figure(1, 1), tmp_path / "none" / "x.pdf")
    with pytest.raises(InputError, match="dpi must be >= 1, got 0"):
        save_figure(new_figure(1, 1), tmp_path / "x.png", dpi=0)
    (tmp_path / "old.pdf").write_bytes(b"old")
    figure = new_figure(1, 1)
    figure.subplots().plot([0, 1], np.array([0, 1]), label="$broken{$")
    figure.axes[0].set_title("$\\nonsense{$")
    with pytest.raises(ValueError, match="nonsense"):
        save_figure(figure, tmp_path / "old.pdf")
    assert (tmp_path / "old.pdf").read_bytes() == b"old"
    assert [x.name for x in tmp_path.iterdir()] == ["old.pdf"]
