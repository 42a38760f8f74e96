"""Compiled loops of the methods at scattered q: phases, tiles of exponentials, sums over pairs.

The innermost loops run over contiguous arrays without branches or calls, so that the compiler turns
them into vector instructions; that is why the exponential and the sine are spelt out. Strict
floating point, and parallel loops over parts of the output (or over a fixed number of parts, added
up in order): no result depends on the number of threads.
"""

# Numba infers the types of compiled loops.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from __future__ import annotations

import numpy as np
from numba import njit, prange

# Adding and taking away 3·2⁵¹ rounds to an integer, which is left in the low bits.
_ROUNDER = 6755399441055744.0
# ln 2 and π/2 as sums of short numbers, whose products with small integers are exact.
_LN2_HIGH, _LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10
_HALF_PI = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487111665e-21)

# Columns of form factors that are turned at once.
_BLOCK = 32

#: Parts into which sums over pairs are cut, whatever the number of threads.
N_PARTS = 16


@njit(cache=True, inline="always")
def _expm1(y):
    """exp(y) − 1 to a few units in the last place; y beyond ±700 counts as ±700."""
    y = min(max(y, -700.0), 700.0)
    t = y * 1.4426950408889634 + _ROUNDER
    k = t - _ROUNDER
    r = (y - k * _LN2_HIGH) - k * _LN2_LOW
    r2 = r * r
    r4 = r2 * r2
    low = (0.5 + r * (1 / 6)) + (1 / 24 + r * (1 / 120)) * r2
    middle = (1 / 720 + r * (1 / 5040)) + (1 / 40320 + r * (1 / 362880)) * r2
    high = (1 / 3628800 + r * (1 / 39916800)) + (1 / 479001600) * r2
    less_one = r + r2 * (low + (middle + high * r4) * r4)
    bits = np.float64(t).view(np.int64)
    power = np.int64((bits << np.int64(52)) + np.int64(0x3FF0000000000000)).view(np.float64)
    return power * less_one + (power - 1.0)


@njit(cache=True, inline="always")
def _cos_sin(phase):
    """Cosine and sine, to rounding for phases up to a million."""
    t = phase * 0.6366197723675814 + _ROUNDER
    k = t - _ROUNDER
    r = ((phase - k * _HALF_PI[0]) - k * _HALF_PI[1]) - k * _HALF_PI[2]
    z = r * r
    z2 = z * z
    low = (-1 / 6 + z * (1 / 120)) + (-1 / 5040 + z * (1 / 362880)) * z2
    high = (-1 / 39916800 + z * (1 / 6227020800)) - (1 / 1307674368000) * z2
    sine = r + r * z * (low + high * (z2 * z2))
    low = (1 / 24 - z * (1 / 720)) + (1 / 40320 - z * (1 / 3628800)) * z2
    high = (1 / 479001600 - z * (1 / 87178291200)) + (1 / 20922789888000) * z2
    cosine = (1.0 - 0.5 * z) + z2 * (low + high * (z2 * z2))
    bits = np.float64(t).view(np.int64)
    is_odd = (bits & np.int64(1)) != 0
    c = sine if is_odd else cosine
    s = cosine if is_odd else sine
    c = -c if ((bits + np.int64(1)) & np.int64(2)) != 0 else c
    s = -s if (bits & np.int64(2)) != 0 else s
    return c, s


@njit(cache=True, inline="always")
def _dot(left, right):
    """Scalar product, in eight partial sums."""
    n = len(left)
    a, b, c, d, e, f, g, h, j = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0
    while j + 8 <= n:
        a += left[j] * right[j]
        b += left[j + 1] * right[j + 1]
        c += left[j + 2] * right[j + 2]
        d += left[j + 3] * right[j + 3]
        e += left[j + 4] * right[j + 4]
        f += left[j + 5] * right[j + 5]
        g += left[j + 6] * right[j + 6]
        h += left[j + 7] * right[j + 7]
        j += 8
    while j < n:
        a += left[j] * right[j]
        j += 1
    return ((a + e) + (b + f)) + ((c + g) + (d + h))


