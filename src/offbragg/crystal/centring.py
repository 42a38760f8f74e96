"""Which nodes of the reciprocal lattice the centring of a space group leaves."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from offbragg.conventions import BoolArray
from offbragg.crystal.symmetry import space_group_operations


def allowed_nodes(space_group: object) -> BoolArray:
    """Tell which nodes the centring leaves, by hkl modulo n.

    Returns
    -------
    ndarray, shape (n, n, n), bool
        n = 1 for primitive lattices, 2 for A, B, C, I, F, 3 for R in hexagonal axes.

    Examples
    --------
    >>> allowed_nodes("I 2 3").tolist()
    [[[True, False], [False, True]], [[False, True], [True, False]]]
    """
    operations = space_group_operations(space_group)
    pure = np.all(operations.rotations == np.eye(3, dtype=np.int64), axis=(1, 2))
    translations = operations.translations[pure]
    denominators = [Fraction(x).limit_denominator(24).denominator for x in translations.ravel()]
    n = math.lcm(*denominators)
    hkl = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1)
    phase = hkl @ translations.T
    allowed: BoolArray = np.all(np.abs(phase - np.rint(phase)) < 1e-6, axis=-1)
    return allowed
