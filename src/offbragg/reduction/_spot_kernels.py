"""Compiled loops: which pixels are of drawn nodes, what is within a spot's ellipsoid, what around.

Scope: arrays in, arrays changed in place.
"""

from __future__ import annotations

import numpy as np
from numba import njit

#: Columns of a spot's sums: pixels and photons within; 6 moments of pixels and 6 of photons, 00 11
#: 22 01 02 12; pixels and photons around.
N_SUMS = 16
#: Nodes as one number: h, k and l from −`HALF` to `HALF` − 1, in as many bits each.
CODE_BITS = 20
HALF = 1 << (CODE_BITS - 1)


@njit(cache=True, nogil=True)
def sum_spots(offsets, photons, begins, inverse, limits, sums):
    """Sum pixels by spot.

    Parameters: offsets (n_pixels, 3), photons (n_pixels,); begins (n_spots + 1,), the first pixel
    of each spot; inverse (n_spots, 3, 3), of the covariance of each; limits, of the square of the
    distance, below the first of which a pixel is within and above the second around; sums
    (n_spots, N_SUMS), overwritten.
    """
    for n in range(len(begins) - 1):
        g = inverse[n]
        xx, yy, zz = g[0, 0], g[1, 1], g[2, 2]
        xy, xz, yz = 2.0 * g[0, 1], 2.0 * g[0, 2], 2.0 * g[1, 2]
        own = sums[n]
        own[:] = 0.0
        n_around, around = 0, 0.0
        for pixel in range(begins[n], begins[n + 1]):
            x = np.float64(offsets[pixel, 0])
            y = np.float64(offsets[pixel, 1])
            z = np.float64(offsets[pixel, 2])
            square = xx * x * x + yy * y * y + zz * z * z + xy * x * y + xz * x * z + yz * y * z
            count = np.float64(photons[pixel])
            if square >= limits[0]:
                if square >= limits[1]:
                    n_around += 1
                    around += count
                continue
            own[0] += 1.0
            own[1] += count
            products = (x * x, y * y, z * z, x * y, x * z, y * z)
            for k in range(6):
                own[2 + k] += products[k]
                own[8 + k] += count * products[k]
        own[14] = n_around
        own[15] = around


@njit(cache=True, nogil=True)
def draw_pixels(directions, transform, reach, draw, pixels, codes, offsets):
    """Find the pixels whose nearest node is drawn, by a number that its indices and the image make.

    Parameters: directions (n_pixels, 3) float32; transform, matrix (3, 3) and vector (3,) to hkl;
    reach, the lattice's to_q (3, 3), the square of the largest 1/d, and whether nodes are there,
    bool, by hkl modulo its length; draw, the image's number and a limit of 32 bits. What is found
    is written to pixels (n_pixels,) int64; codes (n_pixels,) int64, see `CODE_BITS`; and offsets
    (n_pixels, 3) float32, from the node, times to_q. Returns how many those are.
    """
    m, v = transform
    to_q, largest, is_there = reach
    image, limit = draw
    n_there = np.int64(len(is_there))
    n = 0
    for pixel in range(directions.shape[0]):
        x = np.float64(directions[pixel, 0])
        y = np.float64(directions[pixel, 1])
        z = np.float64(directions[pixel, 2])
        h = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z - v[0]
        k = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z - v[1]
        l = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z - v[2]  # noqa: E741
        node_h, node_k, node_l = np.rint(h), np.rint(k), np.rint(l)
        i, j, p = np.int64(node_h), np.int64(node_k), np.int64(node_l)
        mixed = np.uint64(i) * np.uint64(73856093) ^ np.uint64(j) * np.uint64(19349663)
        mixed ^= np.uint64(p) * np.uint64(83492791)
        mixed = (mixed + np.uint64(image)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        if mixed >> np.uint64(32) >= limit:
            continue
        square = 0.0
        for axis in range(3):
            q = node_h * to_q[0, axis] + node_k * to_q[1, axis] + node_l * to_q[2, axis]
            square += q * q
        if square == 0.0 or square >= largest:
            continue
        if not is_there[i % n_there, j % n_there, p % n_there]:
            continue
        pixels[n] = pixel
        codes[n] = (((i + HALF) << CODE_BITS) + j + HALF << CODE_BITS) + p + HALF
        h, k, l = h - node_h, k - node_k, l - node_l  # noqa: E741
        for axis in range(3):
            offsets[n, axis] = h * to_q[0, axis] + k * to_q[1, axis] + l * to_q[2, axis]
        n += 1
    return n
