"""What pages say of maps: each rule speaks of its own fault, and is silent without it."""

from dataclasses import replace

import numpy as np
import pytest

from offbragg import merge, simulate, split_friedel
from offbragg.crystal.grid import HklGrid
from offbragg.disorder import LiquidLike
from offbragg.made_crystal import make_peptide
from offbragg.report import MapFacts, map_findings
from offbragg.report.coverage_findings import told_completeness
from offbragg.report.map_findings import (
    told_background,
    told_halves,
    told_origin,
    told_reduction,
    told_scaling,
    told_signal,
)
from offbragg.report.symmetry_findings import (
    symmetry_yardstick,
    told_errors,
    told_friedel,
    told_symmetry,
)

ANGLE = 3.0  # degrees that a wedge of 60° may be told wrong by, with 2500 parts of the sphere
CORRELATION = 0.04  # of some two thousand pairs of mates: 1/√n, and what follows from it


def texts(findings, level=None):
    return [x.text for x in findings if level in (None, x.level)]


def only(findings):
    (finding,) = findings
    return finding


def with_steps(facts, **changed):
    """Facts of the same map made otherwise: entries of its steps, by command."""
    steps = tuple({**step, **changed.get(step["command"], {})} for step in facts.map.provenance)
    return replace(facts, map=replace(facts.map, provenance=steps))


# --- 1 a map without faults ----------------------------------------------


def test_of_a_good_map_there_is_only_good_to_say(good):
    findings = map_findings(good)
    assert {x.level for x in findings} == {"good"}
    complete, symmetry, halves = texts(findings)
    assert complete.startswith(
        "The map is 100.0 % complete to 3.00 Å, with equivalents under 2/m filled in."
    )
    assert symmetry.startswith("The symmetry 2/m holds: ")
    assert halves.startswith("CC½ of the variations with direction is 0.9")


def test_the_gravest_comes_first(make_facts):
    facts = make_facts(noise=3.0, scaled=False, mask=lambda grid: grid.hkl()[..., 0] > 0)
    levels = [x.level for x in map_findings(facts)]
    assert levels == sorted(levels, key=["warning", "remark", "good"].index)
    assert len(set(levels)) > 1


# --- 2 what is missing -----------------------------------------------------


def azimuth(grid, axis, start):
    """Angle (…) [degrees] of voxels about an axis, 0 to 180, from a direction across it."""
    q = grid.q()
    x = start - (start @ axis) * axis
    x /= np.linalg.norm(x)
    return np.degrees(np.arctan2(q @ np.cross(axis, x), q @ x)) % 180.0


@pytest.mark.parametrize("shown", ["b*", "other"])
def test_a_wedge_is_told_with_its_angle_and_axis(make_facts, shown):
    axis = np.array([0.0, 1.0, 0.0]) if shown == "b*" else np.array([0.6, 0.64, 0.48])

    def gone(grid):
        # The two-fold along b takes azimuths about b into themselves; so does Friedel's law.
        return azimuth(grid, axis, np.array([1.0, 0.2, 0.3])) < 60.0

    group = {"group": "P 1 2 1"} if shown == "b*" else {"group": "P 1"}
    finding = only(told_completeness(make_facts(mask=gone, **group)))
    assert finding.level == "warning"
    assert finding.text.startswith("The map is 66 % complete") or "67 %" in finding.text
    number = float(finding.text.split("A wedge of ")[1].split("°")[0])
    assert number == pytest.approx(60.0, abs=ANGLE)
    if shown == "b*":
        assert "about b*, with the one opposite, is missing" in finding.text
    else:
        assert "about an axis " in finding.text
    assert "may be the crystal did not turn far enough" in finding.text


def test_a_cone_is_told_with_its_angle(make_facts):
    def gone(grid):
        q = grid.q()
        return np.abs(q[..., 1]) > np.cos(np.radians(30)) * np.linalg.norm(q, axis=-1)

    finding = only(told_completeness(make_facts(mask=gone)))
    assert "A cone of 30° around b*, both ways, is missing" in finding.text
    assert "wedge" not in finding.text


