"""The page of a ranking: every figure, the null beside it where there is one, one picture."""

import html
from dataclasses import replace

import numpy as np
import pytest

from offbragg import LiquidLike, RankedModel, Uncorrelated
from offbragg.report import ranking_table, write_ranking_report


def ranked(name, model, cc, **more):
    figures = {
        "n_numbers": 2, "cc_error": 0.0123, "cc_working": cc + 0.02,
        "cc_by_fold": np.array([cc, cc + 0.01, cc - 0.01]), "cc_without": np.array([cc, cc]),
        "behind": 0.7 - cc, "behind_error": 0.0234, "reference": "liquid-like", "gain": cc - 0.7,
        "gain_error": 0.0345, "cc_null": None, "converged": True,
    }  # fmt: skip
    return RankedModel(name=name, model=model, cc=cc, **(figures | more))


@pytest.fixture
def two():
    return [
        ranked("liquid-like", LiquidLike(0.3, 6.0), 0.7, cc_null=0.0456),
        ranked("alone", Uncorrelated(), 0.1, cc_null=0.0567, converged=False),
    ]


# --- 1 reference numbers -------------------------------------------------


def test_the_table_has_every_figure(two):
    heads, rows = ranking_table(two)
    assert heads == [
        "model", "numbers", "CC held out", "±", "CC null", "gain over liquid-like", "±",
        "behind the best", "±", "CC fitted", "converged",
    ]  # fmt: skip
    assert rows[1] == pytest.approx(
        ("alone", 2, 0.1, 0.0123, 0.0567, -0.6, 0.0345, 0.6, 0.0234, 0.12, "no")
    )


# --- 3 exact limits ------------------------------------------------------


def test_without_a_null_there_is_no_column_of_it(two):
    heads, rows = ranking_table([replace(x, cc_null=None) for x in two])
    assert "CC null" not in heads
    assert {len(row) for row in rows} == {len(heads)} == {10}


def test_the_page_says_which_and_by_how_much(two, tmp_path):
    write_ranking_report(tmp_path / "rank.html", two)
    text = (tmp_path / "rank.html").read_text(encoding="utf-8")
    assert text.count("<img") == 1
    assert "http" not in text
    assert "First comes liquid-like: a correlation of 0.700 ± 0.012 with 3 folds" in text
    for x in two:
        assert html.escape(repr(x.model)) in text
        assert f'<td class="n">{x.cc_null:.3f}</td>' in text
