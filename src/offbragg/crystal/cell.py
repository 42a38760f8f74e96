"""Unit cells: six numbers, and the matrices between fractional and Cartesian coordinates."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import gemmi
import numpy as np

from offbragg.conventions import CELL_REFUSE_FRACTION, CELL_WARN_FRACTION, FloatArray
from offbragg.errors import InputError

logger = logging.getLogger(__name__)


class Cell(NamedTuple):
    """A unit cell: edges a, b, c [Å] and angles alpha, beta, gamma [degrees].

    A tuple, so that it is immutable, compares by value and turns into six numbers anywhere
    (``np.array(cell)``, ``gemmi.UnitCell(*cell)``). Build one from other input with `as_cell`.
    The Cartesian frame is that of PDB files: x along a, z along c*.
    """

    a: float
    b: float
    c: float
    alpha: float
    beta: float
    gamma: float

    @property
    def parameters(self) -> tuple[float, float, float, float, float, float]:
        """The six numbers as a plain tuple [Å, degrees]."""
        return self.a, self.b, self.c, self.alpha, self.beta, self.gamma

    @property
    def orth_matrix(self) -> FloatArray:
        """Matrix (3, 3) [Å] from fractional to Cartesian; its columns are a, b, c."""
        return np.array(gemmi.UnitCell(*self).orth.mat.tolist())

    @property
    def frac_matrix(self) -> FloatArray:
        """Matrix (3, 3) [Å⁻¹] from Cartesian to fractional; its rows are a*, b*, c* (no 2π)."""
        return np.array(gemmi.UnitCell(*self).frac.mat.tolist())

    @property
    def volume(self) -> float:
        """Volume [Å³]."""
        return float(gemmi.UnitCell(*self).volume)

    @property
    def reciprocal_lengths(self) -> FloatArray:
        """Lengths (3,) of a*, b*, c* [Å⁻¹], without 2π."""
        lengths: FloatArray = np.linalg.norm(self.frac_matrix, axis=1)
        return lengths

    def __str__(self) -> str:
        edges = " ".join(f"{x:.3f}" for x in self[:3])
        return f"{edges} Å, {' '.join(f'{x:.2f}' for x in self[3:])}°"


def as_cell(value: object) -> Cell:
    """Return a checked `Cell` from a `Cell`, a gemmi cell, six numbers or text of six numbers.

    Raises
    ------
    InputError
        If there are not six finite numbers, or they do not span a volume.

    Examples
    --------
    >>> as_cell("10, 20, 30, 90, 90, 90").volume
    6000.0
    """
    if isinstance(value, gemmi.UnitCell):
        value = value.parameters
    if isinstance(value, str):
        value = value.replace(",", " ").split()
    if not isinstance(value, Sequence | np.ndarray):
        raise InputError(f"cell must be six numbers a b c alpha beta gamma, got {value!r}")
    try:
        numbers = [float(x) for x in value]
    except (TypeError, ValueError):
        raise InputError(
            f"cell must be six numbers a b c alpha beta gamma, got {value!r}"
        ) from None
    if len(numbers) != 6:
        raise InputError(f"cell must be six numbers a b c alpha beta gamma, got {len(numbers)}")
    cell = Cell(*numbers)
    edges_ok = all(np.isfinite(numbers)) and min(numbers[:3]) > 0
    angles_ok = edges_ok and all(0 < angle < 180 for angle in numbers[3:])
    if not (angles_ok and _relative_volume_squared(numbers[3:]) > 1e-9):
        raise InputError(f"cell must have edges > 0 Å and angles that span a volume, got {value}")
    return cell


def _relative_volume_squared(angles: Sequence[float]) -> float:
    """(V / abc)² for three angles [degrees]; not positive where they do not span a volume."""
    cosines = np.cos(np.radians(angles))
    return 1 - float(cosines @ cosines) + 2 * float(np.prod(cosines))


def check_cells_agree(cell: Cell, other: Cell, what: str) -> None:
    """Warn where two cells differ by more than 0.5 % in an edge or angle, refuse above 3 %.

    Raises
    ------
    InputError
        Above 3 %: the two cannot be the same crystal form.
    """
    difference = np.abs(np.array(cell) / np.array(other) - 1)
    worst = int(np.argmax(difference))
    text = (
        f"{what}: cell {Cell._fields[worst]} differs by {100 * difference[worst]:.2f} % "
        f"({cell[worst]:.3f} and {other[worst]:.3f})"
    )
    if difference[worst] > CELL_REFUSE_FRACTION:
        raise InputError(f"{text}; expected at most {100 * CELL_REFUSE_FRACTION:g} %")
    if difference[worst] > CELL_WARN_FRACTION:
        logger.warning("%s; voxels are matched by hkl", text)