def test_the_cause_is_the_rotation_axis_only_where_it_is_that(make_map):
    def gone(grid):
        q = grid.q()
        return np.abs(q[..., 1]) > np.cos(np.radians(30)) * np.linalg.norm(q, axis=-1)

    made = make_map(mask=gone)
    said = {}
    for name, axis in (("along", [0.02, 26.0, 0.0]), ("across", [22.0, 0.0, 0.0])):
        step = {**made.provenance[0], "sweeps": [{"axis_hkl": axis}]}
        facts = MapFacts.of(replace(made, provenance=(step,)))
        said[name] = only(told_completeness(facts)).text
    assert "is missing: the blind region along the rotation axis" in said["along"]
    assert "is missing: neither the sweeps nor the symmetry reach it" in said["across"]


def test_an_outer_shell_and_a_hole_are_told_with_their_resolution(make_facts):
    finding = only(
        told_completeness(
            make_facts(mask=lambda grid: (grid.inv_d() > 1 / 3.5) | (grid.inv_d() < 1 / 12.0))
        )
    )
    assert "It begins at 1" in finding.text
    begins = float(finding.text.split("It begins at ")[1].split(" Å")[0])
    assert begins == pytest.approx(12.0, abs=1.5)
    beyond, share = finding.text.split("Beyond ")[1].split(" Å only ")
    assert float(beyond) == pytest.approx(3.5, abs=0.15)
    assert share.startswith("0 %") or share.startswith("1 %")
    assert "wedge" not in finding.text
    assert "cone" not in finding.text


def test_voxels_missing_here_and_there_have_no_shape(make_facts):
    def gone(grid):
        return np.random.default_rng(1).random(grid.shape) < 0.5

    finding = only(told_completeness(make_facts(group="P 1", mask=gone)))
    assert "25 % of the directions are missing, in no plain shape" in finding.text


def test_excluded_bragg_nodes_are_no_fault(make_facts):
    finding = only(told_completeness(make_facts(mask=HklGrid.is_node)))
    assert "The voxels on Bragg peaks, one in 8, are left out, as they should be" in finding.text
    assert "wedge" not in finding.text


# --- 3 symmetry and errors -------------------------------------------------


@pytest.mark.parametrize("merged", [False, True])
def test_a_group_that_is_too_high_is_told(make_map, merged):
    cell = (24.0, 24.0, 26.0, 90.0, 90.0, 90.0)
    right, wrong = (
        make_map(cell=cell, group="P 4 2 2", true_group=true) for true in ("P 4 2 2", "P 4")
    )
    maps = [merge(x).map if merged else x for x in (right, wrong)]
    good, bad = (only(told_symmetry(MapFacts.of(x))) for x in maps)
    assert (good.level, bad.level) == ("good", "warning")
    assert good.text.startswith("The symmetry 4/mmm holds")
    assert bad.text.startswith("Equivalents disagree: under 4/mmm")
    assert "Check the space group and the indexing" in bad.text


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_noise_alone_is_no_broken_symmetry(make_map, noise):
    """The yardstick has the same noise: what is found is what is expected, merged or not."""
    made = make_map(noise=noise)
    for diffuse_map in (made, merge(made).map):
        found, expected, error = symmetry_yardstick(MapFacts.of(diffuse_map))
        assert 0 < error < CORRELATION
        assert found == pytest.approx(1 / (1 + noise**2), abs=CORRELATION)
        assert found == pytest.approx(expected, abs=CORRELATION)
        assert only(told_symmetry(MapFacts.of(diffuse_map))).level == "good"


