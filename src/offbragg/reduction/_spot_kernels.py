"""Compiled loop over the pixels of spots: what is within a spot's ellipsoid, and what around it.

Scope: arrays in, arrays changed in place.
"""

from __future__ import annotations

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
