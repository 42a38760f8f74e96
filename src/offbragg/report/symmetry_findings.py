"""Whether the symmetry of a map holds, and whether its errors explain what equivalents differ by.

Friedel mates agree in any crystal, but for an anomalous signal: what they correlate by is what
noise permits, and what every operation of the right group should reach.
"""

from __future__ import annotations

import math

import numpy as np

from offbragg.report.facts import MapFacts
from offbragg.report.findings import Finding, good, remark, warning

# Correlation of equivalents over what is expected of them: as good; and that of a group twice too
# high, in which nearly half of the pairs still agree.
_HOLDS, _BROKEN = 0.75, 0.55
# With fewer pairs, or a lower correlation of mates, nothing is said.
_FEW_PAIRS, _NO_SIGNAL = 200, 0.05
# Standard errors that a difference must have.
_SURE = 3.0
# Differences of equivalents over their standard errors that are more than counting.
_BEYOND_ERRORS, _FAR_BEYOND = 1.5, 3.0


def symmetry_yardstick(facts: MapFacts) -> tuple[float, float, float] | None:
    """What equivalents correlate by, what Friedel mates let expect, and the difference's error.

    None: there is nothing to tell by.

    Of an unmerged map the worst operation and the inversion, voxel by voxel. Of a merged one the
    figures that were stored: with S the variance of the signal and N that of a voxel's noise,
    mates that are means over m/2 voxels correlate by S/(S + 2N/m), single equivalents by S/(S + N).
    """
    mates = [row for row in facts.operations if row.is_friedel and row.n_pairs >= _FEW_PAIRS]
    others = [row for row in facts.operations if not row.is_friedel and row.n_pairs >= _FEW_PAIRS]
    if mates and others:
        worst, mate_row = min(others, key=lambda row: row.cc_anisotropic), mates[0]
        found, expected = worst.cc_anisotropic, mate_row.cc_anisotropic
        # Pairs are counted in both orders.
        errors = [_error(found, worst.n_pairs / 2), _error(expected, mate_row.n_pairs / 2)]
        return found, expected, math.hypot(*errors)
    if facts.map.laue_group is None:
        return None
    m, mate = facts.figure("multiplicity"), facts.figure("cc_friedel_anisotropic")
    found = facts.figure("cc_equivalents_anisotropic")
    enough = facts.figure("n_friedel") >= _FEW_PAIRS and facts.figure("n_pairs") >= _FEW_PAIRS
    if not (enough and np.isfinite([found, mate, m]).all()):
        return None
    expected = 1.0 / (1.0 + (1.0 / max(mate, 1e-6) - 1.0) * max(m, 2.0) / 2.0)
    errors = [_error(found, facts.figure("n_unique")), _error(mate, facts.figure("n_friedel"))]
    return found, expected, math.hypot(*errors)


def _error(correlation: float, n: float) -> float:
    """Standard error of a correlation of n independent pairs."""
    return float((1.0 - correlation**2) / np.sqrt(max(n, 1.0)))


def told_symmetry(facts: MapFacts) -> list[Finding]:
    """Whether equivalents agree as well as Friedel mates."""
    if facts.is_model:
        return []
    r_int, group = facts.figure("r_int"), facts.group
    if not facts.has_symmetry:
        return [
            remark(
                f"In the group {group} only Friedel mates are equivalent: there is no symmetry of "
                "the crystal to test."
            )
        ]
    measures = symmetry_yardstick(facts)
    if measures is None:
        return [
            remark(f"Whether the symmetry {group} holds cannot be told: too few Friedel mates.")
        ]
    found, expected, error = measures
    if not expected >= _NO_SIGNAL:
        return [
            remark(f"Whether the symmetry {group} holds cannot be told: even Friedel mates differ.")
        ]
    beside = (
        f"correlate by {found:.2f}, where Friedel mates make {expected:.2f} expected; R_int is "
        f"{r_int:.3f}"
    )
    if found >= _HOLDS * expected:
        return [good(f"The symmetry {group} holds: variations at equivalent voxels {beside}.")]
    if expected - found < _SURE * error:
        return [
            remark(
                f"Whether the symmetry {group} holds is not sure: variations at equivalent voxels "
                f"{beside}. There are few pairs."
            )
        ]
    if found >= _BROKEN * expected:
        return [
            remark(
                f"The symmetry {group} holds in part: variations at equivalent voxels {beside}. "
                "Errors of scale or absorption do that; so does a group that is too high."
            )
        ]
    scaled = facts.step("scale") is not None or facts.step("map") is None
    first = "C" if scaled else "Nothing was scaled: do that first, then c"
    return [
        warning(
            f"Equivalents disagree: under {group} variations {beside}. {first}heck the space "
            "group and the indexing."
        )
    ]


def told_errors(facts: MapFacts) -> list[Finding]:
    """Whether equivalents differ by more than their standard errors."""
    ratio = facts.figure("equivalents_over_sigma")
    if not (facts.is_measured and ratio > _BEYOND_ERRORS):
        return []
    say = warning if ratio > _FAR_BEYOND else remark
    cure = "" if facts.step("scale") else " Scaling (map --scaling standard) may mend it."
    return [
        say(
            f"Equivalents differ by {ratio:.1f} times what their standard errors explain: the "
            f"errors are too small by about that.{cure}"
        )
    ]


def told_friedel(facts: MapFacts) -> list[Finding]:
    """Friedel mates that are apart, or that differ by an anomalous signal."""
    if facts.map.friedel == "apart":
        return [
            remark(
                "Friedel mates, hkl and −h −k −l, are kept apart: they may differ by anomalous "
                "scattering."
            )
        ]
    signal, noise = facts.figure("anomalous_over_sigma"), facts.figure("equivalents_over_sigma")
    if signal > _BEYOND_ERRORS * max(1.0, noise) and facts.figure("cc_half_anomalous") > 0.3:
        return [
            remark(
                f"Friedel mates differ by {signal:.1f} times their standard errors, more than "
                "other equivalents do: an anomalous signal. merge --friedel split keeps it."
            )
        ]
    return []
