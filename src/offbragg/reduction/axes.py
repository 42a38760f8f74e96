"""Chains of rotations and translations, as imgCIF and NeXus describe detectors and goniometers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray
from offbragg.reduction.geometry import rotation_matrix


@dataclass(frozen=True, eq=False)
class Axis:
    """One motion: x → R(vector, value) x + offset, or x → x + value · vector + offset.

    Attributes
    ----------
    name : str
    turns : bool
        A rotation, otherwise a translation.
    vector : ndarray, shape (3,)
        Direction in the laboratory with all axes at zero.
    values : ndarray, shape (n,)
        Settings [radians, mm]: one, or one for each image.
    offset : ndarray, shape (3,)
        [mm].
    """

    name: str
    turns: bool
    vector: FloatArray
    values: FloatArray
    offset: FloatArray

    @property
    def value(self) -> float:
        """Setting, of the first image where it varies."""
        return float(self.values[0])


def place(chain: Sequence[Axis], point: ArrayLike = (0.0, 0.0, 0.0)) -> FloatArray:
    """Move a point (3,) by a chain of axes, the one that carries it first [mm].

    Examples
    --------
    >>> forward = Axis("z", False, np.array([0, 0, 1.0]), np.array([100.0]), np.zeros(3))
    >>> swing = Axis("2θ", True, np.array([1.0, 0, 0]), np.array([np.pi / 2]), np.zeros(3))
    >>> place([forward, swing]).round(9).tolist()
    [0.0, -100.0, 0.0]
    """
    x = np.asarray(point, dtype=np.float64)
    for axis in chain:
        moved = rotation_matrix(axis.vector, axis.value) @ x if axis.turns else _shifted(axis, x)
        x = moved + axis.offset
    return x


def direction(chain: Sequence[Axis], vector: ArrayLike) -> FloatArray:
    """Turn a direction (3,) by the rotations of a chain."""
    turned = np.asarray(vector, dtype=np.float64)
    for axis in chain:
        if axis.turns:
            turned = rotation_matrix(axis.vector, axis.value) @ turned
    return turned


def _shifted(axis: Axis, x: FloatArray) -> FloatArray:
    length = np.linalg.norm(axis.vector)
    moved: FloatArray = x + (axis.value / length * axis.vector if length > 0 else 0.0)
    return moved
