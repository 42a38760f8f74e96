"""Draw the README's picture: a measured map and the model fitted to it (needs ../shared/data).

    python docs/make_figures.py

prints the figures that the README quotes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from offbragg import LiquidLike, compare, fit, import_map, merge, read_structure
from offbragg.maps.symmetrize import apply_operation
from offbragg.plotting import draw_sections

HERE = Path(__file__).resolve().parent
SNASE = HERE.parents[1] / "shared" / "data" / "snase"
LIMITS = {"d_max": 10.0, "d_min": 1.65}


def main() -> None:
    """Fit liquid-like motions of 4WOR to the measured map of staphylococcal nuclease."""
    structure = read_structure(SNASE / "model" / "4wor.pdb").select("not water")
    cell = (48.46, 48.46, 63.43, 90.0, 90.0, 90.0)
    measured = import_map(SNASE / "maps" / "snc.wmpn.lat", cell=cell, space_group="P 41")
    observed = merge(measured, laue_group="4/m").map
    found = fit(observed, structure, LiquidLike(0.45, 12.0), **LIMITS)
    for name, p in found.parameters.items():
        sys.stdout.write(f"{name}: {p.value:.3f} ± {p.standard_error:.3f} {p.unit}\n")
    control = apply_operation(observed, "k,h,l")
    for name, other in (("map", observed), ("wrongly indexed map", control)):
        cc = compare(other, found.model_map, **LIMITS).overall.cc
        sys.stdout.write(f"CC of the anisotropic parts, model and {name}: {cc:.3f}\n")
    held_out = found.statistics["held_out"]["cc_anisotropic"]
    sys.stdout.write(f"on held-out blocks: {held_out:.3f}\n{found.message}\n")
    figure = draw_sections({"measured": observed, "model": found.model_map})
    figure.savefig(HERE / "images" / "nuclease.png", dpi=80)


if __name__ == "__main__":
    main()
