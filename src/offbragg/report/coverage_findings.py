"""How complete a map is, and what shape is missing: a wedge, a cone, a shell, a hole."""

from __future__ import annotations

import numpy as np

from offbragg.maps.coverage import Coverage
from offbragg.report.facts import MapFacts, is_rotation_axis, name_axis
from offbragg.report.findings import Finding, good, remark, warning

# Complete, but for what lies under a beam stop; so incomplete that fits and transforms suffer.
_COMPLETE, _INCOMPLETE = 0.98, 0.9
# Of the directions, without a plain shape, that are worth a sentence.
_SCATTERED = 0.03
# A shape that explains less than this of what is missing is only about so large.
_SHARP = 0.75


def told_completeness(facts: MapFacts) -> list[Finding]:
    """How much of the sphere is measured, and where the rest is."""
    complete, coverage = facts.figure("completeness"), facts.coverage
    if coverage is None or not np.isfinite(complete):
        return []
    to = f"to {coverage.d_min:.2f} Å, with equivalents under {facts.group} filled in"
    missing = _missing_parts(facts, coverage)
    if complete >= _COMPLETE:
        return [good(" ".join([f"The map is {100 * complete:.1f} % complete {to}.", *missing]))]
    say = warning if complete < _INCOMPLETE else remark
    where = " ".join(missing) or "What is missing lies here and there, in no plain shape."
    return [say(f"The map is {100 * complete:.0f} % complete {to}. {where}")]


def _missing_parts(facts: MapFacts, coverage: Coverage) -> list[str]:
    """What is missing, a sentence each."""
    parts = [_shape(facts, coverage)] if 1 - coverage.directions > _SCATTERED else []
    if coverage.hole_d is not None:
        parts.append(f"It begins at {coverage.hole_d:.1f} Å; nothing nearer the beam is in it.")
    if coverage.outer_d is not None:
        share = 100 * (coverage.outer_covered or 0.0)
        parts.append(
            f"Beyond {coverage.outer_d:.2f} Å only {share:.0f} % is there, as in the corners of a "
            "detector."
        )
    if coverage.nodes is not None and coverage.nodes < 0.5 * coverage.between:
        n = int(np.prod(facts.map.grid.sampling))
        parts.append(
            f"The voxels on Bragg peaks, one in {n}, are left out, as they should be where peaks "
            "were excluded."
        )
    return parts


def _shape(facts: MapFacts, coverage: Coverage) -> str:
    """The directions that are missing."""
    shape = coverage.shape
    if shape is None:
        share = 100 * (1 - coverage.directions)
        return f"{share:.0f} % of the directions are missing, in no plain shape."
    axis, is_axis = name_axis(shape.axis, facts), is_rotation_axis(shape.axis, facts)
    size = f"about {shape.angle:.0f}°" if shape.explained < _SHARP else f"{shape.angle:.0f}°"
    if shape.kind == "cone":
        what = f"A cone of {size} around {axis}, both ways, is missing"
        why = "the blind region along the rotation axis; a sweep about another axis would fill it"
    else:
        times = {1: "", 2: ", with the one opposite,"}.get(shape.n, f", {shape.n} times around,")
        what = f"A wedge of {size} about {axis}{times} is missing"
        why = "the crystal did not turn far enough about its rotation axis"
    if is_axis is None:
        return f"{what}. That may be {why}."
    return f"{what}: {why if is_axis else 'neither the sweeps nor the symmetry reach it'}."
