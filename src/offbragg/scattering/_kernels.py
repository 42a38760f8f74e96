"""Compiled loops of the scattering layer; their clear twins are in `reference`.

Each writes into arrays that it is given, in an order that does not depend on the number of
threads: the parallel loops run over parts of the output.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange


@njit(cache=True)
def _least_eigenvalue(d):
    """Least eigenvalue of a symmetric matrix (3, 3), in closed form."""
    off = d[0, 1] * d[0, 1] + d[0, 2] * d[0, 2] + d[1, 2] * d[1, 2]
    if off == 0.0:
        return min(d[0, 0], d[1, 1], d[2, 2])
    mean = (d[0, 0] + d[1, 1] + d[2, 2]) / 3.0
    a, b, c = d[0, 0] - mean, d[1, 1] - mean, d[2, 2] - mean
    size = math.sqrt((a * a + b * b + c * c + 2.0 * off) / 6.0)
    determinant = (
        a * (b * c - d[1, 2] * d[1, 2])
        - d[0, 1] * (d[0, 1] * c - d[1, 2] * d[0, 2])
        + d[0, 2] * (d[0, 1] * d[1, 2] - b * d[0, 2])
    )
    cosine = min(1.0, max(-1.0, 0.5 * determinant / size**3))
    angle = math.acos(cosine) / 3.0
    return mean + 2.0 * size * math.cos(angle + 2.0 * math.pi / 3.0)


@njit(cache=True)
def pair_gaussians(first, second, same, fractions, isotropic, anisotropic, extra, to_index):
    """Centres and covariances, in grid steps, of the Gaussians of all pairs (first[i], second[j]).

    fractions (n_atoms, 3): positions in grid steps. isotropic (n, n) or (0, 0); anisotropic
    (n, n, 3, 3) or (0, 0, 0, 0); extra (n, 3, 3) or (0, 0, 0), uncorrelated on top. to_index (3, 3)
    turns Å into grid steps. same: take i < j only. Covariances: xx xy xz yy yz zz. Also the least
    eigenvalue of each covariance, in Å².
    """
    n_first, n_second = len(first), len(second)
    n_pairs = n_first * (n_first - 1) // 2 if same else n_first * n_second
    centres = np.empty((n_pairs, 3))
    covariances = np.empty((n_pairs, 6))
    least = np.empty(n_pairs)
    d = np.zeros((3, 3))
    pair = 0
    for i in range(n_first):
        a = first[i]
        for j in range(i + 1 if same else 0, n_second):
            b = second[j]
            d[:] = 0.0
            if len(isotropic):
                scalar = isotropic[a, a] + isotropic[b, b] - 2.0 * isotropic[a, b]
                d[0, 0] = d[1, 1] = d[2, 2] = scalar
            if len(anisotropic):
                for x in range(3):
                    for y in range(3):
                        d[x, y] += (
                            anisotropic[a, a, x, y]
                            + anisotropic[b, b, x, y]
                            - anisotropic[a, b, x, y]
                            - anisotropic[a, b, y, x]
                        )
            if len(extra):
                for x in range(3):
                    for y in range(3):
                        d[x, y] += extra[a, x, y] + extra[b, x, y]
            least[pair] = _least_eigenvalue(d)
            for x in range(3):
                centres[pair, x] = fractions[a, x] - fractions[b, x]
            entry = 0
            for x in range(3):
                for y in range(x, 3):
                    total = 0.0
                    for u in range(3):
                        for v in range(3):
                            total += to_index[x, u] * d[u, v] * to_index[y, v]
                    covariances[pair, entry] = total
                    entry += 1
            pair += 1
    return centres, covariances, least


@njit(cache=True)
def slab_members(centres, covariances, radius, n_x, edges):
    """Which Gaussians reach which slab of rows: counts (n_slabs + 1,) and members, in order."""
    n_slabs = len(edges) - 1
    starts = np.zeros(n_slabs + 1, np.int64)
    for sweep in range(2):
        if sweep == 1:
            for s in range(n_slabs):
                starts[s + 1] += starts[s]
            members = np.empty(starts[n_slabs], np.int64)
            filled = starts[:n_slabs].copy()
        for g in range(len(centres)):
            half = radius * math.sqrt(covariances[g, 0])
            low = math.ceil(centres[g, 0] - half)
            high = math.floor(centres[g, 0] + half)
            for s in range(n_slabs):
                # Rows low..high, wrapped, meet edges[s]..edges[s+1]-1?
                shift = (low - edges[s]) % n_x
                if shift < edges[s + 1] - edges[s] or shift + (high - low) >= n_x:
                    if sweep == 0:
                        starts[s + 1] += 1
                    else:
                        members[filled[s]] = g
                        filled[s] += 1
    return starts, members


# How far a row's middle may move from the node that its profile is made for, in steps.
_REACH = 4


@njit(cache=True)
def _fill_profile(profile, curvature, offset):
    """Samples exp(-k²/2 l33² - k offset / l33²), k = -half..half, by geometric series."""
    half = len(profile) // 2
    profile[half] = 1.0
    falling = math.exp(-curvature)
    up_ratio = math.exp(-(0.5 + offset) * curvature)
    down_ratio = math.exp(-(0.5 - offset) * curvature)
    up, down = 1.0, 1.0
    for k in range(1, half + 1):
        up *= up_ratio
        down *= down_ratio
        profile[half + k] = up
        profile[half - k] = down
        up_ratio *= falling
        down_ratio *= falling


@njit(cache=True)
def _add_row(grid, row, y, first, profile, start, n, value):
    """Add value · profile[start : start + n] to a periodic line from node first on."""
    n_z = grid.shape[2]
    iz = first
    while iz < 0:
        iz += n_z
    while iz >= n_z:
        iz -= n_z
    while n > 0:
        m = min(n, n_z - iz)
        i0 = np.uint64(iz)
        s0 = np.uint64(start)
        r0 = np.uint64(row)
        y0 = np.uint64(y)
        for t in range(np.uint64(m)):
            grid[r0, y0, i0 + t] += value * profile[s0 + t]
        start += m
        n -= m
        iz = 0


@njit(cache=True)
def _splat_rows(grid, row_0, row_1, centre, c, weight, radius, profile, turns):
    """Add one Gaussian to the rows row_0..row_1-1 of a periodic grid.

    Its samples come row by row from c = L Lᵀ: with u = L⁻¹ d the exponent is u·u, so that the
    middle and the half width of each row follow without searching. A row is ``value`` times a
    profile around the node z_ref; from row to row both change by geometric series, so that the
    innermost loops only multiply and add. Each plane of constant x is filled out to a parallelogram
    around its ellipse, which costs a quarter more samples and saves finding the ends of each row.
    profile, turns: work space, 2 half + 1 numbers each.
    """
    n_x, n_y, _ = grid.shape
    l11 = math.sqrt(c[0])
    l21 = c[1] / l11
    l31 = c[2] / l11
    l22 = math.sqrt(c[3] - l21 * l21)
    l32 = (c[4] - l31 * l21) / l22
    l33 = math.sqrt(c[5] - l31 * l31 - l32 * l32)
    peak = weight / ((2.0 * math.pi) ** 1.5 * l11 * l22 * l33)
    curvature = 1.0 / (l33 * l33)
    half = int(radius * l33) + _REACH + 2
    profile, turns = profile[: 2 * half + 1], turns[: 2 * half + 1]
    inv_22 = 1.0 / l22
    tilt = l32 / l22  # of the rows' middles, steps in z for a step in y
    is_tilted = abs(tilt) > 1e-12
    turn = math.exp(tilt * curvature)
    turns[0] = math.exp(-half * tilt * curvature)
    for k in range(2 * half):
        turns[k + 1] = turns[k] * turn
    y_falling = math.exp(-1.0 / (l22 * l22) - tilt * tilt * curvature)
    is_upright = not is_tilted and abs(l31) < 1e-12
    z_ref, offset = 0, 2.0 * _REACH
    r2 = radius * radius
    x_half = radius * l11
    for ix in range(math.ceil(centre[0] - x_half), math.floor(centre[0] + x_half) + 1):
        row = ix % n_x
        if row < row_0 or row >= row_1:
            continue
        u1 = (ix - centre[0]) / l11
        left = r2 - u1 * u1
        if left <= 0.0:
            continue
        reach = math.sqrt(left)
        y_mid = centre[1] + l21 * u1
        z_row = centre[2] + l31 * u1
        y_first = math.ceil(y_mid - l22 * reach)
        y_last = math.floor(y_mid + l22 * reach)
        z_half = l33 * reach
        y = y_first % n_y
        u2 = (y_first - y_mid) * inv_22
        if not is_upright:
            offset = 2.0 * _REACH
        if abs(offset) <= _REACH:
            # An upright Gaussian has the same profile everywhere.
            value = peak * math.exp(-0.5 * (u1 * u1 + u2 * u2 + offset * offset * curvature))
            growth = math.exp(-(u2 + 0.5 * inv_22) * inv_22)
        else:
            value, growth = 0.0, 0.0
        for iy in range(y_first, y_last + 1):
            z_mid = z_row + l32 * u2
            if abs(offset) > _REACH:
                # First row, or the middle has moved on: begin again from the nearest node.
                z_ref = round(z_mid)
                offset = z_ref - z_mid
                _fill_profile(profile, curvature, offset)
                u2 = (iy - y_mid) * inv_22
                value = peak * math.exp(-0.5 * (u1 * u1 + u2 * u2 + offset * offset * curvature))
                growth = math.exp(
                    -(u2 + 0.5 * inv_22) * inv_22 + tilt * (offset - 0.5 * tilt) * curvature
                )
            first = math.ceil(z_mid - z_half)
            n = math.floor(z_mid + z_half) - first + 1
            _add_row(grid, row, y, first, profile, half + first - z_ref, n, value)
            u2 += inv_22
            y = y + 1 if y + 1 < n_y else 0
            value *= growth
            growth *= y_falling
            if is_tilted:
                offset -= tilt
                for k in range(len(profile)):
                    profile[k] *= turns[k]


@njit(cache=True, parallel=True)
def splat(grid, centres, covariances, weights, radius, edges, starts, members):
    """Add Gaussians (centres, covariances in grid steps, total weights) to a periodic grid."""
    longest = 2 * (int(radius * math.sqrt(np.max(covariances[:, 5]))) + _REACH + 2) + 1
    for s in prange(len(edges) - 1):
        profile, turns = np.empty(longest), np.empty(longest)
        for m in range(starts[s], starts[s + 1]):
            g = members[m]
            _splat_rows(
                grid, edges[s], edges[s + 1], centres[g], covariances[g], weights[g], radius,
                profile, turns,
            )  # fmt: skip


@njit(cache=True, parallel=True)
def diffuse_direct(q, positions, amplitudes_re, amplitudes_im, isotropic, anisotropic, out):
    """Diffuse intensity at scattered q by the double sum over atoms; see `reference`.

    w_i w_j (exp(x) - 1) with x = qᵀV_ij q is taken as w_i w_j expm1(x) for small x and otherwise as
    exp(-qᵀD q / 2) - w_i w_j, which cannot overflow: the exponent is never positive.
    """
    n_q, n_atoms = amplitudes_re.shape
    for iq in prange(n_q):
        qx, qy, qz = q[iq, 0], q[iq, 1], q[iq, 2]
        q2 = qx * qx + qy * qy + qz * qz
        re, im, half = np.empty(n_atoms), np.empty(n_atoms), np.empty(n_atoms)
        for i in range(n_atoms):
            phase = qx * positions[i, 0] + qy * positions[i, 1] + qz * positions[i, 2]
            c, s = math.cos(phase), math.sin(phase)
            re[i] = amplitudes_re[iq, i] * c - amplitudes_im[iq, i] * s
            im[i] = amplitudes_re[iq, i] * s + amplitudes_im[iq, i] * c
            x = 0.0
            if len(isotropic):
                x += q2 * isotropic[i, i]
            if len(anisotropic):
                v = anisotropic[i, i]
                x += qx * (v[0, 0] * qx + 2.0 * v[0, 1] * qy + 2.0 * v[0, 2] * qz)
                x += qy * (v[1, 1] * qy + 2.0 * v[1, 2] * qz) + qz * v[2, 2] * qz
            half[i] = 0.5 * x
        total = 0.0
        for i in range(n_atoms):
            total -= (re[i] * re[i] + im[i] * im[i]) * math.expm1(-2.0 * half[i])
            pairs = 0.0
            for j in range(i):
                x = 0.0
                if len(isotropic):
                    x += q2 * isotropic[i, j]
                if len(anisotropic):
                    v = anisotropic[i, j]
                    x += qx * (v[0, 0] * qx + (v[0, 1] + v[1, 0]) * qy + (v[0, 2] + v[2, 0]) * qz)
                    x += qy * (v[1, 1] * qy + (v[1, 2] + v[2, 1]) * qz) + qz * v[2, 2] * qz
                if x == 0.0:
                    continue
                damping = half[i] + half[j]
                if x < 1.0:
                    factor = math.exp(-damping) * math.expm1(x)
                else:
                    factor = math.exp(x - damping) - math.exp(-damping)
                pairs += (re[i] * re[j] + im[i] * im[j]) * factor
            total += 2.0 * pairs
        out[iq] = total


@njit(cache=True, parallel=True)
def gather_orbit(half, extent, first, rotations, out):
    """Sum a half-lattice's values over images m R of each node m of a full grid.

    half: values on a `HalfLattice`; first (3,): the index m of out[0, 0, 0]; rotations
    (n, 3, 3): on indices, as row vectors. Images outside the lattice count as 0.
    """
    n_x, n_y, n_z = out.shape
    for i in prange(n_x):
        for j in range(n_y):
            for k in range(n_z):
                total = 0.0
                for g in range(len(rotations)):
                    r = rotations[g]
                    a, b, c = first[0] + i, first[1] + j, first[2] + k
                    x = a * r[0, 0] + b * r[1, 0] + c * r[2, 0]
                    y = a * r[0, 1] + b * r[1, 1] + c * r[2, 1]
                    z = a * r[0, 2] + b * r[1, 2] + c * r[2, 2]
                    if z < 0:
                        x, y, z = -x, -y, -z
                    if abs(x) <= extent[0] and abs(y) <= extent[1] and z <= extent[2]:
                        total += half[x + extent[0], y + extent[1], z]
                out[i, j, k] = total
