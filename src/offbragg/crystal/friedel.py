"""Which operations make intensities equivalent: with Friedel's law, or with mates kept apart.

Without anomalous scattering I(h) = I(-h), and equivalents are those of the Laue group. With it, or
where errors such as absorption differ between h and -h, only those of the point group are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offbragg.conventions import IntArray
from offbragg.crystal.symmetry import (
    laue_rotations,
    laue_symbol,
    point_rotations,
    primitive_symbol,
)
from offbragg.errors import InputError

#: Friedel mates averaged as equivalents, or not.
FRIEDEL = ("merged", "apart")


@dataclass(frozen=True, eq=False)
class EquivalenceGroup:
    """Operations whose equivalents are to have one intensity.

    Attributes
    ----------
    symbol : str
        `point_rotations` of it gives the rotations back: a Laue symbol (``"4/m"``) with Friedel's
        law, the primitive space group of the point group (``"P 4"``) without.
    rotations : ndarray, shape (n, 3, 3), int64
    """

    symbol: str
    rotations: IntArray


def check_friedel(friedel: str) -> None:
    """Check that it is one of `FRIEDEL`.

    Raises
    ------
    InputError
        If it is not.
    """
    if friedel not in FRIEDEL:
        raise InputError(f"friedel must be one of {', '.join(FRIEDEL)}, got {friedel!r}")


def equivalence_group(
    group: object, friedel: str = "merged", space_group: object = None
) -> EquivalenceGroup:
    """Give the operations to average by.

    Parameters
    ----------
    group : str, int or gemmi.SpaceGroup
        A Laue symbol or a space group.
    friedel : str
        merged: the Laue group. apart: the point group. That is the group's own where it has no
        inversion; else the space group's, where its Laue group is the group's; else the proper
        rotations of the group.
    space_group : str, int or gemmi.SpaceGroup, optional
        The crystal's.

    Raises
    ------
    InputError
        If ``friedel`` is neither, or a group is unknown.

    Examples
    --------
    >>> [equivalence_group("P 41", x).symbol for x in FRIEDEL]
    ['4/m', 'P 4']
    >>> equivalence_group("2/m", "apart", "P 1 c 1").symbol
    'P 1 m 1'
    """
    check_friedel(friedel)
    if friedel == "merged":
        return EquivalenceGroup(laue_symbol(group), laue_rotations(group))
    rotations = point_rotations(group)
    if has_inversion(rotations):
        own = None if space_group is None else point_rotations(space_group)
        if (
            own is not None
            and not has_inversion(own)
            and np.array_equal(laue_rotations(space_group), rotations)
        ):
            rotations = own
        else:
            rotations = rotations[np.linalg.det(rotations) > 0]
    symbol = primitive_symbol(rotations)
    if symbol is None:
        raise InputError(f"friedel apart: the point group of {group} has no symbol in these axes")
    return EquivalenceGroup(symbol, rotations)


def has_inversion(rotations: IntArray) -> bool:
    """Tell whether -1 is among rotations (n, 3, 3)."""
    inversion = -np.eye(3, dtype=np.int64)
    return bool(np.any(np.all(rotations == inversion, axis=(1, 2))))
