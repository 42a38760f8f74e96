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


@njit(cache=True, parallel=True)
def pair_gaussians(first, second, triangle, positions, covariance, u_aniso):
    """Separations [Å], relative covariances [Å²] and their least eigenvalues of pairs of atoms.

    Pairs (first[i], second[j]), all or, where ``triangle``, i < j only. covariance: V of those
    atoms, (n_first, n_second, 1, 1) isotropic or (n_first, n_second, 3, 3), or of length 0 for
    none; u_aniso (n_atoms, 3, 3): V_ii. Relative covariances: xx xy xz yy yz zz of
    ``V_ii + V_jj − V_ij − V_ijᵀ``.
    """
    n_first, n_second = len(first), len(second)
    n_pairs = n_first * (n_first - 1) // 2 if triangle else n_first * n_second
    separations = np.empty((n_pairs, 3))
    relative = np.empty((n_pairs, 6))
    least = np.empty(n_pairs)
    has_blocks = len(covariance) > 0 and covariance.shape[2] == 3
    has_scalars = len(covariance) > 0 and covariance.shape[2] == 1
    for i in prange(n_first):
        d = np.empty((3, 3))
        a = first[i]
        begin = i + 1 if triangle else 0
        pair = i * n_first - i * (i + 1) // 2 if triangle else i * n_second
        for j in range(begin, n_second):
            b = second[j]
            for x in range(3):
                for y in range(3):
                    d[x, y] = u_aniso[a, x, y] + u_aniso[b, x, y]
                    if has_blocks:
                        d[x, y] -= covariance[i, j, x, y] + covariance[i, j, y, x]
                if has_scalars:
                    d[x, x] -= 2.0 * covariance[i, j, 0, 0]
            least[pair] = _least_eigenvalue(d)
            entry = 0
            for x in range(3):
                separations[pair, x] = positions[a, x] - positions[b, x]
                for y in range(x, 3):
                    relative[pair, entry] = d[x, y]
                    entry += 1
            pair += 1
    return separations, relative, least


@njit(cache=True)
def least_eigenvalues(matrices):
    """Least eigenvalue of each symmetric matrix (n, 6), xx xy xz yy yz zz."""
    out = np.empty(len(matrices))
    d = np.empty((3, 3))
    for i in range(len(matrices)):
        m = matrices[i]
        d[0, 0], d[0, 1], d[0, 2], d[1, 1], d[1, 2], d[2, 2] = m[0], m[1], m[2], m[3], m[4], m[5]
        out[i] = _least_eigenvalue(d)
    return out


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
_REACH = 2


@njit(cache=True)
def _fill_profile(profile, live, curvature, offset):
    """Samples exp(-k²/2 l33² - k offset / l33²), k = -live..live, by geometric series."""
    half = len(profile) // 2
    profile[half] = 1.0
    falling = math.exp(-curvature)
    up_ratio = math.exp(-(0.5 + offset) * curvature)
    down_ratio = math.exp(-(0.5 - offset) * curvature)
    up, down = 1.0, 1.0
    for k in range(1, live + 1):
        up *= up_ratio
        down *= down_ratio
        profile[half + k] = up
        profile[half - k] = down
        up_ratio *= falling
        down_ratio *= falling


@njit(cache=True)
def _add_row(line, first, profile, start, n, value):
    """Add value · profile[start : start + n] to a periodic line from node first on."""
    n_z = len(line)
    iz = first
    while iz < 0:
        iz += n_z
    while iz >= n_z:
        iz -= n_z
    while n > 0:
        m = min(n, n_z - iz)
        i0 = np.uint64(iz)
        s0 = np.uint64(start)
        for t in range(np.uint64(m)):
            line[i0 + t] += value * profile[s0 + t]
        start += m
        n -= m
        iz = 0


