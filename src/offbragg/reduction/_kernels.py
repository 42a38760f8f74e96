"""Compiled loops over pixels: which voxel each falls in, and what it adds to that.

Scope: arrays in, arrays changed in place. Conventions: ``photons`` NaN = excluded; a transform is
(matrix, vector) with hkl = matrix · direction − vector; ``first`` and ``shape`` are those of an
`HklGrid`. Each loop runs without the interpreter lock; one set of sums belongs to one thread.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from offbragg.reduction._node_kernels import FUSED, is_near_node
from offbragg.reduction._run_kernels import (
    RUN,
    is_beside,
    leave_out,
    locate_pixels,
    longest_path,
)

# Columns of the sums of a voxel; those beyond N_SUMS only where sums have WIDE columns.
SUM_INTENSITY, SUM_VARIANCE, SUM_FACTOR, SUM_WEIGHT = 0, 1, 2, 3
N_SUMS = 4
SUM_EXPECTED, SUM_X, SUM_Y, SUM_OWN, SUM_OFF = 4, 5, 6, 7, 8  # the last one for h, k and l
SUM_CHIP = 11
WIDE = 12


@njit(cache=True, nogil=True, fastmath=FUSED)
def _add_one(sums, counts, voxel, part, count, more, factor):
    """Add a part of a pixel to the first columns of a voxel's sums."""
    square = part * part
    sums[voxel, SUM_INTENSITY] += part * count * factor
    sums[voxel, SUM_VARIANCE] += square * (count + more) * factor * factor
    sums[voxel, SUM_FACTOR] += square * factor * factor
    sums[voxel, SUM_WEIGHT] += part
    counts[voxel] += 1


@njit(cache=True, nogil=True, fastmath=FUSED)
def _note_one(voxels, voxel, part, chip, ray, more, factor, off):
    """Add a part of a pixel to the further columns of a wedge, before `_add_one`.

    off: from the middle of the voxel, in voxels, times the part.
    """
    sums, counts, touched, n_touched, axes = voxels
    x, y, z = ray
    if counts[voxel] == 0:
        touched[n_touched[0]] = voxel
        n_touched[0] += 1
        sums[voxel, SUM_CHIP] = chip
    square = part * part
    sums[voxel, SUM_EXPECTED] += square * factor
    sums[voxel, SUM_X] += part * (x * axes[0, 0] + y * axes[0, 1] + z * axes[0, 2])
    sums[voxel, SUM_Y] += part * (x * axes[1, 0] + y * axes[1, 1] + z * axes[1, 2])
    sums[voxel, SUM_OWN] += square * more * factor * factor
    sums[voxel, SUM_OFF] += off[0]
    sums[voxel, SUM_OFF + 1] += off[1]
    sums[voxel, SUM_OFF + 2] += off[2]


@njit(cache=True, nogil=True, fastmath=FUSED)
def _add(pixels, begin, end, place, sums, counts):
    """Add the pixels from begin to end to the sums of their voxels."""
    photons, _, factors, scale, excess, _ = pixels
    has_excess = excess.shape[0] > 0
    for at in range(end - begin):
        if place[at] >= 0.0:
            pixel, voxel = np.uint64(begin + at), np.uint64(place[at])
            more = excess[pixel] if has_excess else np.float32(0.0)
            _add_one(sums, counts, voxel, 1.0, photons[pixel], more, scale * factors[pixel])