@njit(cache=True, inline="always")
def _amplitude(phase, exponent, re, im):
    """(re + i im) exp(i phase + exponent), real and imaginary part."""
    c, s = _cos_sin(phase)
    size = 1.0 + _expm1(exponent)
    re, im = size * re, size * im
    return re * c - im * s, re * s + im * c


@njit(cache=True, parallel=True)
def phased(q, positions, form_factors, rows, shift, rates, out):
    """Amplitudes f exp(i q·r_i − shift_q rate_i): real parts, then as many rows imaginary parts.

    q (n_q, 3), positions (3, n), form_factors (n_q, n) real or complex; rows (m,) says which q,
    shift (m,), rates (n,) → out (2m, n).
    """
    m, n = len(rows), len(rates)
    for iq in prange(m):
        x, y, z = q[rows[iq], 0], q[rows[iq], 1], q[rows[iq], 2]
        step, f = shift[iq], form_factors[rows[iq]]
        real, imaginary = out[iq], out[m + iq]
        for i in range(n):
            phase = x * positions[0, i] + y * positions[1, i] + z * positions[2, i]
            real[i], imaginary[i] = _amplitude(phase, -step * rates[i], f[i].real, f[i].imag)


@njit(cache=True, nogil=True)
def phased_columns(q, positions, form_factors, rows, shift, rates, out):
    """As `phased`, an atom a row: out (n, 2m), real parts in the first m columns."""
    m, n = len(rows), len(rates)
    x, y, z = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    re, im = np.empty((_BLOCK, _BLOCK)), np.empty((_BLOCK, _BLOCK))
    for first in range(0, m, _BLOCK):
        n_q = min(_BLOCK, m - first)
        for iq in range(n_q):
            row = rows[first + iq]
            x[iq], y[iq], z[iq] = q[row, 0], q[row, 1], q[row, 2]
        for first_atom in range(0, n, _BLOCK):
            n_atoms = min(_BLOCK, n - first_atom)
            # Form factors lie the other way round: turned block by block.
            for iq in range(n_q):
                f = form_factors[rows[first + iq]]
                for i in range(n_atoms):
                    re[i, iq], im[i, iq] = f[first_atom + i].real, f[first_atom + i].imag
            for i in range(n_atoms):
                atom = first_atom + i
                a, b, c = positions[0, atom], positions[1, atom], positions[2, atom]
                rate = rates[atom]
                real = out[atom, first : first + n_q]
                imaginary = out[atom, m + first : m + first + n_q]
                steps, own_re, own_im = shift[first : first + n_q], re[i], im[i]
                for iq in range(n_q):
                    phase = x[iq] * a + y[iq] * b + z[iq] * c
                    exponent = -steps[iq] * rate
                    real[iq], imaginary[iq] = _amplitude(phase, exponent, own_re[iq], own_im[iq])


@njit(cache=True, inline="always")
def _kernel(x, v, damping, product):
    """E = exp(−½x d_ij) and G = E − w_i w_j, from v_ij, ½x(v_ii + v_jj) and w_i w_j.

    One exponential for both; relative precision for small x v, and no overflow for large.
    """
    y = x * v
    is_small = y < 1.0
    less_one = _expm1(y if is_small else y - damping)
    both = less_one + 1.0
    g = product * less_one if is_small else both - product
    e = product * both if is_small else both
    return e, g