def test_nothing_is_said_where_nothing_can_be(make_facts):
    assert "no symmetry of the crystal to test" in only(told_symmetry(make_facts(group="P 1"))).text
    faint = only(told_symmetry(make_facts(noise=1.0, signal=0.0)))
    assert faint.text == (
        "Whether the symmetry 2/m holds cannot be told: even Friedel mates differ."
    )
    half = only(told_symmetry(make_facts(mask=lambda grid: grid.hkl()[..., 0] < 0.01)))
    assert half.text == "Whether the symmetry 2/m holds cannot be told: too few Friedel mates."


def test_a_few_pairs_decide_nothing(good):
    """Correlations of 0.2 and 0.4: told apart by ten thousand pairs, not by three hundred."""
    rows = {row.is_friedel: row for row in good.operations}
    said = {}
    for n in (300, 10_000):
        mates = replace(rows[True], n_pairs=n, cc_anisotropic=0.4)
        others = replace(rows[False], n_pairs=n, cc_anisotropic=0.2)
        said[n] = only(told_symmetry(replace(good, operations=(mates, others))))
    assert said[300].level == "remark"
    assert "is not sure" in said[300].text
    assert said[10_000].level == "warning"


def test_unscaled_equivalents_that_disagree_are_to_be_scaled_first(make_facts):
    cell = (24.0, 24.0, 26.0, 90.0, 90.0, 90.0)
    facts = make_facts(cell=cell, group="P 4 2 2", true_group="P 4", scaled=False)
    assert "Nothing was scaled: do that first, then check" in only(told_symmetry(facts)).text


def test_errors_that_are_too_small_are_told(make_facts, good):
    assert told_errors(good) == []
    finding = only(told_errors(make_facts(noise=0.3, told_noise=0.1)))
    assert finding.level in ("remark", "warning")
    number = float(finding.text.split("differ by ")[1].split(" times")[0])
    assert number == pytest.approx(3.0, abs=0.1)
    assert "Scaling" not in finding.text
    unscaled = only(told_errors(make_facts(noise=0.3, told_noise=0.1, scaled=False)))
    assert "Scaling (map --scaling standard) may mend it" in unscaled.text


def test_friedel_mates_apart_and_an_anomalous_signal(make_map, good):
    assert told_friedel(good) == []
    made = make_map(noise=0.1)
    # Odd in hkl and the same at −h k −l, the two-fold.
    grid = made.grid
    odd = np.sin(2 * np.pi * 0.3 * grid.k)[None, :, None] * np.ones(grid.shape)
    anomalous = replace(
        made, intensity=made.intensity + odd, half_1=made.half_1 + odd, half_2=made.half_2 + odd
    )
    finding = only(told_friedel(MapFacts.of(anomalous)))
    assert "an anomalous signal" in finding.text
    apart = merge(anomalous, friedel="apart").map
    assert "are kept apart" in only(told_friedel(MapFacts.of(apart))).text
    difference = split_friedel(anomalous).difference
    finding = only(map_findings(MapFacts.of(difference)))
    assert finding.text.startswith("This is a difference map, of a Friedel split")


# --- 4 signal and noise ----------------------------------------------------


def test_where_the_signal_ends_is_told(make_map):
    made = make_map(noise=0.2)
    outside = made.grid.inv_d() > 1 / 4.0
    noise = np.random.default_rng(2).normal(size=(2, *made.grid.shape))
    halves = [
        np.where(outside, 10 + 5 * x, half)
        for x, half in zip(noise, (made.half_1, made.half_2), strict=True)
    ]
    measured = np.isfinite(made.intensity)
    halves = [np.where(measured, half, np.nan) for half in halves]
    ended = replace(made, half_1=halves[0], half_2=halves[1], intensity=sum(halves) / 2)
    facts = MapFacts.of(ended)
    first = told_halves(facts)[0]
    assert first.level == "warning"
    assert first.text.endswith("what is there is noise.")
    told = float(first.text.split("beyond ")[1].split(" Å")[0])
    # The shell that 4 Å lies in: its noise has 625 times the variance of the signal.
    expected = min(d for d in facts.shells["d_max"] if d >= 4.0)
    assert told == pytest.approx(expected, abs=0.005)


