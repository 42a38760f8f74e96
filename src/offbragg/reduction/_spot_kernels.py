"""Compiled loops: which pixels are of drawn nodes, what is within a spot's ellipsoid, what around.

Scope: arrays in, arrays changed in place.
"""

from __future__ import annotations

import numpy as np
from numba import njit

#: Columns of a spot's sums: pixels and photons within; 6 moments of pixels and 6 of photons, 00 11
#: 22 01 02 12; pixels and photons around.
N_SUMS = 16


@njit(cache=True, nogil=True)
def sum_spots(offsets, photons, spot, inverse, limits, sums):
    """Sum pixels by spot.

    Parameters: offsets (n_pixels, 3), photons (n_pixels,), spot (n_pixels,) the number of each
    pixel's spot; inverse (n_spots, 3, 3), of the covariance of each; limits, of the square of the
    distance, below the first of which a pixel is within and above the second around; sums
    (n_spots, N_SUMS), zeros that are changed.
    """
    for pixel in range(len(photons)):
        n = spot[pixel]
        x, y, z = offsets[pixel, 0], offsets[pixel, 1], offsets[pixel, 2]
        g = inverse[n]
        square = g[0, 0] * x * x + g[1, 1] * y * y + g[2, 2] * z * z
        square += 2.0 * (g[0, 1] * x * y + g[0, 2] * x * z + g[1, 2] * y * z)
        count = photons[pixel]
        own = sums[n]
        if square >= limits[0]:
            if square >= limits[1]:
                own[14] += 1.0
                own[15] += count
            continue
        own[0] += 1.0
        own[1] += count
        products = (x * x, y * y, z * z, x * y, x * z, y * z)
        for k in range(6):
            own[2 + k] += products[k]
            own[8 + k] += count * products[k]


@njit(cache=True, nogil=True)
def draw_pixels(directions, matrix, vector, image_index, limit, found):
    """Find the pixels whose nearest node is drawn, by a number that its indices and the image make.

    Parameters: directions (n_pixels, 3) float32; matrix (3, 3) and vector (3,), of the transform to
    hkl; image_index; limit, of 32 bits of that number; found (n_pixels,) int64, gets the pixels in
    their order. Returns how many those are.
    """
    n = 0
    m, v = matrix, vector
    image = np.uint64(image_index)
    for pixel in range(directions.shape[0]):
        x = np.float64(directions[pixel, 0])
        y = np.float64(directions[pixel, 1])
        z = np.float64(directions[pixel, 2])
        h = np.uint64(np.int64(np.rint(m[0, 0] * x + m[0, 1] * y + m[0, 2] * z - v[0])))
        k = np.uint64(np.int64(np.rint(m[1, 0] * x + m[1, 1] * y + m[1, 2] * z - v[1])))
        l = np.uint64(np.int64(np.rint(m[2, 0] * x + m[2, 1] * y + m[2, 2] * z - v[2])))  # noqa: E741
        mixed = h * np.uint64(73856093) ^ k * np.uint64(19349663) ^ l * np.uint64(83492791)
        mixed = (mixed + image) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        if mixed >> np.uint64(32) < limit:
            found[n] = pixel
            n += 1
    return n