@njit(cache=True, parallel=True)
def pair_moments(v, sizes, x, n_orders):
    """Sums over j of what bounds the error of interpolation: (n, n_x, 3, n_orders + 1).

    With c_i = v_ii/4 and |s| the furthest that an exponent of the pair is from c_i + c_j: sums of
    size_i size_j |s|^power, power 0…n_orders, times |G| (0), times E (1), and j = i alone (2).
    """
    n, n_x = len(v), len(x)
    sums = np.zeros((n, n_x, 3, n_orders + 1))
    for i in prange(n):
        e, g, s = np.empty(i + 1), np.empty(i + 1), np.empty(i + 1)
        for ix in range(n_x):
            for j in range(i + 1):
                mean = 0.5 * (v[i, i] + v[j, j])
                s[j] = max(abs(0.5 * mean - v[i, j]), 0.5 * mean)
                product = 1.0 + _expm1(-x[ix] * mean)
                whole, bounded = _kernel(x[ix], v[i, j], x[ix] * mean, product)
                # A pair i > j counts for both of its orders.
                size = sizes[i] * sizes[j] * (2.0 if j < i else 1.0)
                e[j] = size * whole
                g[j] = size * abs(bounded)
            for power in range(n_orders + 1):
                total_g, total_e = 0.0, 0.0
                for j in range(i + 1):
                    total_g += g[j]
                    total_e += e[j]
                sums[i, ix, 0, power] = total_g
                sums[i, ix, 1, power] = total_e
                sums[i, ix, 2, power] = g[i]
                for j in range(i + 1):
                    g[j] *= s[j]
                    e[j] *= s[j]
    return sums


@njit(cache=True)
def cheapest_panels(reach, node_cost, row_cost):
    """Cut n rows into panels of least cost: where each starts, and n; and the order of each.

    reach (n_orders, n): end of the longest panel from each start, at orders 1, 2, …; a panel of m
    rows and order p costs p (node_cost + m row_cost).
    """
    n_orders, n = reach.shape
    best = np.zeros(n + 1)
    order = np.zeros(n, np.int64)
    for i in range(n - 1, -1, -1):
        best[i] = np.inf
        for p in range(1, n_orders + 1):
            stop = reach[p - 1, i]
            cost = p * (node_cost + (stop - i) * row_cost) + best[stop]
            if cost < best[i]:
                best[i] = cost
                order[i] = p
    starts, orders = np.zeros(n + 1, np.int64), np.zeros(n, np.int64)
    n_panels = 0
    while starts[n_panels] < n:
        i = starts[n_panels]
        orders[n_panels] = order[i]
        n_panels += 1
        starts[n_panels] = reach[order[i] - 1, i]
    return starts[: n_panels + 1].copy(), orders[:n_panels].copy()


@njit(cache=True, nogil=True)
def kernel_tile(v, nodes, half, damping, scale, first, last, out):
    """Columns first…last−1, from row ``first`` on, of the scaled G of some nodes x_k.

    half, damping, scale (n_nodes, n): ½x_k v_ii, its exponential exp(−½x_k v_ii), and the factor of
    each row and column. out (n_nodes · width, n − first): a column of G a row, node after node. The
    square on the diagonal is halved.
    """
    width = last - first
    for k in range(len(nodes)):
        x = nodes[k]
        halves, ws, scales = half[k, first:], damping[k, first:], scale[k, first:]
        for j in range(width):
            h, w, s = halves[j], ws[j], scales[j]
            # V is symmetric: its rows are its columns.
            column, row = v[first + j, first:], out[k * width + j]
            for i in range(len(row)):
                _, g = _kernel(x, column[i], h + halves[i], w * ws[i])
                row[i] = g * (s * scales[i])
            for i in range(width):
                row[i] *= 0.5


@njit(cache=True, nogil=True)
def tangent_tile(v, direction, nodes, half, damping, scale, first, last, out):
    """As `kernel_tile`, of the derivative of G along a direction (n, n) of V."""
    width = last - first
    own = np.diag(direction)[first:].copy()
    for k in range(len(nodes)):
        x = nodes[k]
        halves, ws, scales = half[k, first:], damping[k, first:], scale[k, first:]
        for j in range(width):
            h, w, s = halves[j], ws[j], scales[j]
            column, moved = v[first + j, first:], direction[first + j, first:]
            row = out[k * width + j]
            for i in range(len(row)):
                e, g = _kernel(x, column[i], h + halves[i], w * ws[i])
                slope = x * (e * moved[i] - 0.5 * g * (own[i] + own[j]))
                row[i] = slope * (s * scales[i])
            for i in range(width):
                row[i] *= 0.5


