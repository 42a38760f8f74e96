"""Checks of the arrays that geometry is made of."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from offbragg.conventions import FloatArray
from offbragg.errors import InputError

#: Lengths, angles and matrices beyond this are damage, and their squares would overflow.
LARGEST = 1e30


def checked_array(name: str, values: ArrayLike, shape: tuple[int | None, ...]) -> FloatArray:
    """Return finite float64 numbers of a shape (None: any length), or say what is wrong."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be numbers, got {values!r}") from None
    fits = array.ndim == len(shape) and all(
        wanted in (None, found) for wanted, found in zip(shape, array.shape, strict=True)
    )
    if not fits:
        wanted_text = tuple("n" if n is None else n for n in shape)
        raise InputError(f"{name} must have shape {wanted_text}, got {array.shape}")
    if not np.all(np.abs(array) < LARGEST):  # nor NaN
        raise InputError(f"{name} must be finite numbers, got {array.tolist()}")
    return array


def set_unit_vectors(holder: object, *names: str) -> None:
    """Replace vectors (3,) of a frozen object that is being made by unit vectors."""
    for name in names:
        vector = checked_array(name, getattr(holder, name), (3,))
        length = np.linalg.norm(vector)
        if not length > 0:
            raise InputError(f"{name} must not be zero, got {vector.tolist()}")
        object.__setattr__(holder, name, vector / length)
