"""The command `mask`: a file that `map` reads, a picture, and what it must refuse."""

import h5py
import numpy as np
import pytest
from matplotlib.image import imread
from numpy.testing import assert_array_equal

from offbragg.made_crystal import make_experiment
from offbragg.reduction.dials_writer import write_experiments

N_IMAGES = 8
CELL = (20.0, 24.0, 22.0, 90.0, 100.0, 90.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An experiment of eight images, with a hot pixel on one of its two panels."""
    out = tmp_path_factory.mktemp("mask")
    experiment = make_experiment(CELL, d_min=3.0, n_images=N_IMAGES, n_pixels=64)
    shape = (N_IMAGES, len(experiment.detector), *experiment.detector[0].shape)
    counts = np.random.default_rng(0).poisson(3.0, shape).astype(np.uint16)
    counts[:, 1, 30, 20] += 500
    with h5py.File(out / "images.h5", "w") as file:
        file["entry/data/data"] = counts
    write_experiments(out / "made.expt", experiment.with_images(out / "images.h5"))
    (out / "shapes.json").write_text('[{"kind": "circle", "panel": 0, "numbers": [5, 6, 3]}]')
    return out


def test_the_mask_is_written_and_used(call, folder, tmp_path):
    made = call("mask", folder / "made.expt", "-o", tmp_path / "m.npy", "--hot-pixels",
                "--mask-shapes", folder / "shapes.json", "--mask-rings", "9-8", "5-4.9",
                "--json").json  # fmt: skip
    assert made["outputs"] == {"mask": str(tmp_path / "m.npy"), "picture": str(tmp_path / "m.png")}
    result = made["result"]
    assert result["reasons"]["hot"] == 1
    assert result["reasons"]["dead"] == 0
    assert result["reasons"]["rings"] > 0
    mask = np.load(tmp_path / "m.npy")
    assert mask.dtype == bool
    assert (mask.sum(), mask.size) == (result["n_excluded"], result["n_pixels"])
    assert mask[1, 30, 20]
    assert imread(tmp_path / "m.png").shape[1] > 300
    common = (folder / "made.expt", "--d-min", 3, "--bragg", "keep")
    used = call("map", *common, "-o", tmp_path / "a.h5", "--mask", tmp_path / "m.npy", "--json")
    same = call("map", *common, "-o", tmp_path / "b.h5", "--hot-pixels", "--mask-shapes",
                folder / "shapes.json", "--mask-rings", "9-8", "5-4.9", "--json")  # fmt: skip
    assert used.json["result"] == same.json["result"]


def test_a_mask_without_images(call, folder, tmp_path):
    # Where there are none the picture has none; only hot pixels need them.
    gone = ("mask", folder / "made.expt", "-o", tmp_path / "m.png", "--images", tmp_path / "no.h5")
    made = call(*gone)
    assert made.code == 0, made.err
    assert "experiment" in made.out
    assert_array_equal(np.load(tmp_path / "m.npy"), False)
    failed = call(*gone, "--hot-pixels")
    assert failed.code == 1
    assert "no.h5: no such file" in failed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("made.expt", "-o", "m.tif"), "--output must end in .npy or .png, got m.tif"),
        (("-o", "m.npy"), "mask needs at least one .expt file"),
        (("made.expt", "-o", "m.npy", "--mask-rings", "ice"), "mask_rings must be ranges of d"),
        (("made.expt", "-o", "m.npy", "--mask-shapes", "no.json"), "no.json: no such file"),
        (("made.expt", "-o", "no/m.npy"), "folder"),
    ],
)
def test_what_is_refused(call, folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    failed = call("mask", *arguments)
    assert failed.code in (1, 2)
    assert message in failed.err
    assert failed.err.count("\n") == 1
