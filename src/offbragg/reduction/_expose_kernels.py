"""Compiled loop of `offbragg.reduction.expose`: a map's mean over the arc of every pixel."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from offbragg.conventions import FloatArray


@njit(cache=True, nogil=True)
def interpolate_linear(values: NDArray[np.float32], x: float, y: float, z: float) -> float:
    """Trilinear value of a grid (n_x, n_y, n_z) at fractional indices; 0 at nodes outside it."""
    n_x, n_y, n_z = values.shape
    if not (-1.0 < x < n_x and -1.0 < y < n_y and -1.0 < z < n_z):
        return 0.0
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    fraction_x, fraction_y, fraction_z = x - i, y - j, z - k
    total = 0.0
    for a in range(2):
        if not 0 <= i + a < n_x:
            continue
        weight_x = fraction_x if a == 1 else 1.0 - fraction_x
        for b in range(2):
            if not 0 <= j + b < n_y:
                continue
            weight_xy = weight_x * (fraction_y if b == 1 else 1.0 - fraction_y)
            for c in range(2):
                if 0 <= k + c < n_z:
                    weight = weight_xy * (fraction_z if c == 1 else 1.0 - fraction_z)
                    total += weight * values[i + a, j + b, k + c]
    return total


@njit(cache=True, nogil=True)
def add_mean_along_arc(
    values: NDArray[np.float32],
    directions: FloatArray,
    matrices: FloatArray,
    vectors: FloatArray,
    weight: float,
    out: FloatArray,
) -> None:
    """Add ``weight`` times a map's mean over orientations to ``out`` (n_pixels,).

    A pixel seen in direction p/|p| (n_pixels, 3) stands, in orientation r, at the fractional
    index ``matrices[r] @ p/|p| − vectors[r]`` of the map (n_h, n_k, n_l).
    """
    n_turns = len(matrices)
    share = weight / n_turns
    for pixel in range(len(directions)):
        d0, d1, d2 = directions[pixel, 0], directions[pixel, 1], directions[pixel, 2]
        total = 0.0
        for turn in range(n_turns):
            m, v = matrices[turn], vectors[turn]
            total += interpolate_linear(
                values,
                m[0, 0] * d0 + m[0, 1] * d1 + m[0, 2] * d2 - v[0],
                m[1, 0] * d0 + m[1, 1] * d1 + m[1, 2] * d2 - v[1],
                m[2, 0] * d0 + m[2, 1] * d1 + m[2, 2] * d2 - v[2],
            )
        out[pixel] += share * total