@njit(cache=True)
def _add_polynomial_row(line, first, profile, start, n, c0, c1, c2):
    """Add profile[start + t] (c0 + c1 t + c2 t²), t = 0 … n − 1, from node first on."""
    n_z = len(line)
    iz = first
    while iz < 0:
        iz += n_z
    while iz >= n_z:
        iz -= n_z
    done = 0
    while done < n:
        m = min(n - done, n_z - iz)
        i0 = np.uint64(iz)
        s0 = np.uint64(start + done)
        for t in range(np.uint64(m)):
            x = float(done + t)
            line[i0 + t] += profile[s0 + t] * (c0 + x * (c1 + x * c2))
        done += m
        iz = 0


@njit(cache=True, fastmath={"reassoc", "contract"})
def _row_moments(line, first, profile, start, n):
    """Sums of line · profile times 1, t, t², t = 0 … n − 1, from node first on."""
    n_z = len(line)
    iz = first
    while iz < 0:
        iz += n_z
    while iz >= n_z:
        iz -= n_z
    done = 0
    m0, m1, m2 = 0.0, 0.0, 0.0
    while done < n:
        m = min(n - done, n_z - iz)
        i0 = np.uint64(iz)
        s0 = np.uint64(start + done)
        for t in range(np.uint64(m)):
            x = float(done + t)
            term = line[i0 + t] * profile[s0 + t]
            m0 += term
            m1 += x * term
            m2 += x * x * term
        done += m
        iz = 0
    return m0, m1, m2


# What a visit does to the rows that a Gaussian touches.
ADD, ADD_POLYNOMIAL, GATHER = 0, 1, 2


@njit(cache=True)
def _visit_rows(task, grid, rows, centre, c, weight, radius, profile, turns, form, moments):
    """Visit the grid points that a Gaussian touches, row by row.

    task ADD: add the Gaussian to the grid. ADD_POLYNOMIAL: add it times
    ``form[0] + dᵀ F d``, d from its centre, F = form[1:] as xx xy xz yy yz zz. GATHER: set moments
    (7,) to the sums of grid · Gaussian times 1 and d dᵀ.

    rows (3,): number of rows of the whole periodic grid, and which of them are to be visited;
    grid holds those from rows[1] on where the task is to add, all of them where it is to gather.
    The samples come row by row from c = L Lᵀ: with u = L⁻¹ d the exponent is u·u, so that the
    middle and the half width of each row follow without searching. A row is ``value`` times a
    profile around the node z_ref; from row to row both change by geometric series, so that the
    innermost loops only multiply and add. Each plane of constant x is filled out to a parallelogram
    around its ellipse, which costs a quarter more samples and saves finding the ends of each row.
    profile, turns: work space, 2 half + 1 numbers each.
    """
    n_x, row_0, row_1 = rows[0], rows[1], rows[2]
    n_y = grid.shape[1]
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
    if task == GATHER:
        moments[:] = 0.0
    for ix in range(math.ceil(centre[0] - x_half), math.floor(centre[0] + x_half) + 1):
        row = ix % n_x
        if row < row_0 or row >= row_1:
            continue
        dx = ix - centre[0]
        u1 = dx / l11
        left = r2 - u1 * u1
        if left <= 0.0:
            continue
        reach = math.sqrt(left)
        y_mid = centre[1] + l21 * u1
        z_row = centre[2] + l31 * u1
        y_first = math.ceil(y_mid - l22 * reach)
        y_last = math.floor(y_mid + l22 * reach)
        z_half = l33 * reach
        # Of the profile only this much can be asked for on this plane.
        live = min(int(z_half) + _REACH + 2, half)
        live_first, n_live = np.uint64(half - live), np.uint64(2 * live + 1)
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
                _fill_profile(profile, half if is_upright else live, curvature, offset)
                u2 = (iy - y_mid) * inv_22
                value = peak * math.exp(-0.5 * (u1 * u1 + u2 * u2 + offset * offset * curvature))
                growth = math.exp(
                    -(u2 + 0.5 * inv_22) * inv_22 + tilt * (offset - 0.5 * tilt) * curvature
                )
            first = math.ceil(z_mid - z_half)
            n = math.floor(z_mid + z_half) - first + 1
            start = half + first - z_ref
            if task == ADD:
                _add_row(grid[row - row_0, y], first, profile, start, n, value)
            else:
                dy = iy - centre[1]
                dz = first - centre[2]
                if task == ADD_POLYNOMIAL:
                    flat = form[0] + form[1] * dx * dx + 2.0 * form[2] * dx * dy
                    flat += form[4] * dy * dy
                    slope = 2.0 * (form[3] * dx + form[5] * dy)
                    c0 = value * (flat + dz * (slope + dz * form[6]))
                    c1 = value * (slope + 2.0 * dz * form[6])
                    c2 = value * form[6]
                    _add_polynomial_row(grid[row - row_0, y], first, profile, start, n, c0, c1, c2)
                else:
                    m0, m1, m2 = _row_moments(grid[row, y], first, profile, start, n)
                    m2 = value * (m2 + dz * (2.0 * m1 + dz * m0))
                    m1 = value * (m1 + dz * m0)
                    m0 = value * m0
                    moments[0] += m0
                    moments[1] += dx * dx * m0
                    moments[2] += dx * dy * m0
                    moments[3] += dx * m1
                    moments[4] += dy * dy * m0
                    moments[5] += dy * m1
                    moments[6] += m2
            u2 += inv_22
            y = y + 1 if y + 1 < n_y else 0
            value *= growth
            growth *= y_falling
            if is_tilted:
                offset -= tilt
                for k in range(n_live):
                    profile[live_first + k] *= turns[live_first + k]


