"""Provenance: steps of plain values, hashes of files."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offbragg.maps.provenance import hash_file, make_step, plain


@dataclass(frozen=True)
class Inner:
    """One option in another."""

    values: tuple[float, ...] = (1.0, float("nan"))


@dataclass(frozen=True)
class Options:
    """Options of a made-up command."""

    d_min: float = 2.0
    inner: Inner = Inner()
    path: Path = Path("a/b.h5")


# --- 1 reference numbers -------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (np.bool_(False), False),
        (np.int32(7), 7),
        (np.float32(0.5), 0.5),
        (float("nan"), None),
        (np.float64("inf"), None),
        (-np.inf, None),
        ("text", "text"),
        (Path("a/b.h5"), "a/b.h5"),
        ((1, np.float64(2.5)), [1, 2.5]),
        ({3}, [3]),
        (np.array([[1.0, np.nan], [np.inf, 2.0]]), [[1.0, None], [None, 2.0]]),
        (np.array(4), 4),
        ({1: {"a": np.arange(2)}}, {"1": {"a": [0, 1]}}),
        (Inner(), {"values": [1.0, None]}),
        (Options(), {"d_min": 2.0, "inner": {"values": [1.0, None]}, "path": "a/b.h5"}),
        (1 + 2j, "(1+2j)"),
        (Inner, str(Inner)),
    ],
)
def test_values_become_plain(value, expected):
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)


# --- 2 independent oracle ------------------------------------------------


def test_a_file_is_hashed_by_its_contents(tmp_path):
    data = bytes(range(256)) * 1000
    path = tmp_path / "x"
    path.write_bytes(data)
    assert hash_file(path) == hash_file(str(path)) == hashlib.sha256(data).hexdigest()


def test_an_empty_file_has_the_hash_of_nothing(tmp_path):
    # sha256sum /dev/null
    (tmp_path / "x").touch()
    expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert hash_file(tmp_path / "x") == expected


# --- 3 exact limits ------------------------------------------------------


def test_a_step_says_who_what_and_when():
    before = datetime.now(UTC) - timedelta(seconds=2)
    step = make_step("merge", Options(), inputs=[Path("m.h5")], n=np.int64(3))
    assert step["program"] == "offbragg"
    assert step["version"] == version("offbragg")
    assert step["command"] == "merge"
    assert step["options"] == plain(Options())
    assert step["inputs"] == ["m.h5"]
    assert step["n"] == 3
    assert before < datetime.fromisoformat(step["time"]) < datetime.now(UTC) + timedelta(seconds=2)


def test_a_step_without_options_has_none():
    assert make_step("info")["options"] == {}


# --- 4 invariances -------------------------------------------------------

_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.floats(), st.text(max_size=5)
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.tuples(inner, inner),
    ),
    max_leaves=8,
)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(_VALUES)
def test_plain_values_are_json_and_stay(value):
    once = plain(value)
    assert json.loads(json.dumps(once, allow_nan=False)) == once
    assert plain(once) == once


def test_inputs_are_not_changed():
    options = {"a": [1, float("nan")], "b": np.array([np.nan])}
    step = make_step("x", options)
    step["options"]["a"].append(2)
    assert options["a"][0] == 1
    assert len(options["a"]) == 2
    assert np.isnan(options["b"][0])


# --- 5 errors ------------------------------------------------------------


def test_a_missing_file_has_no_hash(tmp_path):
    with pytest.raises(FileNotFoundError):
        hash_file(tmp_path / "nothing")
