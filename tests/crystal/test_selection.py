"""The selection language: its words, how they join, what is wrong with a wrong one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offbragg.crystal.selection import select_atoms
from offbragg.errors import InputError

# index: chain residue number name element altloc
ROWS = [
    ("A", "ALA", 1, "N", "N", ""),  # 0
    ("A", "ALA", 1, "CA", "C", "A"),  # 1
    ("A", "ALA", 1, "CA", "C", "B"),  # 2
    ("A", "ALA", 1, "CB", "C", ""),  # 3
    ("A", "ALA", 1, "H", "H", ""),  # 4
    ("A", "MSE", 2, "SE", "Se", ""),  # 5
    ("B", "GLY", -3, "O", "O", ""),  # 6
    ("B", "DA", 10, "P", "P", ""),  # 7
    ("B", "U", 11, "O2'", "O", ""),  # 8
    ("C", "HOH", 101, "O", "O", ""),  # 9
    ("C", "DOD", 102, "D1", "D", ""),  # 10
    ("C", "NAG", 200, "C1", "C", ""),  # 11
    ("C", "CA", 201, "CA", "Ca", ""),  # 12
]
N = len(ROWS)
COLUMNS = list(zip(*ROWS, strict=True))
ATOMS = {
    "positions": np.zeros((N, 3)),
    "chains": np.array(COLUMNS[0]),
    "residue_names": np.array(COLUMNS[1]),
    "residue_numbers": np.array(COLUMNS[2]),
    "names": np.array(COLUMNS[3]),
    "elements": np.array(COLUMNS[4]),
    "altlocs": np.array(COLUMNS[5]),
}


def chosen(selection):
    return np.flatnonzero(select_atoms(selection, ATOMS)).tolist()


# --- 1 reference numbers -------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("all", list(range(N))),
        ("water", [9, 10]),
        ("hydrogen", [4, 10]),
        ("protein", [0, 1, 2, 3, 4, 5, 6]),
        ("nucleic", [7, 8]),
        ("ligand", [11, 12]),
        ("backbone", [0, 1, 2, 6]),
        ("chain A", [0, 1, 2, 3, 4, 5]),
        ("chain A C", [0, 1, 2, 3, 4, 5, 9, 10, 11, 12]),
        ("chain a", []),
        ("resname ALA GLY", [0, 1, 2, 3, 4, 6]),
        ("name CA", [1, 2, 12]),
        ("name O2'", [8]),
        ("element C", [1, 2, 3, 11]),
        ("element SE ca", [5, 12]),
        ("altloc B", [2]),
        ("resid 1", [0, 1, 2, 3, 4]),
        ("resid 2-11", [5, 7, 8]),
        ("resid 1 101-200", [0, 1, 2, 3, 4, 9, 10, 11]),
        ("resid -3", [6]),
        ("resid -5--1", [6]),
        ("resid -3-1", [0, 1, 2, 3, 4, 6]),
        ("resid 5-3", []),
        ("not water", [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12]),
        ("NOT Water AND Chain C", [11, 12]),
        ("name CA and protein", [1, 2]),
        ("chain A and (name CA or resname MSE)", [1, 2, 5]),
        ("not water and not hydrogen and not altloc B", [0, 1, 3, 5, 6, 7, 8, 11, 12]),
        ("not not water", [9, 10]),
        ("not(water or protein)", [7, 8, 11, 12]),
        ("(((water)))", [9, 10]),
        ("water or protein and name CA", [1, 2, 9, 10]),
        ("not water or protein", [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12]),
    ],
)  # fmt: skip
def test_selections_of_made_atoms(selection, expected):
    assert chosen(selection) == expected


# --- 2 independent oracle ------------------------------------------------

LEAVES = {
    "water": {9, 10},
    "chain A": {0, 1, 2, 3, 4, 5},
    "name CA": {1, 2, 12},
    "resid 1-10": {0, 1, 2, 3, 4, 5, 7},
    "all": set(range(N)),
}


def expressions():
    """Random selections as text, with the atoms they name worked out by Python sets.

    Each is (text, atoms, binding): 3 a leaf, 'not' or parentheses, 2 'and', 1 'or'.
    """

    def wrapped(part, at_least):
        return part[0] if part[2] >= at_least else f"({part[0]})"

    def extend(inner):
        return st.one_of(
            inner.map(lambda x: (f"not {wrapped(x, 3)}", set(range(N)) - x[1], 3)),
            st.tuples(inner, inner).map(
                lambda x: (f"{wrapped(x[0], 2)} and {wrapped(x[1], 2)}", x[0][1] & x[1][1], 2)
            ),
            st.tuples(inner, inner).map(
                lambda x: (f"{x[0][0]} or {x[1][0]}", x[0][1] | x[1][1], 1)
            ),
        )

    leaf = st.sampled_from([(text, atoms, 3) for text, atoms in LEAVES.items()])
    return st.recursive(leaf, extend, max_leaves=12)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(expression=expressions())
def test_words_join_as_sets_do(expression):
    text, atoms, _ = expression
    assert set(chosen(text)) == atoms, text


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("", "expected a word at its end"),
        ("not", "expected a word at its end"),
        ("water and", "expected a word at its end"),
        ("water or", "expected a word at its end"),
        ("(water", "expected a closing parenthesis"),
        ("water)", r"unexpected '\)'"),
        ("water protein", "unexpected 'protein'"),
        ("wter", "unknown word 'wter', expected one of all .* water"),
        ("chain", "expected values after 'chain'"),
        ("chain and water", "expected values after 'chain'"),
        ("resid one", "expected a number or a range, got 'one'"),
        ("resid 1-", "expected a number or a range, got '1-'"),
        ("resid", "expected values after 'resid'"),
        ("()", r"unknown word '\)'"),
    ],
)
def test_what_is_wrong_is_said(selection, message):
    with pytest.raises(InputError, match=message) as caught:
        select_atoms(selection, ATOMS)
    assert f"selection {selection!r}" in str(caught.value)