@njit(cache=True)
def _longest_profile(covariances, radius):
    return 2 * (int(radius * math.sqrt(np.max(covariances[:, 5]))) + _REACH + 2) + 1


@njit(cache=True, parallel=True)
def splat(grid, n_x, centres, covariances, weights, radius, edges, starts, members):
    """Add Gaussians (centres, covariances in grid steps, total weights) to a periodic grid.

    grid holds the rows from edges[0] on of a grid of n_x rows.
    """
    longest = _longest_profile(covariances, radius)
    first = edges[0]
    for s in prange(len(edges) - 1):
        profile, turns = np.empty(longest), np.empty(longest)
        nothing = np.empty(7)
        rows = np.array([n_x, edges[s], edges[s + 1]])
        for m in range(starts[s], starts[s + 1]):
            g = members[m]
            _visit_rows(
                ADD, grid[edges[s] - first : edges[s + 1] - first], rows, centres[g],
                covariances[g], weights[g], radius, profile, turns, nothing, nothing,
            )  # fmt: skip


@njit(cache=True, parallel=True)
def splat_polynomials(grid, n_x, centres, covariances, forms, radius, edges, starts, members):
    """Add Gaussians of weight 1 times ``forms[g, 0] + dᵀ F_g d`` to a periodic grid."""
    longest = _longest_profile(covariances, radius)
    first = edges[0]
    for s in prange(len(edges) - 1):
        profile, turns = np.empty(longest), np.empty(longest)
        nothing = np.empty(7)
        rows = np.array([n_x, edges[s], edges[s + 1]])
        for m in range(starts[s], starts[s + 1]):
            g = members[m]
            _visit_rows(
                ADD_POLYNOMIAL, grid[edges[s] - first : edges[s + 1] - first], rows, centres[g],
                covariances[g], 1.0, radius, profile, turns, forms[g], nothing,
            )  # fmt: skip


@njit(cache=True, parallel=True)
def gather_moments(grid, centres, covariances, radius):
    """Sums of a periodic grid times each Gaussian of weight 1, times 1 and d dᵀ; (n, 7)."""
    longest = _longest_profile(covariances, radius)
    n = len(centres)
    out = np.empty((n, 7))
    n_chunks = (n + 255) // 256
    for chunk in prange(n_chunks):
        profile, turns = np.empty(longest), np.empty(longest)
        nothing = np.empty(7)
        rows = np.array([grid.shape[0], 0, grid.shape[0]])
        for g in range(256 * chunk, min(n, 256 * (chunk + 1))):
            _visit_rows(
                GATHER, grid, rows, centres[g], covariances[g], 1.0, radius, profile, turns,
                nothing, out[g],
            )  # fmt: skip
    return out


