r"""The conventions of the package, one place each: 2π in q, U against B, the size of Δq of a shell.

====================  ==========================================================================
scattering vector     ``q = 2π (h a* + k b* + l c*)`` [Å⁻¹], \|q\| = 4π sin θ / λ = 2π / d
phase                 ``F(q) = Σ f exp(+i q·r)``
displacements         ``U = ⟨u²⟩`` per Cartesian axis [Å²]; ``B = 8π² U`` only where a file has B
covariance            ``V_ij = ⟨δ_i δ_jᵀ⟩`` [Å²]
intensity             electron units, e² per unit cell
array axes            0, 1, 2 are h, k, l
====================  ==========================================================================
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Scalar = TypeVar("Scalar", float, FloatArray)

TWO_PI = 2.0 * np.pi
B_PER_U = 8.0 * np.pi**2  # B = 8π² U

#: Width [Å⁻¹, in 1/d] of the shells whose means are the isotropic part of a map.
ISOTROPIC_SHELL_WIDTH = 0.01

#: Unit cells further apart than this, in any edge or angle, give a warning or an error.
CELL_WARN_FRACTION, CELL_REFUSE_FRACTION = 0.005, 0.03


def u_from_b(b: Scalar) -> Scalar:
    """Mean-square displacement U [Å²] from B = 8π²U [Å²].

    >>> u_from_b(8 * np.pi**2)
    1.0
    """
    return b / B_PER_U


def b_from_u(u: Scalar) -> Scalar:
    """B = 8π²U [Å²] from the mean-square displacement U [Å²].

    >>> round(b_from_u(0.25), 3)
    19.739
    """
    return B_PER_U * u


def stol2_from_q(q_length: FloatArray) -> FloatArray:
    """(sin θ/λ)² [Å⁻²] from |q| [Å⁻¹], by sin θ/λ = q/4π.

    >>> float(stol2_from_q(np.float64(4 * np.pi)))
    1.0
    """
    return (q_length / (2.0 * TWO_PI)) ** 2
