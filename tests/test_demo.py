"""The demo: truth and recovery, its files, its page, the same numbers for the same seed.

Run on a smaller crystal at lower resolution than its user sees, with the same code.
"""

import base64
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from offbragg import InputError, compare, read_map, read_structure
from offbragg import demo as demo_module
from offbragg.demo import TRUTH, DemoOptions, run_demo
from offbragg.made_crystal import make_peptide

SMALL = DemoOptions(n_images=60, n_pixels=96, photons=12.0, seed=1)
FIVE = 5.0  # standard errors


def small_peptide(**options):
    """Twenty-four atoms of one element."""
    peptide = make_peptide("GASM", **options)
    return replace(peptide, elements=np.full(peptide.n_atoms, "C"))


@pytest.fixture(scope="module")
def smaller():
    """The demo with a smaller crystal, at 2.2 Å."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_module, "make_peptide", small_peptide)
        patch.setattr(demo_module, "D_MIN", 2.2)
        yield


class Told:
    """Progress that keeps what it is told."""

    def __init__(self):
        self.works, self.steps = [], 0

    def start(self, what, total):
        self.works.append(what)

    def step(self, n=1):
        self.steps += n


@pytest.fixture(scope="module")
def made(tmp_path_factory, smaller):
    """One run of the demo, and what it told of its progress."""
    told = Told()
    return run_demo(tmp_path_factory.mktemp("demo") / "new" / "out", SMALL, told), told


# --- 1 known truth -------------------------------------------------------


def test_the_truth_is_recovered(made):
    result, _ = made
    assert result.truth == TRUTH
    assert result.fit.converged, result.fit.message
    for name, parameter in result.fit.parameters.items():
        off = parameter.value - getattr(TRUTH, name)
        assert abs(off) < FIVE * parameter.standard_error
        assert parameter.standard_error < 0.1 * parameter.value
    assert result.map_to_truth.overall.cc > 0.7
    # Photon noise is all that the model leaves.
    for figures in result.fit.statistics.values():
        assert 0.8 < figures["chi2_reduced"] < 1.3


# --- 2 what is written ---------------------------------------------------


def test_every_file_is_there(made):
    result, _ = made
    for path in result.files.values():
        assert path.is_file()
        assert path.stat().st_size > 0
    folder = result.files["report"].parent
    assert {x.name for x in folder.iterdir()} == {x.name for x in result.files.values()}


def test_the_files_hold_the_results(made):
    result, _ = made
    files = result.files
    written = json.loads(files["parameters"].read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(result.summary()))
    for name, numbers in written["parameters"].items():
        assert numbers["truth"] == getattr(TRUTH, name)
        assert numbers["recovered"] == result.fit.parameters[name].value
    merged, truth, model = (read_map(files[x]) for x in ("merged", "truth", "model"))
    assert compare(merged, truth).overall.cc == pytest.approx(
        result.map_to_truth.overall.cc, abs=1e-6
    )
    assert [step["command"] for step in merged.provenance] == ["map", "merge"]
    assert [step["command"] for step in model.provenance] == ["map", "merge", "fit"]
    assert truth.statistics == {}
    structure = read_structure(files["structure"])
    assert structure.n_atoms == 24
    assert structure.u_iso == pytest.approx(TRUTH.rms_displacement**2, abs=1e-4)


def test_the_page_is_self_contained(made):
    result, _ = made
    text = result.files["report"].read_text(encoding="utf-8")
    assert "http:" not in text
    assert "https:" not in text
    assert "<script" not in text
    sources = re.findall(r'src="([^"]*)"', text)
    assert len(sources) == 8
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', text))
    for source in sources:
        prefix, data = source.split(",")
        assert prefix == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")
    for name, parameter in result.fit.parameters.items():
        row = re.search(rf"<tr><td>{name.replace('_', ' ')} \(Å\)</td>(.*?)</tr>", text).group(1)
        cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
        off = (parameter.value - getattr(TRUTH, name)) / parameter.standard_error
        assert cells == [
            f"{getattr(TRUTH, name):.4g}",
            f"{parameter.value:.4g}",
            f"{parameter.standard_error:.4g}",
            f"{off:+.1f} standard errors",
        ]
    assert "60 images of 96 × 96 pixels, 12 photons a pixel" in text


def test_progress_is_told(made):
    _, told = made
    assert told.works == ["exposing", "map", "fit"]
    assert told.steps >= 2 * 60 + 60 + 5


# --- 4 invariances -------------------------------------------------------


def test_the_same_seed_gives_the_same_numbers_and_replaces_the_files(made):
    result, _ = made
    first = read_map(result.files["map"])
    again = run_demo(result.files["map"].parent, SMALL)
    assert again.files == result.files
    assert again.summary() == result.summary()
    second = read_map(again.files["map"])
    for name in ("intensity", "sigma", "count", "half_1", "half_2"):
        assert_array_equal(getattr(first, name), getattr(second, name))


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_images": 19}, "at least 20 images of 64 pixels, got 19 of 256"),
        ({"n_pixels": 62}, "at least 20 images of 64 pixels, got 180 of 62"),
        ({"n_pixels": 65}, "n_pixels must be even, got 65"),
        ({"photons": 0.0}, "photons must be > 0 a pixel, got 0"),
        ({"photons": np.nan}, "photons must be > 0 a pixel, got nan"),
        ({"seed": -1}, "seed must be >= 0, got -1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        DemoOptions(**options)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(OSError, match="exists"):
        run_demo(tmp_path / "x", SMALL)
