"""Space groups: all operations of all groups, Laue groups, Miller indices, sampling."""

import itertools
import re
from fractions import Fraction

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.strategies import miller_indices

from offbragg.crystal.cell import as_cell
from offbragg.crystal.symmetry import (
    as_laue_space_group,
    as_space_group,
    check_sampling_fits,
    lattice_matrices,
    laue_rotations,
    laue_symbol,
    rotate_hkl,
    space_group_operations,
)
from offbragg.errors import InputError

# Orders of the eleven Laue groups (International Tables A, table 10.1.2.2).
LAUE_ORDERS = {
    "-1": 2, "2/m": 4, "mmm": 8, "4/m": 8, "4/mmm": 16, "-3": 6, "-3m": 12, "6/m": 12,
    "6/mmm": 24, "m-3": 24, "m-3m": 48,
}  # fmt: skip
EVERY_GROUP = list(gemmi.spacegroup_table())


def operation_from_triplet(triplet):
    """Rotation and translation read from text such as ``-y,x-y,z+1/3``."""
    rotation, translation = np.zeros((3, 3), dtype=int), []
    for row, part in enumerate(triplet.split(",")):
        shift = Fraction(0)
        for sign, term in re.findall(r"([+-]?)([^+-]+)", part):
            factor = -1 if sign == "-" else 1
            if term in "xyz":
                rotation[row, "xyz".index(term)] += factor
            else:
                shift += factor * Fraction(term)
        translation.append(float(shift % 1))
    return rotation, np.array(translation)


# --- 1 reference numbers -------------------------------------------------


@pytest.mark.parametrize(
    ("symbol", "order"),
    # General positions in International Tables A.
    [("P 1", 1), ("C 1 2 1", 4), ("P 21 21 21", 4), ("P 43 21 2", 8), ("P 31", 3), ("R 3:H", 9),
     ("R 3:R", 3), ("I 21 3", 24), ("F m -3 m", 192)],
)  # fmt: skip
def test_number_of_operations(symbol, order):
    assert len(space_group_operations(symbol)) == order


def test_the_operations_of_p31():
    # International Tables A, no. 144: x,y,z; -y,x-y,z+1/3; -x+y,-x,z+2/3.
    found = space_group_operations("P 31")
    expected = [operation_from_triplet(t) for t in ("x,y,z", "-y,x-y,z+1/3", "-x+y,-x,z+2/3")]
    for rotation, translation in expected:
        at = [i for i in range(3) if np.array_equal(found.rotations[i], rotation)]
        assert len(at) == 1
        np.testing.assert_allclose(found.translations[at[0]], translation, atol=1e-12)


# --- 2 independent oracle ------------------------------------------------


def test_operations_of_every_group_match_their_triplets():
    for group in EVERY_GROUP:
        found = space_group_operations(group)
        triplets = [op.triplet() for op in group.operations()]
        assert len(found) == len(triplets)
        for i, triplet in enumerate(triplets):
            rotation, translation = operation_from_triplet(triplet)
            assert np.array_equal(found.rotations[i], rotation), (group.xhm(), triplet)
            assert np.allclose(found.translations[i], translation), (group.xhm(), triplet)


def test_laue_groups_of_every_space_group_have_the_tabulated_order():
    for group in EVERY_GROUP:
        rotations = laue_rotations(group)
        assert len(rotations) == LAUE_ORDERS[group.laue_str()], group.xhm()
        rows = {tuple(r.ravel()) for r in rotations}
        assert tuple((-np.eye(3, dtype=int)).ravel()) in rows
        assert len(rows) == len(rotations)


@pytest.mark.parametrize("symbol", ["P 31", "P 41", "R 3:H", "C 1 2 1", "P 43 21 2", "I 21 3"])
@settings(deadline=None, derandomize=True, max_examples=10)
@given(hkl=miller_indices())
def test_miller_indices_turn_as_row_vectors(symbol, hkl):
    # Oracle: gemmi's apply_to_hkl.
    operations = list(gemmi.SpaceGroup(symbol).operations())
    rotations = space_group_operations(symbol).rotations
    for operation, rotation in zip(operations, rotations, strict=True):
        assert rotate_hkl(np.array(hkl), rotation).tolist() == operation.apply_to_hkl(hkl)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    symbol=st.sampled_from(
        ["P 1", "C 1 2 1", "P 1 1 21", "P 21 21 21", "P 41", "P 4/m", "P 31", "R 3:R", "P 2 3"]
    ),
    sampling=st.tuples(*[st.integers(1, 4)] * 3),
)
def test_sampling_fits_where_every_image_of_a_node_is_a_node(symbol, sampling):
    rotations = space_group_operations(symbol).rotations
    nodes = itertools.product(*[[Fraction(i, n) for i in range(n + 1)] for n in sampling])
    fits = all(
        (sum(node[i] * int(r[i, j]) for i in range(3)) * sampling[j]).denominator == 1
        for node in nodes
        for r in rotations
        for j in range(3)
    )
    if fits:
        check_sampling_fits(rotations, sampling)
    else:
        with pytest.raises(InputError, match="sampling must be equal on axes that the symmetry"):
            check_sampling_fits(rotations, sampling)


