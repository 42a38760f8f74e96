"""Compiled: how near a pixel's path through reciprocal space comes to Bragg nodes.

Scope: numbers in, a yes or no out; called at every pixel.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# A product and a sum in one step where the processor can: a third fewer steps.
FUSED = {"contract"}


@njit(cache=True, nogil=True, fastmath=FUSED)
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
    is_near_end = own + 0.25 * length - along < radius * radius
    is_near_within = own * length - along * along < radius * radius * length
    # An end of the path is nearest where the foot is beyond it; also where there is no path.
    return is_near_end if along >= 0.5 * length else is_near_within


@njit(cache=True, nogil=True, fastmath=FUSED)
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


@njit(cache=True, nogil=True, fastmath=FUSED)
def has_node(h, k, l, modulus, nodes):  # noqa: E741
    """Tell whether the centring leaves the node (h, k, l), whole numbers as floats."""
    bit = (int(h) % modulus) * modulus + int(k) % modulus
    return (nodes >> (bit * modulus + int(l) % modulus)) & 1


@njit(cache=True, nogil=True, fastmath=FUSED)
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


@njit(cache=True, nogil=True, fastmath=FUSED)
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
