"""Chips: the parts of a detector that may each respond in their own way, numbered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from offbragg.errors import InputError
from offbragg.reduction.panel import Panel

_MOST = np.iinfo(np.uint16).max + 1


def check_chips(chips: tuple[int, int]) -> None:
    """Check how many chips a panel is said to have along its axes."""
    if any(n < 1 or n != int(n) for n in chips):
        raise InputError(f"chips must be two whole numbers >= 1, got {chips[0]}, {chips[1]}")


def number_chips(
    detector: Sequence[Panel], chips: tuple[int, int]
) -> tuple[NDArray[np.uint16] | None, ...]:
    """Number the chips of a detector through all panels, and say which one each pixel is of.

    Parameters
    ----------
    detector : sequence of Panel
    chips : tuple of 2 int
        Equal parts of each panel along its fast and its slow axis. Where a panel has gaps between
        modules, the ends of equal parts lie in these.

    Returns
    -------
    tuple of ndarray, shape (slow, fast), uint16, or None
        One a panel; None for all where the detector is a single chip. Along the fast axis first,
        then along the slow one, then the next panel.

    Examples
    --------
    >>> from offbragg.made_crystal import make_experiment
    >>> cell = (30, 30, 40, 90, 90, 90)
    >>> detector = make_experiment(cell, "P 1", d_min=3.0, n_images=4, n_pixels=32).detector
    >>> [np.unique(chips[0]).tolist() for chips in number_chips(detector, (2, 1))]
    [[0, 1], [2, 3]]
    """
    check_chips(chips)
    n_fast, n_slow = chips
    each = n_fast * n_slow
    if each * len(detector) == 1:
        return (None,)
    if each * len(detector) > _MOST:
        raise InputError(f"chips: expected {_MOST} at most, got {each * len(detector)}")
    found = []
    for number, panel in enumerate(detector):
        rows, columns = panel.shape
        if n_slow > rows or n_fast > columns:
            raise InputError(
                f"chips: panel {number} has {columns} x {rows} pixels, fewer than the chips "
                f"{n_fast} x {n_slow}"
            )
        row = np.arange(rows) * n_slow // rows
        column = np.arange(columns) * n_fast // columns
        found.append((each * number + row[:, None] * n_fast + column).astype(np.uint16))
    return tuple(found)
