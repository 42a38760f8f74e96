"""Which corrections a reduction made, which not, and why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offbragg.reduction.bragg_mask import BRAGG_RADIUS
from offbragg.reduction.options import CORRECTIONS

_FOR = {
    "solid-angle": "pixels farther out, or at a slant, see less of what is scattered",
    "polarization": "a polarised beam scatters less along its polarisation",
    "absorption": "a sensor stops more of the rays that come at a slant",
    "air": "air between crystal and detector takes some away",
    "parallax": "rays at a slant are stopped deeper, and so counted in another pixel",
    "dark": "what the detector counts without a beam",
    "flat-field": "pixels that count more or less than others",
    "exposure": "images of different exposure times",
    "flux": "images of different flux or transmission",
}
_WHY_NOT = {
    "absorption": "thickness and material of the sensor are not in the experiment",
    "air": "there is no air on the way (--air-fraction 0)",
    "parallax": "the geometry was refined without it",
    "dark": "no file was given (--dark)",
    "flat-field": "no file was given (--flat-field)",
    "exposure": "the experiment has no exposure times",
    "flux": "no file was given (--flux)",
}


def corrections_table(step: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of name, yes or no, and why, from a map's step; background and Bragg peaks last."""
    options = step.get("options", {})
    made, asked = step.get("corrections", ()), options.get("corrections", CORRECTIONS)
    rows = []
    for name in CORRECTIONS:
        if name in made:
            rows.append((name.replace("-", " "), "yes", _FOR[name]))
        elif name not in asked:
            rows.append((name.replace("-", " "), "no", "switched off (--corrections)"))
        else:
            rows.append((name.replace("-", " "), "no", _WHY_NOT.get(name, "nothing to apply")))
    background = options.get("background") or []
    rows.append(
        ("background", "yes", f"images without the crystal were subtracted, "
         f"{options.get('background_model', '')} model")
        if background
        else ("background", "no", "no images without the crystal were given (--background)")
    )  # fmt: skip
    rows.append(_bragg(options, step))
    return rows


def _bragg(options: Mapping[str, Any], step: Mapping[str, Any]) -> tuple[str, str, str]:
    kind = options.get("bragg", "exclude")
    if kind == "keep":
        return ("Bragg peaks", "no", "they were kept (--bragg keep)")
    if kind == "only":
        return ("Bragg peaks", "no", "they alone were kept (--bragg only)")
    if kind == "exclude":
        unit = "Å⁻¹" if options.get("bragg_radius_unit") == "1/angstrom" else "of a lattice unit"
        radius = options.get("bragg_radius")
        sphere = f"within {BRAGG_RADIUS if radius is None else radius:g} {unit} of a node"
        fitted = f"within {options.get('bragg_sigmas', 0):g} σ of the fitted shape of spots"
        shapes, n_sweeps = len(step.get("spot_shapes", ())), len(step.get("sweeps", ()))
        near = fitted if shapes else sphere
        if 0 < shapes < n_sweeps:
            near = f"{fitted} ({shapes} of {n_sweeps} sweeps) or {sphere}"
        return ("Bragg peaks", "yes", f"pixels {near} were left out")
    return ("Bragg peaks", "yes", f"by what stands out in the images (--bragg {kind})")