@njit(cache=True)
def _cholesky(c):
    """L of a packed covariance, row by row: 11, 21, 22, 31, 32, 33."""
    l11 = math.sqrt(c[0])
    l21 = c[1] / l11
    l31 = c[2] / l11
    l22 = math.sqrt(c[3] - l21 * l21)
    l32 = (c[4] - l31 * l21) / l22
    l33 = math.sqrt(c[5] - l31 * l31 - l32 * l32)
    return l11, l21, l22, l31, l32, l33


@njit(cache=True)
def _inverse_factor(c, out):
    """L⁻¹ (3, 3) of a packed covariance."""
    l11, l21, l22, l31, l32, l33 = _cholesky(c)
    out[:] = 0.0
    out[0, 0] = 1.0 / l11
    out[1, 1] = 1.0 / l22
    out[2, 2] = 1.0 / l33
    out[1, 0] = -l21 / (l11 * l22)
    out[2, 1] = -l32 / (l22 * l33)
    out[2, 0] = (l21 * l32 / l22 - l31) / (l11 * l33)


@njit(cache=True)
def derivative_forms(covariances, changes, weights, kept):
    """Polynomials (n, 7) that turn Gaussians into their change with their covariance.

    A change dC of the covariance of ``w G`` gives ``w G · ½ [uᵀ A u − Σ_k κ_k A_kk]`` with
    u = L⁻¹ d, A = L⁻¹ dC L⁻ᵀ; κ = kept (3,), the second moments of u within the cut-off, so that
    the total weight does not change.
    """
    n = len(covariances)
    forms = np.empty((n, 7))
    inverse, change, a = np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3))
    for g in range(n):
        _inverse_factor(covariances[g], inverse)
        p = changes[g]
        change[0, 0], change[0, 1], change[0, 2] = p[0], p[1], p[2]
        change[1, 0], change[1, 1], change[1, 2] = p[1], p[3], p[4]
        change[2, 0], change[2, 1], change[2, 2] = p[2], p[4], p[5]
        a[:] = inverse @ change @ inverse.T
        constant = 0.0
        for k in range(3):
            constant += kept[k] * a[k, k]
        form = inverse.T @ a @ inverse
        w = 0.5 * weights[g]
        forms[g, 0] = -w * constant
        forms[g, 1], forms[g, 2], forms[g, 3] = w * form[0, 0], w * form[0, 1], w * form[0, 2]
        forms[g, 4], forms[g, 5], forms[g, 6] = w * form[1, 1], w * form[1, 2], w * form[2, 2]
    return forms


@njit(cache=True)
def covariance_gradients(moments, covariances, weights, kept):
    """Gradients (n, 3, 3) by the covariances, from gathered moments: transpose of the above."""
    n = len(covariances)
    out = np.empty((n, 3, 3))
    inverse, second, u = np.empty((3, 3)), np.empty((3, 3)), np.empty((3, 3))
    for g in range(n):
        _inverse_factor(covariances[g], inverse)
        m = moments[g]
        second[0, 0], second[0, 1], second[0, 2] = m[1], m[2], m[3]
        second[1, 0], second[1, 1], second[1, 2] = m[2], m[4], m[5]
        second[2, 0], second[2, 1], second[2, 2] = m[3], m[5], m[6]
        u[:] = inverse @ second @ inverse.T
        for k in range(3):
            u[k, k] -= kept[k] * m[0]
        out[g] = 0.5 * weights[g] * (inverse.T @ u @ inverse)
    return out


@njit(cache=True)
def _cubic(x, last):
    """First of four points of a table around x (in steps) and their weights; −1 beyond it."""
    cell = int(x)
    if cell > last:
        return -1, 0.0, 0.0, 0.0, 0.0
    cell = min(max(cell, 1), last - 1)
    t = x - cell
    w_0 = -t * (t - 1.0) * (t - 2.0) / 6.0
    w_1 = (t + 1.0) * (t - 1.0) * (t - 2.0) / 2.0
    w_2 = -(t + 1.0) * t * (t - 2.0) / 2.0
    w_3 = (t + 1.0) * t * (t - 1.0) / 6.0
    return cell - 1, w_0, w_1, w_2, w_3


