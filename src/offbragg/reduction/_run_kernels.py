"""Compiled loops over runs of consecutive pixels: their voxels, and which are near to a node.

Scope: arrays in, arrays changed in place. What is far from the grid is passed over by the run;
the voxels of the others are found four at a time; only pixels that may be near to a node are
looked at one by one. Conventions as in `_kernels`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from offbragg.reduction._node_kernels import (
    FUSED,
    comes_near,
    has_node,
    is_near_node,
    node_metric,
)

# Consecutive pixels that are looked at together: what is far from the grid is passed over.
RUN = 256


@njit(cache=True, nogil=True, fastmath=FUSED)
def bound_runs(directions, bounds):
    """Find a ball about the rays of each RUN consecutive pixels.

    ``directions`` (n_pixels, 3); ``bounds`` (n_runs, 4) gets the centre and the radius, float64.
    """
    for run in range(bounds.shape[0]):
        rays = directions[RUN * run : RUN * run + RUN]
        for axis in range(3):
            bounds[run, axis] = 0.5 * (rays[:, axis].min() + rays[:, axis].max())
        square = 0.0
        for ray in range(rays.shape[0]):
            x = rays[ray, 0] - bounds[run, 0]
            y = rays[ray, 1] - bounds[run, 1]
            z = rays[ray, 2] - bounds[run, 2]
            square = max(square, x * x + y * y + z * z)
        bounds[run, 3] = np.sqrt(square) + 1e-12  # more than what rounding takes away


@njit(cache=True, nogil=True, fastmath=FUSED)
def is_beside(bound, transform, grid):
    """Tell whether no ray within a ball leads into the grid."""
    m, v = transform
    first, shape, sampling = grid
    x, y, z, radius = bound
    for axis in range(3):
        a, b, c = m[axis, 0], m[axis, 1], m[axis, 2]
        at = (a * x + b * y + c * z - v[axis]) * sampling[axis] + 0.5 - first[axis]
        reach = radius * np.sqrt(a * a + b * b + c * c) * sampling[axis]
        if at + reach < 0.0 or at - reach >= shape[axis]:
            return True
    return False


@njit(cache=True, nogil=True, fastmath=FUSED)
def longest_path(bound, change):
    """Bound how far hkl goes during the image, in any index, for rays within a ball."""
    m, v = change
    x, y, z, radius = bound
    longest = 0.0
    for axis in range(3):
        a, b, c = m[axis, 0], m[axis, 1], m[axis, 2]
        far = abs(a * x + b * y + c * z - v[axis]) + radius * np.sqrt(a * a + b * b + c * c)
        longest = max(longest, far)
    return longest


@njit(cache=True, nogil=True, fastmath=FUSED)
def locate_pixels(photons, directions, begin, end, transform, grid, safe, reach, hkl, place, doubt):
    """Find the voxels of the pixels from begin to end, without a branch, so that four go at a time.

    ``directions`` (3 n_pixels,) are those of `accumulate_pixels`, flattened. ``hkl`` (3 of RUN,)
    gets the indices, ``place`` (RUN,) the voxel, −1 of pixels that are excluded or beside the
    grid, ``doubt`` (RUN,) what is 0 or more where a path of a length up to ``reach`` may come near
    to a node, see `is_near_node` for ``safe``; float64. Indices of arrays are unsigned: others are
    tested for being negative.
    """
    m, v = transform
    first, shape, sampling = grid
    m00, m01, m02, v0 = m[0, 0], m[0, 1], m[0, 2], v[0]
    m10, m11, m12, v1 = m[1, 0], m[1, 1], m[1, 2], v[1]
    m20, m21, m22, v2 = m[2, 0], m[2, 1], m[2, 2], v[2]
    per_h, per_k, per_l = sampling
    half_h, half_k, half_l = 0.5 - first[0], 0.5 - first[1], 0.5 - first[2]
    n_h, n_k, n_l = float(shape[0]), float(shape[1]), float(shape[2])
    hs, ks, ls = hkl
    # A node is near if off is small (all indices near to one) or, on a long path, if it is large.
    beyond, close = safe - 0.5 * reach, 1.0 - safe + 0.5 * reach
    first_pixel, first_number = np.uint64(begin), np.uint64(3 * begin)
    for at in range(np.uint64(end - begin)):
        number = first_number + np.uint64(3) * at
        x = np.float64(directions[number])
        y = np.float64(directions[number + np.uint64(1)])
        z = np.float64(directions[number + np.uint64(2)])
        count = photons[first_pixel + at]
        h = m00 * x + m01 * y + m02 * z - v0
        k = m10 * x + m11 * y + m12 * z - v1
        l = m20 * x + m21 * y + m22 * z - v2  # noqa: E741
        i = np.floor(h * per_h + half_h)
        j = np.floor(k * per_k + half_k)
        o = np.floor(l * per_l + half_l)
        inside = (i >= 0.0) & (i < n_h) & (j >= 0.0) & (j < n_k) & (o >= 0.0) & (o < n_l)
        place[at] = (i * n_k + j) * n_l + o if inside & (count == count) else -1.0
        hs[at], ks[at], ls[at] = h, k, l
        off_h, off_k = abs(h - np.floor(h + 0.5)), abs(k - np.floor(k + 0.5))
        off_l = abs(l - np.floor(l + 0.5))
        # The built-in max would keep the loop from going four at a time.
        off = off_h if off_h > off_k else off_k
        off = off if off > off_l else off_l
        far, near = off - beyond, close - off
        doubt[at] = far if far > near else near


@njit(cache=True, nogil=True, fastmath=FUSED)
def leave_out(directions, begin, end, hkl, change, bragg, doubt, place):
    """Set ``place`` to −1 for those of the doubtful pixels that are near to a node.

    Or, where those near to one are wanted, for all pixels but those.
    """
    radius, safe, _, metric, modulus, nodes, _, is_wanted_near, growth = bragg
    m, v = change
    m00, m01, m02, v0 = m[0, 0], m[0, 1], m[0, 2], v[0]
    m10, m11, m12, v1 = m[1, 0], m[1, 1], m[1, 2], v[1]
    m20, m21, m22, v2 = m[2, 0], m[2, 1], m[2, 2], v[2]
    hs, ks, ls = hkl
    last_h, last_k, last_l = np.inf, np.inf, np.inf
    own = metric
    is_there = True
    for at in range(end - begin):
        if place[at] < 0.0:
            continue
        is_near = False
        if doubt[at] >= 0.0:
            pixel = np.uint64(begin + at)
            x, y, z = directions[pixel, 0], directions[pixel, 1], directions[pixel, 2]
            dh = m00 * x + m01 * y + m02 * z - v0
            dk = m10 * x + m11 * y + m12 * z - v1
            dl = m20 * x + m21 * y + m22 * z - v2
            h, k, l = hs[at], ks[at], ls[at]  # noqa: E741
            h0, k0, l0 = np.floor(h + 0.5), np.floor(k + 0.5), np.floor(l + 0.5)
            x, y, z = h - h0, k - k0, l - l0
            off = max(abs(x), abs(y), abs(z)) + 0.5 * max(abs(dh), abs(dk), abs(dl))
            if off >= safe:
                is_near = is_near_node(h, k, l, dh, dk, dl, bragg)
            else:  # only the nearest node is within reach
                if h0 != last_h or k0 != last_k or l0 != last_l:
                    last_h, last_k, last_l = h0, k0, l0
                    own = node_metric(h0, k0, l0, metric, growth)
                    is_there = modulus == 1 or has_node(h0, k0, l0, modulus, nodes) == 1
                is_near = is_there and comes_near(x, y, z, dh, dk, dl, own, radius)
        if is_near != is_wanted_near:
            place[at] = -1.0
