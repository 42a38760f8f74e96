"""Compiled loops over pixels: which voxel each falls in, and how far it stays from Bragg nodes.

Scope: arrays in, arrays changed in place. Conventions: ``photons`` NaN = excluded; a transform is
(matrix, vector) with hkl = matrix · direction − vector; ``first`` and ``shape`` are those of an
`HklGrid`. Each loop runs without the interpreter lock; one set of sums belongs to one thread.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Columns of the sums of a voxel; those beyond N_SUMS only where sums have WIDE columns.
SUM_INTENSITY, SUM_VARIANCE, SUM_FACTOR, SUM_WEIGHT = 0, 1, 2, 3
N_SUMS = 4
SUM_EXPECTED, SUM_X, SUM_Y, SUM_OWN, SUM_OFF = 4, 5, 6, 7, 8  # the last one for h, k and l
WIDE = 11


@njit(cache=True, nogil=True)
def comes_near(x, y, z, dx, dy, dz, metric, radius):
    """Tell whether the path from (x, y, z) − d/2 to (x, y, z) + d/2 comes within a radius of 0."""
    m00, m11, m22, m01, m02, m12 = metric
    gx = m00 * dx + m01 * dy + m02 * dz
    gy = m01 * dx + m11 * dy + m12 * dz
    gz = m02 * dx + m12 * dy + m22 * dz
    length = dx * gx + dy * gy + dz * gz
    along = abs(x * gx + y * gy + z * gz)
    own = m00 * x * x + m11 * y * y + m22 * z * z
    own += 2.0 * (m01 * x * y + m02 * x * z + m12 * y * z)
    if along >= 0.5 * length:  # an end of the path is nearest; also where there is no path
        return own + 0.25 * length - along < radius * radius
    return own * length - along * along < radius * radius * length


@njit(cache=True, nogil=True)
def node_metric(h, k, l, metric, growth):  # noqa: E741
    """Metric at the node (h, k, l): the inverse of C + a (n·Gn) G⁻¹ + b nnᵀ, or ``metric``.

    ``growth`` holds a, b, and six numbers each of C, G and G⁻¹; ``metric`` is where a = b = 0.
    """
    a, b, own, g, r = growth
    if a == 0.0 and b == 0.0:
        return metric
    square = g[0] * h * h + g[1] * k * k + g[2] * l * l
    a *= square + 2.0 * (g[3] * h * k + g[4] * h * l + g[5] * k * l)
    c00, c11, c22 = own[0] + a * r[0], own[1] + a * r[1], own[2] + a * r[2]
    c01, c02, c12 = own[3] + a * r[3], own[4] + a * r[4], own[5] + a * r[5]
    c00, c11, c22 = c00 + b * h * h, c11 + b * k * k, c22 + b * l * l
    c01, c02, c12 = c01 + b * h * k, c02 + b * h * l, c12 + b * k * l
    i00, i01, i02 = c11 * c22 - c12 * c12, c02 * c12 - c01 * c22, c01 * c12 - c02 * c11
    f = 1.0 / (c00 * i00 + c01 * i01 + c02 * i02)
    i11, i22, i12 = c00 * c22 - c02 * c02, c00 * c11 - c01 * c01, c01 * c02 - c00 * c12
    return f * i00, f * i11, f * i22, f * i01, f * i02, f * i12


@njit(cache=True, nogil=True)
def has_node(h, k, l, modulus, nodes):  # noqa: E741
    """Tell whether the centring leaves the node (h, k, l), whole numbers as floats."""
    bit = (int(h) % modulus) * modulus + int(k) % modulus
    return (nodes >> (bit * modulus + int(l) % modulus)) & 1


@njit(cache=True, nogil=True)
def _is_near_any(h, k, l, dh, dk, dl, bragg):  # noqa: E741
    """Try all nodes that the path may come near to; the general case of `is_near_node`."""
    radius, _, spacing, metric, modulus, nodes, span, _, growth = bragg
    n_points = 2 + int(max(abs(dh), abs(dk), abs(dl)) / spacing)
    for point in range(n_points):
        t = point / (n_points - 1.0) - 0.5
        h0 = np.floor(h + t * dh + 0.5)
        k0 = np.floor(k + t * dk + 0.5)
        l0 = np.floor(l + t * dl + 0.5)
        for h_step in range(-span, span + 1):
            for k_step in range(-span, span + 1):
                for l_step in range(-span, span + 1):
                    h1, k1, l1 = h0 + h_step, k0 + k_step, l0 + l_step
                    if modulus > 1 and not has_node(h1, k1, l1, modulus, nodes):
                        continue
                    near = node_metric(h1, k1, l1, metric, growth)
                    if comes_near(h - h1, k - k1, l - l1, dh, dk, dl, near, radius):
                        return True
    return False


@njit(cache=True, nogil=True)
def is_near_node(h, k, l, dh, dk, dl, bragg):  # noqa: E741
    """Tell whether the path from hkl − d/2 to hkl + d/2 comes within a radius of a Bragg node.

    ``bragg`` holds numbers only (arrays would be counted in and out at every pixel): radius,
    safe, spacing, metric, modulus, nodes, span, whether near ones are those that are wanted (the
    loops ask for that), and growth. The distance is sqrt(Δ·metric·Δ), metric its six numbers
    00 11 22 01 02 12, another one at each node where there is growth, see `node_metric`. A path
    that stays within ``safe`` of a node, in every index, can come near to that one only. Otherwise
    points at most ``spacing`` apart (in the index that changes most) along it choose the nodes to
    try: the nearest, and those off it by up to ``span``. Bit (h n + k) n + l of ``nodes`` says
    whether a node with these indices modulo n is there.
    """
    radius, safe, _, metric, modulus, nodes, _, _, growth = bragg
    h0, k0, l0 = np.floor(h + 0.5), np.floor(k + 0.5), np.floor(l + 0.5)
    x, y, z = h - h0, k - k0, l - l0
    off = max(abs(x), abs(y), abs(z))
    reach = max(abs(dh), abs(dk), abs(dl))
    if off + 0.5 * reach >= safe:
        return _is_near_any(h, k, l, dh, dk, dl, bragg)
    if off - 0.5 * reach > 1.0 - safe:  # most pixels: further in one index than the radius
        return False
    # Only the node nearest to the middle is within reach.
    near = node_metric(h0, k0, l0, metric, growth)
    if not comes_near(x, y, z, dh, dk, dl, near, radius):
        return False
    return modulus == 1 or has_node(h0, k0, l0, modulus, nodes) == 1


@njit(cache=True, nogil=True)
def accumulate_pixels(pixels, motion, grid, bragg, voxels):
    """Add one image to the sums, every pixel whole to the voxel that its centre falls in.

    Parameters, all tuples: pixels, of photons (n_pixels,), directions (n_pixels, 3) and κ
    (n_pixels,), float32, the image's scale, and what variances exceed the photons by (n_pixels or
    0: nothing) float32; motion, of the transform in the middle of the
    image and its change over the image; grid, of first (3,) float64, shape (3,) int64, sampling
    (3,) float64; bragg, see `is_near_node` (radius 0: none); voxels, of sums (n_voxels, N_SUMS or
    WIDE) floats and counts (n_voxels,) int32, changed in place, and for WIDE ones of touched
    (n_voxels,) int64, the voxels that got their first pixel, how many those are (1,), and axes
    (2, 3) that directions are noted along.
    """
    photons, directions, factors, scale, excess = pixels
    has_excess = excess.shape[0] > 0
    (m, v), (dm, dv) = motion
    sums, counts, touched, n_touched, axes = voxels
    is_wide = sums.shape[1] == WIDE
    first, shape, sampling = grid
    radius, is_wanted_near = bragg[0], bragg[7]
    n_h, n_k, n_l = shape
    half_h, half_k, half_l = 0.5 - first[0], 0.5 - first[1], 0.5 - first[2]
    for pixel in range(photons.shape[0]):
        count = photons[pixel]
        if count != count:
            continue
        x, y, z = directions[pixel, 0], directions[pixel, 1], directions[pixel, 2]
        h = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z - v[0]
        at_h = h * sampling[0] + half_h
        i = int(np.floor(at_h))
        if i < 0 or i >= n_h:
            continue
        k = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z - v[1]
        at_k = k * sampling[1] + half_k
        j = int(np.floor(at_k))
        if j < 0 or j >= n_k:
            continue
        l = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z - v[2]  # noqa: E741
        at_l = l * sampling[2] + half_l
        o = int(np.floor(at_l))
        if o < 0 or o >= n_l:
            continue
        if radius > 0.0:
            dh = dm[0, 0] * x + dm[0, 1] * y + dm[0, 2] * z - dv[0]
            dk = dm[1, 0] * x + dm[1, 1] * y + dm[1, 2] * z - dv[1]
            dl = dm[2, 0] * x + dm[2, 1] * y + dm[2, 2] * z - dv[2]
            if is_near_node(h, k, l, dh, dk, dl, bragg) != is_wanted_near:
                continue
        voxel = (i * n_k + j) * n_l + o
        factor = scale * factors[pixel]
        sums[voxel, 0] += count * factor
        more = excess[pixel] if has_excess else np.float32(0.0)
        sums[voxel, 1] += (count + more) * factor * factor
        sums[voxel, 2] += factor * factor
        sums[voxel, 3] += 1.0
        if is_wide:
            if counts[voxel] == 0:
                touched[n_touched[0]] = voxel
                n_touched[0] += 1
            sums[voxel, 4] += factor
            sums[voxel, 5] += x * axes[0, 0] + y * axes[0, 1] + z * axes[0, 2]
            sums[voxel, 6] += x * axes[1, 0] + y * axes[1, 1] + z * axes[1, 2]
            sums[voxel, 7] += more * factor * factor
            sums[voxel, 8] += at_h - i - 0.5
            sums[voxel, 9] += at_k - j - 0.5
            sums[voxel, 10] += at_l - o - 0.5
        counts[voxel] += 1


@njit(cache=True, nogil=True)
def accumulate_samples(pixels, motion, grid, bragg, voxels, samples):
    """Add one image to the sums, every pixel split over points of its area and its rotation.

    The parameters are those of `accumulate_pixels` and samples, a tuple of: steps (n_points, 3)
    float64, the points of a pixel from its centre [mm]; nearness (n_pixels,) float32, one over
    the distance of each pixel [mm⁻¹]; matrices (n_rotations, 3, 3) and vectors (n_rotations, 3)
    float64, the transforms through the image. A pixel adds w = the part of its points in a voxel;
    whether it is near a Bragg node is said of its centre and whole path, as for whole pixels.
    """
    photons, directions, factors, scale, excess = pixels
    has_excess = excess.shape[0] > 0
    (m, v), (dm, dv) = motion
    sums, counts, touched, n_touched, axes = voxels
    is_wide = sums.shape[1] == WIDE
    first, shape, sampling = grid
    steps, nearness, matrices, vectors = samples
    radius, is_wanted_near = bragg[0], bragg[7]
    n_h, n_k, n_l = shape
    half_h, half_k, half_l = 0.5 - first[0], 0.5 - first[1], 0.5 - first[2]
    n_points, n_rotations = steps.shape[0], matrices.shape[0]
    share = 1.0 / (n_points * n_rotations)
    found = np.empty(n_points * n_rotations, dtype=np.int64)
    weights = np.empty(n_points * n_rotations, dtype=np.float64)
    off = np.empty((n_points * n_rotations, 3), dtype=np.float64)
    for pixel in range(photons.shape[0]):
        count = photons[pixel]
        if count != count:
            continue
        x, y, z = directions[pixel, 0], directions[pixel, 1], directions[pixel, 2]
        if radius > 0.0:
            h = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z - v[0]
            k = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z - v[1]
            l = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z - v[2]  # noqa: E741
            dh = dm[0, 0] * x + dm[0, 1] * y + dm[0, 2] * z - dv[0]
            dk = dm[1, 0] * x + dm[1, 1] * y + dm[1, 2] * z - dv[1]
            dl = dm[2, 0] * x + dm[2, 1] * y + dm[2, 2] * z - dv[2]
            if is_near_node(h, k, l, dh, dk, dl, bragg) != is_wanted_near:
                continue
        n_found = 0
        for point in range(n_points):
            a = x + steps[point, 0] * nearness[pixel]
            b = y + steps[point, 1] * nearness[pixel]
            c = z + steps[point, 2] * nearness[pixel]
            length = np.sqrt(a * a + b * b + c * c)
            a, b, c = a / length, b / length, c / length
            for turn in range(n_rotations):
                t, u = matrices[turn], vectors[turn]
                h = t[0, 0] * a + t[0, 1] * b + t[0, 2] * c - u[0]
                k = t[1, 0] * a + t[1, 1] * b + t[1, 2] * c - u[1]
                l = t[2, 0] * a + t[2, 1] * b + t[2, 2] * c - u[2]  # noqa: E741
                at_h = h * sampling[0] + half_h
                at_k = k * sampling[1] + half_k
                at_l = l * sampling[2] + half_l
                i, j, o = int(np.floor(at_h)), int(np.floor(at_k)), int(np.floor(at_l))
                if i < 0 or i >= n_h or j < 0 or j >= n_k or o < 0 or o >= n_l:
                    continue
                voxel = (i * n_k + j) * n_l + o
                place = n_found
                for known in range(n_found):
                    if found[known] == voxel:
                        place = known
                        break
                if place == n_found:
                    found[place], weights[place] = voxel, 0.0
                    off[place, 0] = off[place, 1] = off[place, 2] = 0.0
                    n_found += 1
                weights[place] += share
                off[place, 0] += share * (at_h - i - 0.5)
                off[place, 1] += share * (at_k - j - 0.5)
                off[place, 2] += share * (at_l - o - 0.5)
        factor = scale * factors[pixel]
        more = excess[pixel] if has_excess else np.float32(0.0)
        for place in range(n_found):
            voxel, w = found[place], weights[place]
            sums[voxel, 0] += w * count * factor
            sums[voxel, 1] += w * w * (count + more) * factor * factor
            sums[voxel, 2] += w * w * factor * factor
            sums[voxel, 3] += w
            if is_wide:
                if counts[voxel] == 0:
                    touched[n_touched[0]] = voxel
                    n_touched[0] += 1
                sums[voxel, 4] += w * w * factor
                sums[voxel, 5] += w * (x * axes[0, 0] + y * axes[0, 1] + z * axes[0, 2])
                sums[voxel, 6] += w * (x * axes[1, 0] + y * axes[1, 1] + z * axes[1, 2])
                sums[voxel, 7] += w * w * more * factor * factor
                sums[voxel, 8] += off[place, 0]
                sums[voxel, 9] += off[place, 1]
                sums[voxel, 10] += off[place, 2]
            counts[voxel] += 1