def test_weak_maps_and_maps_of_noise(make_facts):
    weak = only(told_halves(make_facts(noise=2.5)))
    assert weak.level == "remark"
    assert "below 0.33 at every resolution" in weak.text
    nothing = only(told_halves(make_facts(noise=1.0, signal=0.0)))
    assert nothing.level == "warning"
    assert "below 0.1 at every resolution" in nothing.text


def test_without_halves_nothing_says_where_the_signal_ends(make_facts):
    finding = only(told_halves(make_facts(half_1=None, half_2=None)))
    assert finding.level == "warning"
    assert "CC½ cannot be given" in finding.text


def test_variations_below_their_errors_and_means_below_0(make_map, make_facts, good):
    assert told_signal(good) == []
    assert told_background(good) == []
    assert "little beyond its mean" in only(told_signal(make_facts(noise=1.0, signal=0.0))).text
    made = make_map()
    outer = made.grid.inv_d() > 1 / 3.4
    finding = only(
        told_background(
            MapFacts.of(replace(made, intensity=made.intensity - np.where(outer, 14.0, 0.0)))
        )
    )
    begin = float(finding.text.split("between ")[1].split(" and")[0])
    assert begin == pytest.approx(3.4, abs=0.15)
    assert finding.text.endswith("too much background was taken off.")


# --- 5 how it was made -----------------------------------------------------


def test_scaling_that_was_not_done_or_went_wrong(make_facts, good):
    assert told_scaling(good) == []
    assert "No scaling was done" in only(told_scaling(make_facts(scaled=False))).text
    figures = good.step("scale")["figures"]
    for changed, level, text in (
        ({"converged": False}, "warning", "has not converged"),
        ({"n_outliers": 30}, "warning", "3.0 % of the observations were left out"),
        ({"inflation": 2.5}, "remark", "scatter 2.5 times as much as counting explains"),
    ):
        finding = only(told_scaling(with_steps(good, scale={"figures": figures | changed})))
        assert finding.level == level
        assert text in finding.text
    outliers = with_steps(good, scale={"options": {"corrections": []}})
    assert only(told_scaling(outliers)).text == "Outliers were left out, but nothing was scaled."
    for swing, n in ((1.5, 0), (2.5, 1)):
        curves = [{"name": "scale", "mean": [1.0, swing]}, {"name": "offset", "mean": [0.0, 9.0]}]
        assert len(told_scaling(with_steps(good, scale={"curves": curves}))) == n


def test_what_of_a_reduction_is_unusual(good):
    assert told_reduction(good) == []
    options = good.step("map")["options"]
    for changed, text in (
        ({"options": options | {"bragg": "keep"}}, "Bragg peaks are in this map"),
        ({"options": options | {"bragg": "only"}}, "Bragg peaks alone are in this map"),
        ({"corrections": ["polarization"]}, "The correction for solid angle was not made"),
        ({"images": [{"template": "x", "n_images": 9, "n_came": 7}]}, "only 7 of 9 images"),
    ):
        finding = only(told_reduction(with_steps(good, map=changed)))
        assert finding.level == "warning"
        assert text in finding.text


def test_maps_of_models_and_of_nothing_known(make_map, good):
    assert told_origin(good) == []
    peptide = make_peptide("GAS", u=0.1)
    grid = HklGrid.from_resolution(peptide.cell, 4.0)
    computed = simulate(peptide, LiquidLike(0.3, 5.0), grid)
    findings = map_findings(MapFacts.of(computed))
    assert "nothing in it is measured" in findings[0].text
    # Nothing is said of scaling, halves or symmetry of what was not measured.
    assert len(findings) == 2
    bare = replace(make_map(), sigma=None, count=None, half_1=None, half_2=None, provenance=())
    assert "nothing says how well it was measured" in only(told_origin(MapFacts.of(bare))).text
    unknown = replace(make_map(), provenance=())
    assert only(told_origin(MapFacts.of(unknown))).text == (
        "The file does not say how this map was made."
    )