@njit(cache=True)
def _look_up(table, x):
    """Value of a table at x (in steps); 0 beyond it."""
    c, w_0, w_1, w_2, w_3 = _cubic(x, len(table) - 2)
    if c < 0:
        return 0.0
    return w_0 * table[c] + w_1 * table[c + 1] + w_2 * table[c + 2] + w_3 * table[c + 3]


@njit(cache=True, parallel=True)
def add_scaled(out, values, q_squared, table, step):
    """Add values times a factor of q², given as a table of points step apart, to out; flat."""
    for n in prange(len(out)):
        out[n] += values[n] * _look_up(table, q_squared[n] / step)


@njit(cache=True, parallel=True)
def scale_by(values, q_squared, table, step):
    """Multiply values by a factor of q² in place; 0 beyond the table; flat."""
    for n in prange(len(values)):
        values[n] *= _look_up(table, q_squared[n] / step)


@njit(cache=True)
def add_to_table(table, values, q_squared, step):
    """Spread values over the table's points: the transpose of `add_scaled`; flat."""
    last = len(table) - 2
    for n in range(len(values)):
        c, w_0, w_1, w_2, w_3 = _cubic(q_squared[n] / step, last)
        if c >= 0:
            table[c] += w_0 * values[n]
            table[c + 1] += w_1 * values[n]
            table[c + 2] += w_2 * values[n]
            table[c + 3] += w_3 * values[n]


@njit(cache=True, parallel=True)
def add_even_part(out, modes, q_squared, first, second, step):
    """Add c₁(q²) Re E + c₂(q²) Im E to a half lattice, E the even part of centred modes.

    first, second: tables of c₁ and c₂ over q², points step apart.
    """
    n_x, n_y, n_z = out.shape
    top = modes.shape[2] // 2
    for i in prange(n_x):
        for j in range(n_y):
            for k in range(n_z):
                x = q_squared[i, j, k] / step
                here = modes[i, j, top + k]
                there = modes[n_x - 1 - i, n_y - 1 - j, top - k]
                c_1, c_2 = _look_up(first, x), _look_up(second, x)
                real = 0.5 * (float(here.real) + float(there.real))
                imag = 0.5 * (float(here.imag) + float(there.imag))
                out[i, j, k] += c_1 * real + c_2 * imag


@njit(cache=True, parallel=True)
def spread_even_part(modes, values, q_squared, first, second, step):
    """Transpose of `add_even_part`: (c₁ + i c₂) values, half at a node and half at its mate."""
    n_x, n_y, n_z = values.shape
    top = modes.shape[2] // 2
    for i in prange(n_x):
        for j in range(n_y):
            for k in range(n_z):
                x = q_squared[i, j, k] / step
                c_1, c_2 = _look_up(first, x), _look_up(second, x)
                half = 0.5 * values[i, j, k]
                if k > 0:
                    modes[i, j, top + k] += half * (c_1 + 1j * c_2)
                    modes[n_x - 1 - i, n_y - 1 - j, top - k] += half * (c_1 + 1j * c_2)
                else:
                    # The mate lies in the same plane: its own half comes in its turn.
                    mate = 0.5 * values[n_x - 1 - i, n_y - 1 - j, 0]
                    modes[i, j, top] += (half + mate) * (c_1 + 1j * c_2)


@njit(cache=True, parallel=True)
def add_spectrum(even, odd, along_x, q_squared, even_table, odd_table, step):
    """Add a transform, times factors of q², to a half lattice.

    along_x: what FFTs with e^{−iq·r} leave, frequencies along x in the order of the FFT; G is its
    conjugate. even += even_table · Re G and, unless odd is empty, odd += odd_table · Im G.
    """
    n_x, n_y, n_z = even.shape
    n_rows = along_x.shape[0]
    m_x = n_x // 2
    is_odd_wanted = odd.size > 0
    last = len(even_table) - 2
    for i in prange(n_x):
        row = i - m_x if i >= m_x else n_rows + i - m_x
        for j in range(n_y):
            for k in range(n_z):
                c, w_0, w_1, w_2, w_3 = _cubic(q_squared[i, j, k] / step, last)
                if c < 0:
                    continue
                value = along_x[row, j, k]
                t = even_table
                even[i, j, k] += value.real * (
                    w_0 * t[c] + w_1 * t[c + 1] + w_2 * t[c + 2] + w_3 * t[c + 3]
                )
                if is_odd_wanted:
                    t = odd_table
                    odd[i, j, k] -= value.imag * (
                        w_0 * t[c] + w_1 * t[c + 1] + w_2 * t[c + 2] + w_3 * t[c + 3]
                    )