@njit(cache=True, nogil=True)
def gradient_tile(v, nodes, half, damping, scale, first, last, weights, gradient):
    """Turn weights of a tile's elements of G, shaped as `kernel_tile`'s out, into two sums.

    gradient (width, n − first) gets what they give through E, and weights is overwritten by what
    they give through G.
    """
    width = last - first
    gradient[:] = 0.0
    for k in range(len(nodes)):
        x = nodes[k]
        halves, ws, scales = half[k, first:], damping[k, first:], scale[k, first:]
        for j in range(width):
            h, w, s = halves[j], ws[j], scales[j]
            column, row, total = v[first + j, first:], weights[k * width + j], gradient[j]
            for i in range(len(row)):
                e, g = _kernel(x, column[i], h + halves[i], w * ws[i])
                b = x * row[i] * (s * scales[i])
                total[i] += b * e
                row[i] = b * g


@njit(cache=True, nogil=True)
def curvature_tile(v, direction, nodes, half, damping, scale, first, last, weights, product):
    """As `gradient_tile`, of the derivative of that gradient along a direction (n, n) of V."""
    width = last - first
    own = np.diag(direction)[first:].copy()
    product[:] = 0.0
    for k in range(len(nodes)):
        x = nodes[k]
        halves, ws, scales = half[k, first:], damping[k, first:], scale[k, first:]
        for j in range(width):
            h, w, s = halves[j], ws[j], scales[j]
            column, moved = v[first + j, first:], direction[first + j, first:]
            row, total = weights[k * width + j], product[j]
            for i in range(len(row)):
                e, g = _kernel(x, column[i], h + halves[i], w * ws[i])
                b = x * row[i] * (s * scales[i])
                mean = 0.5 * (own[i] + own[j])
                total[i] += b * e * x * (moved[i] - mean)
                row[i] = b * x * (e * moved[i] - g * mean)


@njit(cache=True, nogil=True)
def add_forms(products, amplitudes, weights, out):
    """Fill out (m,) with 2 Σ_k weights_kq Σ_j (row j of tile k's products · row j of amplitudes).

    products (n_nodes · width, 2m), amplitudes (at least width, 2m), weights (n_nodes, m).
    """
    n_nodes, m = weights.shape
    width = len(products) // n_nodes
    out[:] = 0.0
    total = np.empty(m)
    for k in range(n_nodes):
        total[:] = 0.0
        for j in range(width):
            left, right = products[k * width + j], amplitudes[j]
            for iq in range(m):
                total[iq] += left[iq] * right[iq] + left[m + iq] * right[m + iq]
        for iq in range(m):
            out[iq] += 2.0 * weights[k, iq] * total[iq]


@njit(cache=True, nogil=True)
def weigh(amplitudes, weights, out):
    """Fill out (n_nodes · width, 2m) with rows of amplitudes times weights (n_nodes, m)."""
    n_nodes, m = weights.shape
    width = len(out) // n_nodes
    for k in range(n_nodes):
        own = weights[k]
        for j in range(width):
            row, filled = amplitudes[j], out[k * width + j]
            for iq in range(m):
                filled[iq] = own[iq] * row[iq]
                filled[m + iq] = own[iq] * row[m + iq]