@pytest.mark.parametrize("symbol", ["P 1", "C 1 2 1", "P 1 1 21", "P 41", "P 31", "P 2 3"])
@pytest.mark.parametrize("sampling", [(1, 1, 1), (2, 2, 2), (3, 3, 1), (2, 2, 5)])
def test_operations_on_sampled_nodes_are_those_on_hkl(symbol, sampling):
    rotations = space_group_operations(symbol).rotations
    if symbol == "P 2 3" and len(set(sampling)) > 1:
        with pytest.raises(InputError, match="sampling must be equal"):
            lattice_matrices(rotations, sampling)
        return
    n = np.array(sampling)
    nodes = np.array(list(itertools.product(range(-2, 3), repeat=3)))
    for rotation, matrix in zip(rotations, lattice_matrices(rotations, sampling), strict=True):
        np.testing.assert_allclose(nodes @ matrix / n, (nodes / n) @ rotation, atol=1e-12)


def test_the_name_of_a_laue_group_gives_it_back():
    for group in EVERY_GROUP:
        rotations = laue_rotations(group)
        assert np.array_equal(laue_rotations(laue_symbol(group)), rotations), group.xhm()


# --- 3 exact limits ------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "symbol"),
    [
        ("P212121", "P 21 21 21"),
        ("P 21 21 21", "P 21 21 21"),
        ("p 21 21 21", "P 21 21 21"),
        (" P 4w", "P 41"),
        (96, "P 43 21 2"),
        (np.int64(76), "P 41"),
        ("C2", "C 1 2 1"),
        ("P21", "P 1 21 1"),
        ("H 3", "R 3:H"),
        (gemmi.SpaceGroup("P 31"), "P 31"),
    ],
)
def test_every_name_of_a_group_is_taken(value, symbol):
    assert as_space_group(value).xhm() == symbol


def test_the_cell_decides_between_the_two_settings_of_r3():
    hexagonal, rhombohedral = as_cell((50, 50, 60, 90, 90, 120)), as_cell((50, 50, 50, 80, 80, 80))
    assert as_space_group("R 3", hexagonal).xhm() == "R 3:H"
    assert as_space_group("R 3", rhombohedral).xhm() == "R 3:R"


@pytest.mark.parametrize("symbol", [*LAUE_ORDERS, "-3m1", "-31m"])
def test_a_laue_symbol_gives_its_own_group(symbol):
    group = as_laue_space_group(symbol)
    assert group.laue_str() == ("-3m" if symbol.startswith("-3") and "m" in symbol else symbol)
    assert len(laue_rotations(symbol)) == LAUE_ORDERS[group.laue_str()]


# --- 4 invariances -------------------------------------------------------


@pytest.mark.parametrize("symbol", ["C 1 2 1", "P 31", "R 3:H", "P 43 21 2", "I 21 3"])
def test_operations_form_a_group(symbol):
    found = space_group_operations(symbol)

    def key(rotation, translation):
        return (*rotation.ravel().tolist(), *(np.rint(translation * 24).astype(int) % 24).tolist())

    every = {key(r, t) for r, t in zip(found.rotations, found.translations, strict=True)}
    assert len(every) == len(found)
    for (r, t), (s, u) in itertools.product(
        zip(found.rotations, found.translations, strict=True), repeat=2
    ):
        assert key(r @ s, r @ u + t) in every


def test_indices_of_any_shape_turn_together():
    hkl = np.arange(24.0).reshape(2, 4, 3)
    rotation = space_group_operations("P 31").rotations[1]
    turned = rotate_hkl(hkl, rotation)
    assert turned.shape == (2, 4, 3)
    assert np.array_equal(turned[1, 2], rotate_hkl(hkl[1, 2], rotation))


# --- 5 errors ------------------------------------------------------------


@pytest.mark.parametrize("value", ["P 9 9 9", "", "   ", "foo", 0, 231, None, 4.0])
def test_an_unknown_space_group_is_named(value):
    with pytest.raises(InputError, match=f"Hermann-Mauguin or Hall symbol, got {value!r}"):
        as_space_group(value)


def test_an_unknown_laue_group_is_named_with_those_known():
    with pytest.raises(InputError, match=r"laue_group must be .* -1 2/m mmm .* got '5/m'"):
        laue_rotations("5/m")


def test_the_sampling_is_named_in_its_error():
    rotations = space_group_operations("P 41").rotations
    with pytest.raises(InputError, match=r"--sampling must be equal .* got \(2, 3, 1\)"):
        check_sampling_fits(rotations, (2, 3, 1), "--sampling")
