"""What pages say of fits, inferences and rankings: each rule in both directions."""

from dataclasses import replace

import numpy as np
import pytest

from offbragg import LiquidLike, RankedModel
from offbragg.disorder.residues import labelled_correlations
from offbragg.inference.inferred import Score
from offbragg.inference.result import FittedParameter
from offbragg.report.records import FitRecord, InferredRecord
from offbragg.report.result_findings import fit_findings, inferred_findings, ranking_findings


def agreement(cc, shells=(0.8, 0.7)):
    table = {"d_max": [9.0, 3.0], "d_min": [3.0, 2.0], "cc_anisotropic": list(shells)}
    return {"cc_anisotropic": cc, "chi2_reduced": 1.1, "shells": table}


@pytest.fixture
def fit():
    parameter = FittedParameter(0.4, 0.01, "Å")
    return FitRecord(
        model="LiquidLike(…)", parameters={"rms_displacement": parameter}, scale=parameter,
        n_numbers=2, n_determined=1.9, undetermined="",
        statistics={"working": agreement(0.75), "held_out": agreement(0.74)}, converged=True,
        message="done", model_map=None,
    )  # fmt: skip


@pytest.fixture
def inferred():
    residues = labelled_correlations(["A GLY 1", "A ALA 2"], np.eye(2))
    return InferredRecord(
        base_model="LiquidLike(…)", exact=Score(0.7, 0.75, 0.05, 0.01),
        linear=Score(0.7, 0.76, 0.06, 0.01), null=Score(0.1, 0.11, 0.01, 0.01), cc_smooth=0.1,
        cc_working=0.8, penalty=1.0, cc_by_penalty={1.0: 0.7}, n_numbers=9, n_determined=3.0,
        clipped=0.01, message="", residues=residues, base_residues=None, correlation_errors=None,
        model_map=None, base_map=None,
    )  # fmt: skip


def ranked(name, cc, **changed):
    figures = {
        "n_numbers": 2, "cc_error": 0.01, "cc_working": cc, "cc_by_fold": np.array([cc]),
        "cc_without": np.array([cc]), "behind": 0.7 - cc, "behind_error": 0.02,
        "reference": "a", "gain": 0.0, "gain_error": 0.0, "cc_null": 0.02, "converged": True,
    }  # fmt: skip
    return RankedModel(name=name, model=LiquidLike(0.3, 5.0), cc=cc, **(figures | changed))


def told(findings, level):
    return [x.text for x in findings if x.level == level]


# --- 1 nothing wrong ---------------------------------------------------------


def test_of_good_results_there_is_only_good_to_say(fit, inferred):
    for findings in (
        fit_findings(fit),
        inferred_findings(inferred),
        ranking_findings([ranked("a", 0.7, behind=0.0), ranked("b", 0.5)]),
    ):
        assert {x.level for x in findings} == {"good"}
    texts = told(fit_findings(fit), "good")
    assert texts[0] == "The fit converged."
    assert "correlations of 0.74 and 0.75" in texts[1]


# --- 2 fits ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "level", "text"),
    [
        ({"converged": False}, "warning", "The fit has not converged: done"),
        ({"undetermined": "Not determined: x."}, "warning", "Not determined: x."),
        ({"n_determined": 0.4}, "remark", "about 0 of the 2 numbers"),
        ({"statistics": {"working": agreement(0.75)}}, "remark", "No voxels were held out"),
        (
            {"statistics": {"working": agreement(0.4), "held_out": agreement(0.05)}},
            "warning", "predicts held-out data no better than chance",
        ),
        (
            {"statistics": {"working": agreement(0.7), "held_out": agreement(0.5)}},
            "warning", "fits (0.70) better than it predicts (0.50",
        ),
        (
            {"statistics": {"working": agreement(0.7), "held_out": agreement(None)}},
            "remark", "Too few voxels were held out",
        ),
        (
            {"statistics": {"working": agreement(0.7), "held_out": agreement(0.7, (0.8, 0.02))}},
            "remark", "Beyond 3.00 Å the model has nothing in common",
        ),
        (
            {"statistics": {"working": agreement(0.75) | {"chi2_reduced": 9.0},
                            "held_out": agreement(0.75)}},
            "remark", "is 3.0 times the map's standard errors",
        ),
    ],
)  # fmt: skip
def test_a_fit_with_a_fault(fit, changed, level, text):
    found = told(fit_findings(replace(fit, **changed)), level)
    assert len(found) == 1
    assert text in found[0]


# --- 3 inferences ------------------------------------------------------------


def test_a_gain_that_is_none(inferred):
    findings = inferred_findings(replace(inferred, exact=Score(0.7, 0.701, 0.001, 0.002)))
    (text,) = told(findings, "warning")
    assert "predict no better than the base model" in text
    assert "0.0010 ± 0.0020" in text


def test_a_gain_that_is_chance(inferred):
    findings = inferred_findings(replace(inferred, null=Score(0.1, 0.14, 0.04, 0.01)))
    assert "much of it is chance" in told(findings, "warning")[0]


def test_motion_that_was_cut_off(inferred):
    findings = inferred_findings(replace(inferred, clipped=0.2))
    assert told(findings, "remark")[0].startswith("20 % of the motion was cut off")


# --- 4 rankings --------------------------------------------------------------


def test_models_that_are_not_told_apart_or_not_done():
    findings = ranking_findings(
        [ranked("a", 0.7, behind=0.0), ranked("b", 0.69), ranked("c", 0.5, converged=False)]
    )
    assert told(findings, "remark") == [
        "Within one standard error of the best, and not told from it: b."
    ]
    assert told(findings, "warning") == ["Fits that have not converged: c."]


def test_models_no_better_than_a_wrong_indexing_or_nothing():
    null = ranking_findings([ranked("a", 0.3, cc_null=0.29)])
    assert "predicts no better than on a wrongly indexed map" in told(null, "warning")[0]
    nothing = ranking_findings([ranked("a", 0.05, cc_null=None)])
    assert told(nothing, "warning") == [
        "No model predicts held-out voxels: the best correlates by 0.050."
    ]