@njit(cache=True, parallel=True)
def pair_rows(packed, qq, re, im, half, damping, weights, pairs, sums):
    """Sums over pairs at a block of q: what a covariance's derivatives are made of.

    packed (n, n, n_c): V_ij by components, qq (n_c, m): what they are multiplied with in qᵀV_ij q;
    re, im (n, m): amplitudes undamped; half, damping (n, m): ½qᵀV_ii q and its exp(−…).
    Part p of sums (N_PARTS, n, m) gets Σ_j Re(e_i* e_j) G_ij, where max(i, j) mod N_PARTS = p. To
    pairs (n, n, n_c), i ≥ j, is added Σ_q weights_q Re(e_i* e_j) E_ij qq; (0, 0, 0) for none.
    """
    n, n_c = packed.shape[0], packed.shape[2]
    m = qq.shape[1]
    for part in prange(N_PARTS):
        x, t = np.empty(m), np.empty(m)
        own = sums[part]
        own[:] = 0.0
        for i in range(part, n, N_PARTS):
            for j in range(i + 1):
                x[:] = 0.0
                for c in range(n_c):
                    v, factors = packed[i, j, c], qq[c]
                    for iq in range(m):
                        x[iq] += v * factors[iq]
                re_j, im_j, half_j, w_j, own_j = re[j], im[j], half[j], damping[j], own[j]
                re_i, im_i, half_i, w_i, own_i = re[i], im[i], half[i], damping[i], own[i]
                for iq in range(m):
                    e, g = _kernel(1.0, x[iq], half_i[iq] + half_j[iq], w_i[iq] * w_j[iq])
                    a = re_i[iq] * re_j[iq] + im_i[iq] * im_j[iq]
                    t[iq] = weights[iq] * a * e
                    x[iq] = a * g
                for iq in range(m):
                    own_i[iq] += x[iq]
                if j < i:
                    for iq in range(m):
                        own_j[iq] += x[iq]
                if len(pairs):
                    for c in range(n_c):
                        pairs[i, j, c] += _dot(t, qq[c])


@njit(cache=True, parallel=True)
def moved_rows(packed, moved, qq, re, im, half, damping, turned, weights, pairs, sums):
    """As `pair_rows`, of the derivatives of G and E along a direction of V.

    moved (n, n, n_c): the direction by components; turned (n, m): ½qᵀ(direction_ii)q.
    """
    n, n_c = packed.shape[0], packed.shape[2]
    m = qq.shape[1]
    for part in prange(N_PARTS):
        x, y, t = np.empty(m), np.empty(m), np.empty(m)
        own = sums[part]
        own[:] = 0.0
        for i in range(part, n, N_PARTS):
            for j in range(i + 1):
                x[:] = 0.0
                y[:] = 0.0
                for c in range(n_c):
                    v, d, factors = packed[i, j, c], moved[i, j, c], qq[c]
                    for iq in range(m):
                        x[iq] += v * factors[iq]
                        y[iq] += d * factors[iq]
                re_j, im_j, half_j, w_j, own_j = re[j], im[j], half[j], damping[j], own[j]
                re_i, im_i, half_i, w_i, own_i = re[i], im[i], half[i], damping[i], own[i]
                turned_i, turned_j = turned[i], turned[j]
                for iq in range(m):
                    e, g = _kernel(1.0, x[iq], half_i[iq] + half_j[iq], w_i[iq] * w_j[iq])
                    a = re_i[iq] * re_j[iq] + im_i[iq] * im_j[iq]
                    mean = turned_i[iq] + turned_j[iq]
                    t[iq] = weights[iq] * a * e * (y[iq] - mean)
                    x[iq] = a * (e * y[iq] - g * mean)
                for iq in range(m):
                    own_i[iq] += x[iq]
                if j < i:
                    for iq in range(m):
                        own_j[iq] += x[iq]
                if len(pairs):
                    for c in range(n_c):
                        pairs[i, j, c] += _dot(t, qq[c])


@njit(cache=True, parallel=True)
def sampled_structure_factors(q, positions, re, im, out):
    """F(q) of several sets of positions: out (n_sets, 2, m), real and imaginary parts.

    q (3, m), positions (n_sets, n, 3), re, im (n, m): form factors.
    """
    n_sets, n_atoms, _ = positions.shape
    qx, qy, qz = q[0], q[1], q[2]
    for s in prange(n_sets):
        real, imaginary = out[s, 0], out[s, 1]
        real[:] = 0.0
        imaginary[:] = 0.0
        for i in range(n_atoms):
            x, y, z = positions[s, i, 0], positions[s, i, 1], positions[s, i, 2]
            re_i, im_i = re[i], im[i]
            for iq in range(len(qx)):
                cosine, sine = _cos_sin(x * qx[iq] + y * qy[iq] + z * qz[iq])
                real[iq] += re_i[iq] * cosine - im_i[iq] * sine
                imaginary[iq] += re_i[iq] * sine + im_i[iq] * cosine
