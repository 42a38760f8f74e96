r"""Isotropic backgrounds as a linear basis in \|q\|, so that a fit profiles them out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import BSpline

from offbragg.conventions import TWO_PI, FloatArray, IntArray
from offbragg.errors import InputError
from offbragg.maps.shells import isotropic_shells

BACKGROUNDS = ("smooth", "shells", "none")
N_SMOOTH = 10


@dataclass(frozen=True)
class Background:
    r"""An isotropic background over a range of \|q\|.

    Attributes
    ----------
    kind : {"smooth", "shells", "none"}
        "smooth": ten cubic B-splines on equal intervals of \|q\|. "shells": a constant for each
        shell of 0.01 Å⁻¹ in 1/d, which leaves the anisotropic part to the model. "none": zero.
    knots : ndarray
        Of the splines [Å⁻¹]; the numbers of the shells; empty.
    """

    kind: str
    knots: FloatArray | IntArray

    @classmethod
    def over(cls, q_length: FloatArray, kind: str, n_smooth: int = N_SMOOTH) -> Background:
        r"""Choose the functions for data at \|q\| (n,) [Å⁻¹]; of smooth ones, so many.

        Raises
        ------
        InputError
            If the kind is none of these.

        Examples
        --------
        >>> Background.over(np.linspace(0.1, 3, 50), "smooth").basis(np.array([1.0, 2.0])).shape
        (2, 10)
        """
        if kind not in BACKGROUNDS:
            raise InputError(f"background must be one of {' '.join(BACKGROUNDS)}, got {kind!r}")
        if kind == "none":
            return cls(kind, np.empty(0))
        if kind == "shells":
            return cls(kind, np.unique(_shell_numbers(q_length)))
        first, last = float(np.min(q_length)), float(np.max(q_length))
        inner = np.linspace(first, max(last, first + 1e-6), n_smooth - 2)
        return cls(kind, np.concatenate([[inner[0]] * 3, inner, [inner[-1]] * 3]))

    def basis(self, q_length: FloatArray) -> FloatArray:
        r"""Evaluate the functions at \|q\| (n,): shape (n, n_functions).

        Beyond the range of the data the splines keep their end values; shells without data are 0.
        """
        if self.kind == "none":
            return np.zeros((len(q_length), 0))
        if self.kind == "shells":
            equal: FloatArray = (_shell_numbers(q_length)[:, None] == self.knots).astype(np.float64)
            return equal
        inside = np.clip(q_length, self.knots[0], self.knots[-1])
        smooth: FloatArray = BSpline.design_matrix(inside, self.knots, 3).toarray()
        return smooth


def _shell_numbers(q_length: FloatArray) -> IntArray:
    return isotropic_shells(q_length / TWO_PI)
