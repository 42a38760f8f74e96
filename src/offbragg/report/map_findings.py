"""What a reader should know of a map before using it, in plain words.

Every rule takes the facts of a map and gives what it has to say, or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from offbragg.conventions import FloatArray
from offbragg.report.coverage_findings import told_completeness
from offbragg.report.facts import MapFacts
from offbragg.report.findings import Finding, good, gravest_first, remark, warning
from offbragg.report.symmetry_findings import told_errors, told_friedel, told_symmetry

# CC½ where the whole map has as much noise as signal (1/3 by its formula), and no signal to speak
# of.
_AS_MUCH_NOISE, _NOISE = 0.33, 0.1
_WEAK = 0.5  # variations over their errors
_MANY_OUTLIERS, _WIDE_SCALE, _INFLATED = 0.02, 2.0, 2.0
# Corrections without which intensities at high angles are wrong by tens of per cent.
_NEEDED = ("solid-angle", "polarization")


def map_findings(facts: MapFacts) -> list[Finding]:
    """Everything that the rules say of a map, gravest first."""
    if facts.is_difference:
        return told_difference(facts)
    return gravest_first([finding for rule in RULES for finding in rule(facts)])


def told_difference(facts: MapFacts) -> list[Finding]:
    """Differences of Friedel mates are no intensities."""
    return [
        remark(
            "This is a difference map, of a Friedel split: its values are I(hkl) − I(−h −k −l), "
            "not intensities. The map of their means goes with it. Statistics below are of the "
            "map before it was split."
        )
    ]


def told_origin(facts: MapFacts) -> list[Finding]:
    """A map of a model, and one whose making is not known, say so."""
    commands = [str(step.get("command")) for step in facts.map.provenance]
    if facts.is_measured:
        return [] if commands else [remark("The file does not say how this map was made.")]
    if facts.is_model and commands[-1] != "simulate":
        return [remark("This map was made by a fit; the measured map is another file.")]
    if facts.is_model:
        return [
            remark(
                "This map was computed from a structure and a model of its motions: nothing in it "
                "is measured."
            )
        ]
    return [
        warning(
            "The map has no standard errors, pixel counts or half maps: nothing says how well it "
            "was measured."
        )
    ]


def told_halves(facts: MapFacts) -> list[Finding]:
    """Where the signal ends, by maps of two random halves of the images."""
    if not facts.is_measured:
        return []
    columns = facts.shells.get("cc_half_anisotropic")
    if columns is None:
        return [
            warning(
                "There are no maps of random halves of the images: CC½ cannot be given, and "
                "nothing says at which resolution the signal ends."
            )
        ]
    values = np.array(columns, dtype=np.float64)
    if not np.any(np.isfinite(values)):
        return [remark("The half maps have no voxels in common: CC½ cannot be given.")]
    overall = facts.figure("cc_half_anisotropic")
    noise, weak = _ends_at(values, _NOISE), _ends_at(values, _AS_MUCH_NOISE)
    begins = facts.shells["d_max"]
    name = "CC½ of the variations with direction"
    if noise == 0:
        return [
            warning(
                f"{name} is {overall:.2f}, and below {_NOISE} at every resolution: beyond the mean "
                "intensity the map is noise."
            )
        ]
    found = []
    if noise is not None:
        found.append(
            warning(
                f"{name} falls below {_NOISE} beyond {begins[noise]:.2f} Å: what is there is noise."
            )
        )
    if weak == 0:
        found.append(
            remark(
                f"{name} is {overall:.2f} overall, and below {_AS_MUCH_NOISE} at every resolution: "
                "a single voxel has more noise than signal. Fits average over many."
            )
        )
    elif weak is not None and weak != noise:
        found.append(
            remark(
                f"{name} is {overall:.2f} overall and falls below {_AS_MUCH_NOISE} beyond "
                f"{begins[weak]:.2f} Å: there a single voxel has more noise than signal."
            )
        )
    lowest = float(np.nanmin(values))
    return found or [good(f"{name} is {overall:.2f} overall and at least {lowest:.2f} per shell.")]


def _ends_at(values: FloatArray, limit: float) -> int | None:
    """First shell from which on all known values are below a limit; None where the last is not."""
    known = np.flatnonzero(np.isfinite(values))
    above = known[values[known] >= limit]
    if len(above) and above[-1] == known[-1]:
        return None
    return int(above[-1] + 1) if len(above) else 0


def told_signal(facts: MapFacts) -> list[Finding]:
    """Variations that are smaller than their errors."""
    ratio = facts.figure("variation_over_sigma")
    if not (facts.is_measured and ratio < _WEAK):
        return []
    return [
        warning(
            f"Variations with direction are {ratio:.2f} of their standard errors: the map says "
            "little beyond its mean at each resolution."
        )
    ]


def told_background(facts: MapFacts) -> list[Finding]:
    """Mean intensities below 0, where more was taken off than there was."""
    if not facts.is_measured:
        return []
    below = np.flatnonzero(np.array(facts.shells["mean_intensity"], dtype=np.float64) < 0)
    if not len(below):
        return []
    begin, end = facts.shells["d_max"][below[0]], facts.shells["d_min"][below[-1]]
    return [
        warning(
            f"The mean intensity is below 0 between {begin:.2f} and {end:.2f} Å: too much "
            "background was taken off."
        )
    ]


def told_scaling(facts: MapFacts) -> list[Finding]:
    """Whether it was scaled, and how that went."""
    step = facts.step("scale")
    if step is None:
        if facts.step("map") is None:
            return []
        return [
            remark(
                "No scaling was done: changes of the beam, absorption in the crystal and radiation "
                "damage are left in."
            )
        ]
    figures: Mapping[str, Any] = step.get("figures", {})
    found = []
    if not step.get("options", {}).get("corrections", True):
        found.append(remark("Outliers were left out, but nothing was scaled."))
    elif not figures.get("converged", True):
        found.append(warning("The scaling has not converged: its factors may be off."))
    n, n_out = figures.get("n_observations") or 0, figures.get("n_outliers") or 0
    if n and n_out > _MANY_OUTLIERS * n:
        found.append(
            warning(
                f"{100 * n_out / n:.1f} % of the observations were left out as outliers: look for "
                "ice, hot pixels or a second crystal."
            )
        )
    inflation = figures.get("inflation") or 1.0
    if inflation > _INFLATED:
        found.append(
            remark(
                f"Observations scatter {inflation:.1f} times as much as counting explains; the "
                "standard errors were enlarged accordingly."
            )
        )
    swing = max((_swing(curve) for curve in step.get("curves", ())), default=1.0)
    if swing > _WIDE_SCALE:
        found.append(
            remark(
                f"The scale changes by a factor of {swing:.1f} during the rotation: the beam, how "
                "much of the crystal is in it, or radiation damage."
            )
        )
    return found


def _swing(curve: Mapping[str, Any]) -> float:
    """Largest over smallest value of a curve of the scale; 1 of another."""
    return max(curve["mean"]) / min(curve["mean"]) if curve["name"] == "scale" else 1.0


def told_reduction(facts: MapFacts) -> list[Finding]:
    """What of the reduction is unusual: Bragg peaks left in, corrections off, images not there."""
    step = facts.step("map")
    if step is None:
        return []
    found = []
    bragg = step.get("options", {}).get("bragg")
    if bragg in ("keep", "only"):
        what = "are" if bragg == "keep" else "alone are"
        found.append(
            warning(
                f"Bragg peaks {what} in this map (--bragg {bragg}): it is not one of diffuse "
                "scattering."
            )
        )
    for name in _NEEDED:
        if name not in step.get("corrections", _NEEDED):
            found.append(
                warning(
                    f"The correction for {name.replace('-', ' ')} was not made: intensities at "
                    "high angles may be wrong by tens of per cent."
                )
            )
    for number, sweep in enumerate(step.get("images", ()), start=1):
        came = sweep.get("n_came")
        if came is not None and came < sweep["n_images"]:
            found.append(
                warning(f"Of sweep {number} only {came} of {sweep['n_images']} images had come.")
            )
    return found


#: In the order in which they are told, within a level.
RULES = (
    told_origin, told_completeness, told_symmetry, told_errors, told_halves, told_signal,
    told_scaling, told_reduction, told_background, told_friedel,
)  # fmt: skip
