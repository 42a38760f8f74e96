"""Which operations make equivalents, with Friedel's law and without: all space groups of gemmi."""

import gemmi
import numpy as np
import pytest

from offbragg.crystal.friedel import equivalence_group, has_inversion
from offbragg.crystal.symmetry import laue_rotations, point_rotations
from offbragg.errors import InputError


def as_set(rotations):
    return {tuple(r.ravel()) for r in rotations}


def test_apart_is_half_of_the_laue_group_in_every_setting():
    seen = set()
    for space_group in gemmi.spacegroup_table():
        own = {tuple(np.array(op.rot).ravel() // 24) for op in space_group.operations().sym_ops}
        if frozenset(own) in seen:
            continue
        seen.add(frozenset(own))
        group = equivalence_group(space_group, "apart")
        rotations = as_set(group.rotations)
        assert not has_inversion(group.rotations), space_group.xhm()
        assert as_set(point_rotations(group.symbol)) == rotations, space_group.xhm()
        assert rotations | as_set(-group.rotations) == as_set(laue_rotations(space_group))
        if not space_group.is_centrosymmetric():
            assert rotations == own, space_group.xhm()


@pytest.mark.parametrize(
    ("group", "space_group", "expected"),
    [
        ("P 1", "P 1", "P 1"),
        ("P 43 21 2", None, "P 4 2 2"),
        ("4/m", "P 41", "P 4"),
        ("4/m", "I -4", "P -4"),  # the crystal's own point group, improper
        ("P 1 m 1", "P 1 m 1", "P 1 m 1"),
        ("4/mmm", "P 41", "P 4 2 2"),  # not the crystal's Laue group: proper rotations
        ("-1", "P -1", "P 1"),
        ("2/m", None, "P 1 2 1"),
        ("P 2 2 2", "P m m 2", "P 2 2 2"),  # what is given comes first
    ],
)
def test_the_point_group_follows_from_what_is_given(group, space_group, expected):
    assert equivalence_group(group, "apart", space_group).symbol == expected


def test_other_words_are_refused():
    with pytest.raises(InputError, match="friedel must be one of merged, apart, got 'split'"):
        equivalence_group("P 1", "split")
    with pytest.raises(InputError, match="laue_group must be a space group or one of"):
        equivalence_group("5/m", "apart")
