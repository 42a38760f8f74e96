"""The report of a map: what was measured, how well it agrees with itself, and pictures of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from offbragg.maps.column_names import ANISOTROPIC, MEANINGS, column_groups, short_name
from offbragg.plotting import SectionOptions, draw_profiles, draw_sections
from offbragg.plotting.reduction_figures import draw_scaling, draw_statistics
from offbragg.report.corrections_table import corrections_table
from offbragg.report.facts import MapFacts, angle_between
from offbragg.report.history import add_history
from offbragg.report.page import Page

_PLANES = {"hk": "hk0", "hl": "h0l", "kl": "0kl"}


def add_map(page: Page, facts: MapFacts) -> None:
    """Add everything that a map's file tells, in the order of the work.

    What its file does not hold is left out.
    """
    add_measurement(page, facts)
    add_symmetry(page, facts)
    add_scaling(page, facts)
    add_statistics(page, facts)
    add_pictures(page, facts)
    add_history(page, facts.map.provenance)


def add_measurement(page: Page, facts: MapFacts) -> None:
    """Add cell, sampling and resolution; of a reduction the sweeps and the corrections."""
    grid = facts.map.grid
    page.heading("What is in it" if facts.step("map") is None else "What was measured")
    rows: list[tuple[str, object]] = [
        ("unit cell", str(grid.cell)),
        ("space group", facts.map.space_group),
        ("merged by", facts.map.laue_group or "not merged"),
        ("voxels per reciprocal-lattice unit", " × ".join(str(n) for n in grid.sampling)),
        ("highest resolution", f"{facts.about['d_min']:.3g} Å"),
        ("voxels with a value", f"{int(facts.map.measured.sum()):,}".replace(",", " ")),
    ]
    if facts.coverage is not None:
        rows.append(("completeness", f"{100 * facts.figure('completeness'):.1f} %"))
    page.table(("", "value"), rows, "The map")
    sweeps = facts.sweeps()
    if sweeps:
        page.table(
            ("sweep", "wavelength (Å)", "rotation (°)", "per image (°)", "axis", "detector",
             "distance (mm)", "exposure (s)"),
            [_sweep_row(n, sweep, facts) for n, sweep in enumerate(sweeps, start=1)],
            "Sweeps",
            {
                "rotation": "where the crystal's rotation began and ended",
                "axis": "the rotation axis, by its angles with a*, b* and c*",
                "detector": "panels, pixels of each and their size",
                "distance": "from the crystal to the first panel's plane",
            },
        )  # fmt: skip
    for step in facts.map.provenance:
        if step.get("command") == "map":
            _add_corrections(page, step)


def _sweep_row(number: int, sweep: Any, facts: MapFacts) -> tuple[object, ...]:
    stars = facts.map.cell.frac_matrix
    axis = [float(x) for x in sweep["axis_hkl"]] @ stars
    width = sweep["width_deg"]
    turned = f"{sweep['first_deg']:g} to {sweep['last_deg']:g}"
    return (
        number,
        f"{sweep['wavelength']:.4f}",
        turned if width else "stills",
        f"{width:g}",
        ", ".join(f"{angle_between(axis, star):.0f}°" for star in stars),
        f"{sweep['n_panels']} × {sweep['pixels'][0]} × {sweep['pixels'][1]}, "
        f"{sweep['pixel_size_mm'][0]:g} mm",
        f"{sweep['distance_mm']:.1f}",
        sweep["exposure_time"],
    )


def _add_corrections(page: Page, step: Any) -> None:
    page.table(
        ("correction", "made", "for what, or why not"),
        corrections_table(step),
        "Corrections of the counts",
    )
    masked = [m for m in step.get("masked_pixels") or () if len(m) > 1]
    if masked:
        names = [name for name in masked[0] if name != "experiment"]
        page.table(
            ("sweep", *names),
            [(m["experiment"] + 1, *(m.get(name) for name in names)) for m in masked],
            "Pixels excluded on all images",
        )


def add_symmetry(page: Page, facts: MapFacts) -> None:
    """Add the agreement of equivalents, operation by operation where the map is not merged."""
    if not facts.operations:
        return
    page.heading("Does the symmetry hold?")
    page.table(
        ("operation", "hkl goes to", "pairs", "correlation", "R"),
        [(x.kind, x.hkl, x.n_pairs, x.cc_anisotropic, x.r) for x in facts.operations],
        f"Voxels against their equivalents under {facts.group}, operation by operation",
        {
            "correlation": "of the variations with direction: the mean of each shell of "
            "resolution is taken off, which is the same in all directions",
            "R": "Σ|I − I′| / Σ(|I| + |I′|) of the whole intensity",
            "Friedel mates": "agree in every crystal, but for anomalous scattering: what they "
            "correlate by is as much as noise permits, and an operation that is a symmetry of "
            "the crystal reaches about the same",
        },
        even=True,
    )


def add_scaling(page: Page, facts: MapFacts) -> None:
    """Add what scaling did: curves, and agreement before and after."""
    step = facts.step("scale")
    if step is None:
        return
    page.heading("Scaling")
    figures = step.get("figures", {})
    words = {
        "n_observations": "observations (a voxel in a wedge of images)",
        "n_outliers": "outliers left out",
        "r_meas_before": "R_meas before",
        "r_meas_after": "R_meas after",
        "inflation": "scatter over what counting explains",
        "fraction": "errors that grow with intensity, as a share of it",
        "converged": "converged",
    }
    page.table(
        ("", "value"),
        [
            (text, "yes" if value is True else "no" if value is False else value)
            for name, text in words.items()
            if (value := figures.get(name)) is not None
        ],
        "What scaling came to",
        {"R_meas": "mean relative difference of equivalents, before they are averaged in voxels"},
    )
    curves = step.get("curves") or []
    if curves:
        page.figure(
            draw_scaling(curves),
            "The corrections that scaling found. A factor of 1 or an offset of 0 changes nothing. "
            "Lines: means; bands: from the 5th to the 95th percentile of the observations, where a "
            "correction depends on more than the axis. Counts were divided by the factors, after "
            "the offset, which is in units of the mean intensity, was taken off.",
            "Curves of the scaling's corrections against rotation angle, resolution or direction: "
            + ", ".join(dict.fromkeys(curve["name"] for curve in curves)),
        )
    shells = step.get("shells")
    if shells:
        page.table(
            ("d (Å)", "observations", "R_meas before", "R_meas after"),
            list(
                zip(
                    resolution_column(shells), shells["n"], shells["r_meas_before"],
                    shells["r_meas_after"], strict=True,
                )
            ),
            "Agreement of unmerged observations before and after scaling",
            even=True,
        )  # fmt: skip


def add_statistics(page: Page, facts: MapFacts) -> None:
    """Add the tables by resolution, with a figure of them."""
    page.heading("Statistics by resolution")
    if facts.about.get("note"):
        page.text(f"{str(facts.about['note']).capitalize()}.")
    if facts.is_measured:
        page.figure(
            draw_statistics(facts.shells),
            "Figures by resolution. Variations: what is left of the intensity when its mean at "
            "each resolution is taken off, which is where the information on motions is.",
            "Completeness, multiplicity, correlations, R factors and signal over noise against "
            "resolution; the numbers are in the tables that follow.",
        )
    groups = column_groups(list(facts.shells))
    titles = {
        "whole": "The whole intensity, by shells of equal volume; overall last",
        "anisotropic": "The variations with direction, overall last",
        "mates": "Friedel mates, hkl and −h −k −l, overall last",
    }
    for group, names in groups.items():
        if not names or (group == "mates" and not facts.figure("n_friedel") > 0):
            continue
        both = group == "mates"
        columns = [facts.shells[name] for name in names]
        rows = list(zip(resolution_column(facts.shells), *columns, strict=True))
        limits = f"{facts.overall['d_max']:.3g}–{facts.overall['d_min']:.3g}"
        rows.append((limits, *(facts.overall.get(name) for name in names)))
        heads = ["d (Å)", *(short_name(name, both=both) for name in names)]
        page.table(heads, rows, titles[group], _meanings(names), total=True, even=True)


def _meanings(names: Sequence[str]) -> dict[str, str]:
    stems = dict.fromkeys(name.removesuffix(ANISOTROPIC) for name in names)
    words = {short_name(stem): MEANINGS[stem] for stem in stems if stem in MEANINGS}
    if any(name.endswith(ANISOTROPIC) for name in names):
        words["variations, anis."] = (
            "the intensity less its mean in shells of 0.01 Å⁻¹ of 1/d: what changes with direction"
        )
    return words


def resolution_column(shells: Any) -> list[str]:
    """Limits of shells as text."""
    return [f"{high:.2f}–{low:.2f}" for high, low in zip(shells["d_max"], shells["d_min"],
                                                         strict=True)]  # fmt: skip


def add_pictures(page: Page, facts: MapFacts) -> None:
    """Add the three central sections, whole and varying, and the mean by resolution."""
    page.heading("Sections")
    page.text(
        "Planes through the origin. Left: the intensity as it is, dominated by the ring of water "
        "and protein that is the same in all directions. Right: with its mean at each resolution "
        "taken off; red is more, blue less than the mean. Grey was not measured."
    )
    for plane, name in _PLANES.items():
        with page.row():
            for anisotropic, what in ((False, "whole"), (True, "variations")):
                options = SectionOptions(plane=plane, anisotropic=anisotropic)
                page.figure(
                    draw_sections({f"{name}, {what}": facts.map}, options),
                    f"{name}, {what}",
                    f"Section {name} of the map, {what}: a picture",
                )
    if not facts.is_difference:
        page.figure(
            draw_profiles({"mean intensity": facts.map}),
            "Mean intensity by resolution.",
            "Mean intensity of the map against resolution, a line",
        )
