"""Bright and dead pixels, and rings of ice: found by scaling or masked, and what the map keeps.

What is planted is known observation by observation: those that differ between images with it and
without. A dead pixel among ten good ones changes an observation by less than its noise; what counts
is what changes one by eight standard deviations.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.disturbed import Array, Pixels, ice_rings, write_images
from benchmarks.known_images import Known, judge, make_known, observe
from benchmarks.results import Limit, finish, size_asked
from offbragg.conventions import BoolArray
from offbragg.reduction.observations import Observations
from offbragg.reduction.scaled import scale_observations
from offbragg.reduction.scaled_map import ScaledMap, map_of, scale_to_map, scaling_data

MOST_BIAS, MOST_GOOD_LEFT_OUT, LEAST_FOUND = 0.01, 1e-3, 0.98
# Wedges of 4° see other slices of a voxel, which differ more than noise does: so in a reduced form.
SMALL_GOOD_LEFT_OUT = 2e-3
PLAIN = 8.0
# Of the pixels; powers of ten of their counts, below where the made detector is not trusted.
ZINGERS, BRIGHT = 1e-3, (3.0, 4.7)
DEAD = 8  # pixels along a square, on every fourth image
RINGS = ("4.0-3.8", "3.77-3.57", "3.54-3.34")
MASKED_ABOVE = 900.0
GROUPS = ("P 41 21 2", "P 1 21 1")


def bad_pixels(known: Known, rng: np.random.Generator) -> Callable[[int, Array], Array]:
    """Single bright pixels on every image, a dead square on some."""

    def change(index: int, image: Array) -> Array:
        out = image.copy()
        hit = rng.random(out.shape) < ZINGERS
        out[hit] += (10 ** rng.uniform(*BRIGHT, np.count_nonzero(hit))).astype(np.int64)
        if index % 4 == 0:
            panel = rng.integers(0, out.shape[0])
            y, x = (rng.integers(0, n - DEAD) for n in out.shape[1:])
            out[panel, y : y + DEAD, x : x + DEAD] = 0
        return out

    return change


def ice(known: Known, rng: np.random.Generator, every: int) -> Callable[[int, Array], Array]:
    """Sharp rings, twice as bright as the mean, on every so manieth image."""
    rings = 2.0 * known.photons * ice_rings(Pixels.of(known.experiment))

    def change(index: int, image: Array) -> Array:
        out: Array = image + rng.poisson(rings) if index % every == 0 else image
        return out

    return change


def planted(clean: Observations, changed: Observations) -> tuple[BoolArray, BoolArray]:
    """Observations (n,) that something was planted in, and where it is plain."""
    a, b = clean.columns, changed.columns
    if not (np.array_equal(a["voxel"], b["voxel"]) and np.array_equal(a["wedge"], b["wedge"])):
        raise RuntimeError("observations with and without what is planted are not the same ones")
    change = np.abs(b["intensity"].astype(float) - a["intensity"])
    sigma = np.sqrt(a["variance"].astype(float) + a["one_photon"])
    return change > 1e-6 * (1 + np.abs(a["intensity"])), change > PLAIN * sigma


def left_out(observations: Observations, scaled: ScaledMap) -> BoolArray:
    """Which observations the scaling leaves out."""
    return scale_observations(scaling_data(observations), scaled.scaling).is_outlier


def try_out(
    known: Known, title: str, clean: Observations, changed: Observations, *, rings: bool = False
) -> tuple[list[Limit], str]:
    """Scale, and see what is found, what is lost, and what bias is left.

    Rings go as wholes, with what ice has not touched in them: of those, what is lost of images
    without ice.
    """
    scaled = scale_to_map(changed)
    gone = left_out(changed, scaled)
    bad, plain = planted(clean, changed)
    found = float(np.mean(gone[plain]))
    wedge = clean.columns["wedge"]
    good = ~np.bincount(wedge, bad).astype(bool)[wedge] if rings else ~bad
    lost = float(np.mean(gone[good]))
    data = scaling_data(changed)
    kept = scale_observations(data, scaled.scaling, outlier_probability=0.0)
    before, after = judge(known, map_of(changed, kept)), judge(known, scaled.map)
    limits = [
        Limit(f"{title}: part of planted ones found", found, at_least=LEAST_FOUND),
        Limit(
            f"{title}: part of good ones left out",
            lost,
            at_most=SMALL_GOOD_LEFT_OUT if size_asked() == "small" else MOST_GOOD_LEFT_OUT,
        ),
        Limit(f"{title}: bias of the mean", after.bias, at_most=MOST_BIAS),
        Limit(f"{title}: largest bias of a shell", after.shells, at_most=MOST_BIAS),
    ]
    note = (
        f"{title}: planted in {bad.mean():.2%} of {len(bad)} observations, plain in "
        f"{plain.mean():.2%}; CC {before.cc:.4f} with all, {after.cc:.4f} without outliers; "
        f"largest bias of a shell {before.shells:.4f} and {after.shells:.4f}; "
        f"{np.mean(gone & ~bad):.2%} of all are good ones left out"
    )
    return limits, note


def masked(
    known: Known, title: str, folder: Path, images: Any, **options: Any
) -> tuple[list[Limit], str]:
    """Mask, scale, and see what bias is left."""
    scaled = scale_to_map(observe(known, images, folder, **options))
    found = judge(known, scaled.map)
    limits = [
        Limit(f"{title}: bias of the mean", found.bias, at_most=MOST_BIAS),
        Limit(f"{title}: largest bias of a shell", found.shells, at_most=MOST_BIAS),
    ]
    return limits, f"{title}: CC {found.cc:.4f}, {scaled.figures['n_outliers']} outliers"


def run(group: str, folder: Path, *, small: bool) -> list[tuple[list[Limit], str]]:
    """Plant each, and remove it by scaling and by masks."""
    known = make_known(group, folder, small=small)
    rng = np.random.default_rng(2)
    clean = observe(known, known.experiment, folder)
    found = []
    bad = write_images(known.experiment, folder / "bad.h5", bad_pixels(known, rng))
    found.append(try_out(known, f"{group}, bad pixels", clean, observe(known, bad, folder)))
    if small:
        return found
    found.append(
        masked(known, f"{group}, bright pixels masked", folder, bad, overload=MASKED_ABOVE)
    )
    some = write_images(known.experiment, folder / "some.h5", ice(known, rng, 6))
    title = f"{group}, ice on every sixth image"
    found.append(try_out(known, title, clean, observe(known, some, folder), rings=True))
    every = write_images(known.experiment, folder / "every.h5", ice(known, rng, 1))
    found.append(masked(known, f"{group}, ice masked", folder, every, mask_rings=RINGS))
    return found


def main() -> None:
    """Both groups; reduced, bad pixels in the one of high symmetry."""
    small = size_asked() == "small"
    limits: list[Limit] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        for group in GROUPS[:1] if small else GROUPS:
            for new, note in run(group, Path(name) / group.replace(" ", ""), small=small):
                limits += new
                notes.append(note)
                sys.stdout.write(f"  {note}\n")
                sys.stdout.flush()
    finish(limits, [], cases=notes)  # said as they came


if __name__ == "__main__":
    main()