@njit(cache=True, nogil=True, fastmath=FUSED)
def _add_wide(pixels, begin, end, hkl, grid, place, voxels):
    """Add the pixels from begin to end to the sums of their voxels, all columns of a wedge."""
    photons, directions, factors, scale, excess, chips = pixels
    sums, counts = voxels[0], voxels[1]
    first, shape, sampling = grid
    hs, ks, ls = hkl
    has_excess = excess.shape[0] > 0
    n_k, n_l = shape[1], shape[2]
    half_h, half_k, half_l = 0.5 - first[0], 0.5 - first[1], 0.5 - first[2]
    for at in range(end - begin):
        if place[at] < 0.0:
            continue
        pixel, voxel = begin + at, int(place[at])
        ray = (directions[pixel, 0], directions[pixel, 1], directions[pixel, 2])
        factor = scale * factors[pixel]
        more = excess[pixel] if has_excess else np.float32(0.0)
        chip = chips[pixel] if chips.shape[0] > 0 else np.uint16(0)
        i, j, o = voxel // (n_k * n_l), voxel // n_l % n_k, voxel % n_l
        off = (
            hs[at] * sampling[0] + half_h - i - 0.5,
            ks[at] * sampling[1] + half_k - j - 0.5,
            ls[at] * sampling[2] + half_l - o - 0.5,
        )
        _note_one(voxels, voxel, 1.0, chip, ray, more, factor, off)
        _add_one(sums, counts, voxel, 1.0, photons[pixel], more, factor)


@njit(cache=True, nogil=True, fastmath=FUSED)
def accumulate_pixels(pixels, bounds, motion, grid, bragg, voxels):
    """Add one image to the sums, every pixel whole to the voxel that its centre falls in.

    Parameters, all tuples: pixels, of photons (n_pixels,), directions (n_pixels, 3) and κ
    (n_pixels,), float32, the image's scale, what variances exceed the photons by (n_pixels or
    0: nothing) float32, and chips (n_pixels or 0: all are of one) uint16; bounds (n_runs, 4), see
    `bound_runs`; motion, of the transform in the middle of the image and its change over the
    image; grid, of first (3,) float64, shape (3,) int64, sampling (3,) float64; bragg, see
    `is_near_node` (radius 0: none); voxels, of sums (n_voxels, N_SUMS or WIDE) floats and counts
    (n_voxels,) int32, changed in place, and for WIDE ones of touched (n_voxels,) int64, the voxels
    that got their first pixel, how many those are (1,), and axes (2, 3) that directions are noted
    along.
    """
    photons, directions = pixels[0], pixels[1]
    transform, change = motion
    sums, counts = voxels[0], voxels[1]
    radius, safe = bragg[0], bragg[1]
    flat = directions.reshape(-1)
    place, doubt = np.empty(RUN), np.empty(RUN)
    hkl = (np.empty(RUN), np.empty(RUN), np.empty(RUN))
    for run in range(bounds.shape[0]):
        bound = (bounds[run, 0], bounds[run, 1], bounds[run, 2], bounds[run, 3])
        if is_beside(bound, transform, grid):
            continue
        begin = RUN * run
        end = min(begin + RUN, photons.shape[0])
        reach = longest_path(bound, change)
        locate_pixels(photons, flat, begin, end, transform, grid, safe, reach, hkl, place, doubt)
        if radius > 0.0:
            leave_out(directions, begin, end, hkl, change, bragg, doubt, place)
        if sums.shape[1] == WIDE:
            _add_wide(pixels, begin, end, hkl, grid, place, voxels)
        else:
            _add(pixels, begin, end, place, sums, counts)


@njit(cache=True, nogil=True, fastmath=FUSED)
def accumulate_samples(pixels, motion, grid, bragg, voxels, samples):
    """Add one image to the sums, every pixel split over points of its area and its rotation.

    The parameters are those of `accumulate_pixels` and samples, a tuple of: steps (n_points, 3)
    float64, the points of a pixel from its centre [mm]; nearness (n_pixels,) float32, one over
    the distance of each pixel [mm⁻¹]; matrices (n_rotations, 3, 3) and vectors (n_rotations, 3)
    float64, the transforms through the image. A pixel adds w = the part of its points in a voxel;
    whether it is near a Bragg node is said of its centre and whole path, as for whole pixels.
    """
    photons, directions, factors, scale, excess, chips = pixels
    has_excess = excess.shape[0] > 0
    (m, v), (dm, dv) = motion
    sums, counts = voxels[0], voxels[1]
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
        chip = chips[pixel] if chips.shape[0] > 0 else np.uint16(0)
        for place in range(n_found):
            voxel, part = found[place], weights[place]
            if is_wide:
                _note_one(voxels, voxel, part, chip, (x, y, z), more, factor, off[place])
            _add_one(sums, counts, voxel, part, count, more, factor)