@njit(cache=True, parallel=True)
def add_uncorrelated(even, odd, amplitudes, q_squared, even_tables, odd_tables, constants, pairs,
                     step):  # fmt: skip
    """Add ``Σ_c t_c(q²) [constant_c − m_c S_a S_b*]`` over pair classes c = (a, b); flat.

    amplitudes (n_elements, n) or of length 0: S; m_c = 1 where a = b, else 2. even takes the
    even tables with the real part, odd, unless empty, the odd tables with the imaginary part.
    """
    last = even_tables.shape[1] - 2
    for n in prange(len(even)):
        first, w_0, w_1, w_2, w_3 = _cubic(q_squared[n] / step, last)
        if first < 0:
            continue
        for c in range(len(pairs)):
            real, imag = constants[c], 0.0
            if len(amplitudes):
                a, b = pairs[c, 0], pairs[c, 1]
                product = amplitudes[a, n] * np.conj(amplitudes[b, n])
                if a == b:
                    real -= product.real
                else:
                    real -= 2.0 * product.real
                    imag -= 2.0 * product.imag
            t = even_tables[c]
            even[n] += real * (
                w_0 * t[first] + w_1 * t[first + 1] + w_2 * t[first + 2] + w_3 * t[first + 3]
            )
            if len(odd):
                t = odd_tables[c]
                odd[n] += imag * (
                    w_0 * t[first] + w_1 * t[first + 1] + w_2 * t[first + 2] + w_3 * t[first + 3]
                )


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
def gather_orbit(half, odd, extent, first, rotations, out):
    """Sum a half-lattice's values over images m R of each node m of a full grid.

    half: even part of the values on a `HalfLattice`; odd: odd part, or of size 0 for none;
    first (3,): the index m of out[0, 0, 0]; rotations (n, 3, 3): on indices, as row vectors.
    Images outside the lattice count as 0.
    """
    n_x, n_y, n_z = out.shape
    has_odd = odd.size > 0
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
                    sign = 1.0
                    if z < 0:
                        x, y, z, sign = -x, -y, -z, -1.0
                    if abs(x) <= extent[0] and abs(y) <= extent[1] and z <= extent[2]:
                        total += half[x + extent[0], y + extent[1], z]
                        if has_odd:
                            total += sign * odd[x + extent[0], y + extent[1], z]
                out[i, j, k] = total


@njit(cache=True, parallel=True)
def scatter_orbit(grid, extent, first, inverses, out):
    """Transpose of `gather_orbit`, even part: each node sums the voxels that take its value.

    inverses (n, 3, 3): of the rotations, on indices. out: values on a half lattice.
    """
    n_x, n_y, n_z = out.shape
    for i in prange(n_x):
        for j in range(n_y):
            for k in range(n_z):
                total = 0.0
                for g in range(len(inverses)):
                    r = inverses[g]
                    a, b = i - extent[0], j - extent[1]
                    x = a * r[0, 0] + b * r[1, 0] + k * r[2, 0]
                    y = a * r[0, 1] + b * r[1, 1] + k * r[2, 1]
                    z = a * r[0, 2] + b * r[1, 2] + k * r[2, 2]
                    # A voxel whose image is the node's mate takes its value too, but for l = 0,
                    # where the mate is a node of its own.
                    for sign in (1, -1) if k > 0 else (1, 0):
                        if sign == 0:
                            continue
                        u, v, w = sign * x - first[0], sign * y - first[1], sign * z - first[2]
                        if (
                            0 <= u < grid.shape[0]
                            and 0 <= v < grid.shape[1]
                            and 0 <= w < grid.shape[2]
                        ):
                            total += grid[u, v, w]
                out[i, j, k] = total
