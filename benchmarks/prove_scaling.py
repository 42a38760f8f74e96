"""Images of a known map, disturbed, scaled and merged: the map against the truth.

Beam, absorption, detector, its chips and air, each by itself and most together. Beside each map
stands that of as many photons without a disturbance.

Not asked for, because equivalents do not tell: what depends on resolution alone, of factors (all
images together are brought to one mean at each resolution) and of what is added (air is 0 at the
angle of least); and the scale.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.disturbed import (
    CHIPS,
    Array,
    Pixels,
    absorbing_crystal,
    air,
    drifting_beam,
    seen_fractions,
    uneven_chips,
    uneven_detector,
    write_images,
)
from benchmarks.known_images import Known, judge, make_known, observe
from benchmarks.results import Limit, finish, size_asked
from offbragg.reduction.scaled_map import ScaledMap, scale_to_map
from offbragg.reduction.standard_scaling import SCALINGS, ScalingOptions

MOST_BIAS, MOST_SLOPE = 0.01, 0.02
LEAST_CC, MOST_R = 0.99, 1.1  # over those of undisturbed images
GROUPS = ("P 41 21 2", "P 1 21 1")

#: Name, what takes photons away, and whether air is seen.
Case = tuple[str, list[Callable[[Pixels, float], Array]], bool]
CASES: tuple[Case, ...] = (
    ("beam", [drifting_beam], False),
    ("absorption", [absorbing_crystal], False),
    ("detector", [uneven_detector], False),
    ("chips", [uneven_chips], False),
    ("air", [], True),
    ("all", [drifting_beam, absorbing_crystal, uneven_detector], True),
)


def disturb(known: Known, case: Case, folder: Path) -> tuple[ScaledMap, ...]:
    """Scaled maps of disturbed images, and of undisturbed ones of as many photons."""
    name, losses, has_air = case
    rng = np.random.default_rng(1)
    pixels = Pixels.of(known.experiment)
    angles = known.experiment.angles().mean(axis=1)
    seen = seen_fractions(known.experiment, losses)
    level = float(seen.mean(dtype=np.float64))

    def disturbed(index: int, image: Array) -> Array:
        out: Array = rng.binomial(image, seen[index])
        if not has_air:
            return out
        turned = float(angles[index])
        # Air is lit by the same beam and seen by the same detector; no crystal absorbs it.
        shared = [loss for loss in losses if loss is not absorbing_crystal]
        factor = np.exp(sum(loss(pixels, turned) for loss in shared))
        return out + rng.poisson(level * known.photons * factor * air(pixels, turned))

    found = []
    for change in (disturbed, lambda _, image: rng.binomial(image, level)):
        path = folder / f"{name}.h5"
        images = write_images(known.experiment, path, change)
        asked: dict[str, Any] = {"chips": CHIPS} if uneven_chips in losses else {}
        corrections = (*SCALINGS, "chip") if asked else SCALINGS
        observations = observe(known, images, folder, **asked)
        found.append(scale_to_map(observations, ScalingOptions(corrections=corrections)))
        path.unlink()
    return tuple(found)


def judge_case(known: Known, case: Case, folder: Path, *, small: bool) -> tuple[list[Limit], str]:
    """Limits of one disturbance, and what else there is to say."""
    scaled, steady = disturb(known, case, folder)
    now, best = judge(known, scaled.map), judge(known, steady.map)
    title = f"{known.name}, {case[0]}"
    before, after, noise = (
        scaled.figures["r_meas_before"],
        scaled.figures["r_meas_after"],
        steady.figures["r_meas_before"],
    )
    wider = 3.0 if small else 1.0  # few observations
    limits = [
        Limit(f"{title}: bias of the mean", now.bias, at_most=wider * MOST_BIAS),
        Limit(f"{title}: largest bias of a shell", now.shells, at_most=wider * MOST_BIAS),
        Limit(f"{title}: slope - 1", abs(now.slope - 1), at_most=wider * MOST_SLOPE),
        Limit(f"{title}: CC over that of undisturbed", now.cc / best.cc, at_least=LEAST_CC),
        Limit(f"{title}: R_meas over noise's", after / noise, at_most=MOST_R),
    ]
    note = (
        f"{title}: R_meas {before:.4f} to {after:.4f}, of noise {noise:.4f}; CC {now.cc:.4f}, "
        f"undisturbed {best.cc:.4f}; residual / sigma spreads by {now.spread:.2f}, undisturbed "
        f"{best.spread:.2f}; largest bias of a shell {now.shells:.4f}, undisturbed "
        f"{best.shells:.4f}"
    )
    return limits, note


def main() -> None:
    """All disturbances in two groups; reduced, air alone in one."""
    small = size_asked() == "small"
    limits: list[Limit] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        for group in GROUPS[:1] if small else GROUPS:
            folder = Path(name) / group.replace(" ", "")
            known = make_known(group, folder, small=small)
            for case in [c for c in CASES if c[0] == "all"] if small else CASES:
                found, note = judge_case(known, case, folder, small=small)
                limits += found
                notes.append(note)
                sys.stdout.write(f"  {note}\n")
                sys.stdout.flush()
    finish(limits, [], cases=notes)  # said as they came


if __name__ == "__main__":
    main()
